"""What must hold for every series.

Each check is a function that returns a list of problems, one sentence each.
"""

import ast
import email
import email.policy
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from tools import export, layout, series, tree
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        try:
            tree.materialize(
                _touched_sources(subject),
                folder / "tree",
                release=subject.release,
                patches_root=subject.patches_root,
                overlay_root=subject.overlay_root,
            )
            changes = export.changes(
                export.read(folder / "tree"),
                patches_root=subject.patches_root,
                overlay_root=subject.overlay_root,
            )
        except ToolError as error:
            return [str(error).replace(str(folder / "tree"), "the tree")]
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
        if not name.startswith("torch/"):
            problems.append(f"{file} lies outside torch/; a wheel would not carry it.")
        if name in known:
            problems.append(f"{file} is PyTorch's file {known[name]}; write a patch.")
        elif name.removesuffix(".py") in packages:
            problems.append(f"{file} has the name of a package of PyTorch.")
        for parent in PurePosixPath(name).parents:
            if str(parent) in modules:
                problems.append(f"{file} hides PyTorch's module {parent}.py.")
    return problems


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


#: What the command prints for each check, and the check.
CHECKS: Mapping[str, Callable[[Subject], list[str]]] = {
    "the series applies to the base": applies,
    "export gives the same bytes": is_fixed_point,
    "the overlay holds no file that PyTorch has": overlay_is_new,
    "patches touch Python, docs and tests only": touches_python_only,
    "no function that computes a step is changed": steps_are_unchanged,
    "each patch has author, date, subject and reason": messages_are_complete,
    "overlay and patched files compile": compiles,
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path, content in _touched_sources(subject).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        try:
            series.apply(subject.patches, folder)
        except ToolError as error:
            base = f"PyTorch {subject.release}"
            raise ToolError(str(error).replace(str(folder), base)) from error
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
