"""What must hold for every series.

Each check is a function that returns a list of problems, one sentence each.
"""

import ast
import email
import email.policy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from tools import export, files, layout, series, tree
from tools.base import BASE_RELEASE
from tools.errors import ToolError
from tools.series import Patch


#: Functions that compute a step. No patch may change them.
STEP_FUNCTIONS = ("_single_tensor_", "_multi_tensor_", "_fused_")

#: Compiled sources. No patch may touch them.
KERNELS = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".metal", ".mm")

SUBJECT_COLUMNS = 72

#: The oldest Python that the base runs on.
_PYTHON = (3, 10)


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        sources (Mapping[str, bytes]): the base's files, by POSIX path.
        patches (Sequence[Patch]): the series for that release, in order.
        release (str): the release.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
    """

    sources: Mapping[str, bytes]
    patches: Sequence[Patch]
    release: str = BASE_RELEASE
    patches_root: Path = layout.PATCHES
    overlay_root: Path = layout.OVERLAY


def applies(subject: Subject) -> list[str]:
    """The series applies to the base."""
    try:
        patched_files(subject)
    except ToolError as error:
        return [str(error)]
    return []


def is_fixed_point(subject: Subject) -> list[str]:
    """Materializing and exporting gives patches and overlay byte for byte."""
    try:
        exported = export.round_trip(
            subject.sources,
            subject.release,
            subject.patches_root,
            subject.overlay_root,
        )
        changes = export.changes(
            exported,
            patches_root=subject.patches_root,
            overlay_root=subject.overlay_root,
        )
    except ToolError as error:
        return [str(error)]
    return [
        f"{path} is not what 'python -m tools export' writes; materialize, export and "
        "look at the difference."
        for path in changes
    ]


def overlay_is_new(subject: Subject) -> list[str]:
    """The overlay holds no file that PyTorch has, and hides none."""
    # Compared without case: macOS and Windows do not tell x.py from X.py.
    known = {name.lower(): name for name in subject.sources}
    modules = {name.lower().removesuffix(".py") for name in subject.sources}
    packages = {
        str(parent).lower()
        for name in subject.sources
        for parent in PurePosixPath(name).parents
    }
    problems = []
    for path, file in series.overlay_files(subject.overlay_root).items():
        name = path.lower()
        if name in known:
            problems.append(f"{file} is PyTorch's file {known[name]}; write a patch.")
        elif name.removesuffix(".py") in packages:
            problems.append(f"{file} has the name of a package of PyTorch.")
        for parent in PurePosixPath(name).parents:
            if str(parent) in modules:
                problems.append(f"{file} hides PyTorch's module {parent}.py.")
    return problems


def nothing_else_is_there(subject: Subject) -> list[str]:
    """Patches and overlay are all that lies in their folders."""
    return [
        f"{file} is neither a patch nor a Python file below torch/; no wheel carries "
        "it. Remove it."
        for file in series.strays(subject.patches_root, subject.overlay_root)
    ]


def touches_python_only(subject: Subject) -> list[str]:
    """No patch touches kernels, or anything but Python, docs and tests."""
    problems = []
    for patch in subject.patches:
        for path in series.touched_files([patch]):
            if path.endswith(KERNELS):
                problems.append(f"{patch.name} touches the compiled source {path}.")
            elif not path.endswith((".py", ".pyi", ".pyi.in", ".rst", ".md")) and (
                not path.startswith(("docs/", "test/"))
            ):
                problems.append(
                    f"{patch.name} touches {path}, which is neither Python nor "
                    "documentation nor a test."
                )
    return problems


def steps_are_unchanged(subject: Subject) -> list[str]:
    """No patch changes, adds or removes a function that computes a step."""
    problems = []
    for path, (before, after) in _python_changes(subject).items():
        try:
            old, new = _step_functions(before), _step_functions(after)
        except SyntaxError:
            continue  # compiles() reports it
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                problems.append(f"The series removes {name} from {path}.")
            elif name not in old:
                problems.append(f"The series adds {name} to {path}.")
            elif old[name] != new[name]:
                problems.append(f"The series changes {name} in {path}.")
    return problems


def _step_functions(source: bytes) -> dict[str, list[str]]:
    """Qualified name to the lines of every definition under that name."""
    lines = source.decode("utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for name, first, last in _definitions(ast.parse(source), ""):
        found.setdefault(name, []).append("\n".join(lines[first - 1 : last]))
    return found


def _definitions(node: ast.AST, scope: str) -> Iterator[tuple[str, int, int]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{scope}{child.name}."
            if child.name.startswith(STEP_FUNCTIONS):
                first = min(n.lineno for n in (child, *child.decorator_list))
                yield scope + child.name, first, child.end_lineno or child.lineno
        elif _binds_step_function(child):
            # A function may also be swapped by binding its name anew.
            yield scope + child.id, child.lineno, child.end_lineno or child.lineno
        yield from _definitions(child, inner)


def _binds_step_function(node: ast.AST) -> TypeGuard[ast.Name]:
    return (
        isinstance(node, ast.Name)
        and not isinstance(node.ctx, ast.Load)
        and node.id.startswith(STEP_FUNCTIONS)
    )


def messages_are_complete(subject: Subject) -> list[str]:
    """Each patch is a mail with author, date, short subject and a reason."""
    return [
        f"{patch.name} {problem}."
        for patch in subject.patches
        for problem in _message_problems(patch.path.read_bytes())
    ]


def _message_problems(patch: bytes) -> Iterator[str]:
    envelope, _, rest = patch.partition(b"\n")
    if not re.match(rb"From [0-9a-f]{40} ", envelope):
        yield "does not start with a 'From' line as 'git format-patch' writes it"
        return
    mail = email.message_from_bytes(rest, policy=email.policy.default)
    for header in ("From", "Date", "Subject"):
        if not mail[header]:
            yield f"has no {header} header"
    author = f"{tree.AUTHOR} <{tree.EMAIL}>"
    if mail["From"] and str(mail["From"]) != author:
        yield f"is by {mail['From']}; the author must be {author}"
    subject = re.sub(r"^\[PATCH[^]]*\] *", "", str(mail["Subject"] or ""))
    if len(subject) > SUBJECT_COLUMNS:
        yield (
            f"has a subject of {len(subject)} columns; at most {SUBJECT_COLUMNS} are "
            "readable in a log"
        )
    body = re.split(rb"^(?:---$|diff --git )", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not body.partition(b"\n\n")[2].strip():
        yield "has no message below its subject; say why the change is made"


def compiles(subject: Subject) -> list[str]:
    """Overlay and patched files are Python that the base's oldest Python reads."""
    sources = {
        path: file.read_bytes()
        for path, file in series.overlay_files(subject.overlay_root).items()
        if path.endswith(".py")
    }
    sources.update({path: new for path, (_, new) in _python_changes(subject).items()})
    problems = []
    for path, source in sources.items():
        try:
            ast.parse(source, filename=path, feature_version=_PYTHON)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            problems.append(f"{path}, line {line}: {getattr(error, 'msg', error)}.")
    return problems


def imports_resolve(subject: Subject) -> list[str]:
    """What overlay and patched files import from torch is there."""
    overlay = {
        path: file.read_bytes()
        for path, file in series.overlay_files(subject.overlay_root).items()
    }
    changes = _python_changes(subject)
    after = {path: new for path, (_, new) in changes.items()}
    sources = {**subject.sources, **after, **overlay}
    problems = []
    for path, source in {**after, **overlay}.items():
        # What the release imports, it has: some modules are made by its build.
        known = {*_imports(path, changes.get(path, (b"", b""))[0])}
        for module, name in sorted({*_imports(path, source)} - known):
            # What a package imports from itself can only be a module below it.
            itself = path == f"{module.replace('.', '/')}/__init__.py"
            below = f"{module}.{name}"
            if not _is_there(sources, *((below, "") if itself else (module, name))):
                what = f"{name} from {module}" if name else module
                problems.append(f"{path} imports {what}, which is not there.")
    return problems


def _imports(path: str, source: bytes) -> Iterator[tuple[str, str]]:
    """Each module that is imported from torch, and the name out of it, or ''."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError):
        return  # compiles() reports it
    package = PurePosixPath(path).parent.parts
    for node in nodes:
        found: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            found = [(module, alias.name) for alias in node.names]
        yield from (pair for pair in found if f"{pair[0]}.".startswith("torch."))


def _is_there(sources: Mapping[str, bytes], module: str, name: str) -> bool:
    path = module.replace(".", "/")
    places = [
        f"{path}{end}" for end in (".py", "/__init__.py", ".pyi", "/__init__.pyi")
    ]
    contents = [sources[file] for file in places if sources.get(file)]
    if not contents:
        # A package may be empty, or have no __init__.py at all.
        there = any(file.startswith(f"{path}/") for file in sources)
        return there and (not name or _is_there(sources, f"{module}.{name}", ""))
    if not name or name == "*" or _is_there(sources, f"{module}.{name}", ""):
        return True
    return any(name in (names := _bound(c)) or "*" in names for c in contents)


def _bound(source: bytes) -> set[str]:
    """The names that a module binds; ``*`` among them if it may have more."""
    try:
        open_nodes: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):
        return {"*"}
    names: set[str] = set()
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add("*" if node.name == "__getattr__" else node.name)
            continue  # its names are its own
        if isinstance(node, ast.Name) and node.id == "globals":
            names.add("*")
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        open_nodes += ast.iter_child_nodes(node)
    return names


#: What the command prints for each check, and the check.
CHECKS: Mapping[str, Callable[[Subject], list[str]]] = {
    "the series applies to the base": applies,
    "export gives the same bytes": is_fixed_point,
    "the overlay holds no file that PyTorch has": overlay_is_new,
    "nothing else lies in patches/ and torch_overlay/": nothing_else_is_there,
    "patches touch Python, docs and tests only": touches_python_only,
    "no function that computes a step is changed": steps_are_unchanged,
    "each patch has author, date, subject and reason": messages_are_complete,
    "overlay and patched files compile": compiles,
    "overlay and patched files import what is there": imports_resolve,
}


def patched_files(subject: Subject) -> dict[str, bytes]:
    """The files that the series touches, after it.

    Args:
        subject (Subject): what is checked.

    Returns:
        dict[str, bytes]: POSIX path to content; files that the series removes
        are left out.

    Raises:
        ToolError: if the series does not apply.
    """
    with files.scratch() as folder:
        for path, content in _touched_sources(subject).items():
            files.put(folder / path, content)
        series.apply(
            subject.patches,
            folder,
            series.promises(subject.release, subject.patches_root),
            name=f"PyTorch {subject.release}",
        )
        return {
            path: (folder / path).read_bytes()
            for path in series.touched_files(subject.patches)
            if (folder / path).is_file()
        }


def _touched_sources(subject: Subject) -> dict[str, bytes]:
    """The base's part that matters: the rest would only take time."""
    touched = series.touched_files(subject.patches)
    return {path: subject.sources[path] for path in touched if path in subject.sources}


def _python_changes(subject: Subject) -> dict[str, tuple[bytes, bytes]]:
    """Path to content before and after, for each touched Python file.

    Empty if the series does not apply, which :func:`applies` reports.
    """
    try:
        after = patched_files(subject)
    except ToolError:
        return {}
    return {
        path: (subject.sources.get(path, b""), after.get(path, b""))
        for path in series.touched_files(subject.patches)
        if path.endswith(".py")
    }
