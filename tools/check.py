"""What must hold for every series.

Each check is a function that returns a list of problems, one sentence each.
"""

import ast
import email
import email.policy
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from tools import (
    export,
    files,
    layout,
    names,
    releases,
    relied_on,
    series,
    stack,
    tree,
)
from tools.errors import ToolError
from tools.releases import Release
from tools.relied_on import definitions, line_numbers
from tools.series import Patch


#: Functions that compute a step. No patch may change them.
STEP_FUNCTIONS = ("_single_tensor_", "_multi_tensor_", "_fused_")

#: Compiled sources. No patch may touch them.
KERNELS = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".metal", ".mm")

SUBJECT_COLUMNS = 72

#: So many pull requests can be followed.
MOST_SECTIONS = 12


@dataclass(frozen=True)
class Subject:
    """The series on one release.

    Attributes:
        release (Release): the release.
        sources (Mapping[str, bytes]): its files, by POSIX path.
        patches (Sequence[Patch]): the series for it, in order.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.
    """

    release: Release
    sources: Mapping[str, bytes]
    patches: Sequence[Patch]
    patches_root: Path = layout.PATCHES
    overlay_root: Path = layout.OVERLAY

    @cached_property
    def overlay(self) -> dict[str, bytes]:
        """The files of the overlay, by POSIX path."""
        found = series.overlay_files(self.overlay_root)
        return {path: file.read_bytes() for path, file in found.items()}

    @cached_property
    def patched(self) -> dict[str, bytes] | ToolError:
        """The files that the patches touch, after them; an error if they do not apply."""
        if not self.patches:
            return {}
        version = self.release.version
        touched = series.touched_files(self.patches)
        with files.scratch() as folder:
            for path in touched:
                files.put(folder / path, self.sources.get(path))
            try:
                promises = series.promises(version, self.patches_root)
                name = f"PyTorch {version}"
                series.apply(self.patches, folder, promises, name=name)
            except ToolError as error:
                return error
            found = {path: files.content(folder / path) for path in touched}
        return {path: new for path, new in found.items() if new is not None}

    @property
    def changes(self) -> dict[str, tuple[bytes, bytes]]:
        """The content before and after, of each Python file that patches touch."""
        patched = self.patched
        if isinstance(patched, ToolError):
            return {}  # applies() reports it
        return {
            path: (self.sources.get(path, b""), patched.get(path, b""))
            for path in series.touched_files(self.patches)
            if path.endswith(".py")
        }


def applies(subject: Subject) -> list[str]:
    """The series applies, and makes of each file what it must."""
    patched = subject.patched
    return [str(patched)] if isinstance(patched, ToolError) else []


def is_fixed_point(subject: Subject) -> list[str]:
    """Materializing and exporting gives patches and overlay byte for byte."""
    try:
        exported = export.round_trip(
            subject.sources,
            subject.release.version,
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
    for path, (before, after) in subject.changes.items():
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
    return {
        name: ["\n".join(lines[n - 1] for n in line_numbers(node)) for node in nodes]
        for name, nodes in definitions(ast.parse(source)).items()
        if name.rpartition(".")[2].startswith(STEP_FUNCTIONS)
    }


def messages_are_complete(subject: Subject) -> list[str]:
    """Each patch is a mail with author, date, short subject and a reason."""
    return [
        f"{patch.name} {problem}."
        for patch in (*subject.patches, *series.source_only(subject.patches_root))
        for problem in _message_problems(patch)
    ]


def _message_problems(patch: Patch) -> Iterator[str]:
    envelope, _, rest = patch.path.read_bytes().partition(b"\n")
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
    subject, text = series.message(patch)
    if len(subject) > SUBJECT_COLUMNS:
        yield (
            f"has a subject of {len(subject)} columns; at most {SUBJECT_COLUMNS} are "
            "readable in a log"
        )
    if not text:
        yield "has no message below its subject; say why the change is made"


def compiles(subject: Subject) -> list[str]:
    """Overlay and patched files are Python that the release's oldest Python reads."""
    sources = {**subject.overlay, **{p: new for p, (_, new) in subject.changes.items()}}
    problems = []
    for path, source in sources.items():
        try:
            ast.parse(source, path, feature_version=subject.release.python)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            problems.append(f"{path}, line {line}: {getattr(error, 'msg', error)}.")
    return problems


def names_are_there(subject: Subject) -> list[str]:
    """The names that overlay and patched files use are there."""
    after = {path: new for path, (_, new) in subject.changes.items()}
    return [
        f"{path} {what}." for path, what in _missing(subject, after, subject.overlay)
    ]


def _missing(
    subject: Subject, patched: Mapping[str, bytes], overlay: Mapping[str, bytes]
) -> Iterator[tuple[str, str]]:
    """Each file, and what it uses and is not there."""
    layers = (overlay, patched, subject.sources)
    sources: Mapping[str, bytes] = ChainMap(*layers)  # type: ignore[arg-type]
    for path in {**patched, **overlay}:
        # What the release's own file uses, it has, made by its build.
        known = names.missing(path, subject.sources)
        for what in sorted(names.missing(path, sources) - known):
            yield path, what


def sections_stand_alone(subject: Subject) -> list[str]:
    """PyTorch has what it uses after each section of the newest release's series."""
    version = subject.release.version
    patched = subject.patched
    if isinstance(patched, ToolError) or not subject.patches:
        return []  # applies() reports it
    if version != releases.newest(subject.patches_root).version:
        return []
    try:
        sections = series.sections(version, subject.patches_root)
    except ToolError as error:
        return [str(error)]
    problems = [
        f"The title '{section.title}' has {len(section.title)} columns; give it at "
        f"most {SUBJECT_COLUMNS}."
        for section in sections
        if len(section.title) > SUBJECT_COLUMNS
    ]
    if len(sections) > MOST_SECTIONS:
        problems.append(
            f"There are {len(sections)} sections; join them to {MOST_SECTIONS} or less."
        )
    for step in stack.steps(sections, subject.sources, subject.overlay):
        python = {
            p: new for p, new in step.patched.items() if new and p.endswith(".py")
        }
        for path, what in _missing(subject, python, step.overlay):
            problems.append(f"After '{step.section.title}', {path} {what}.")
    return problems


def functions_were_read(subject: Subject) -> list[str]:
    """The functions of PyTorch that the series relies on are as they were read."""
    return relied_on.problems(
        relied_on.read(subject.patches_root), subject.sources, subject.release
    )


#: What the command prints for each check, and the check.
CHECKS: Mapping[str, Callable[[Subject], list[str]]] = {
    "the series applies": applies,
    "export gives the same bytes": is_fixed_point,
    "the overlay holds no file that PyTorch has": overlay_is_new,
    "nothing else lies in patches/ and torch_overlay/": nothing_else_is_there,
    "patches touch Python, docs and tests only": touches_python_only,
    "no function that computes a step is changed": steps_are_unchanged,
    "each patch has author, date, subject and reason": messages_are_complete,
    "overlay and patched files compile": compiles,
    "overlay and patched files use names that are there": names_are_there,
    "each section stands on those before it": sections_stand_alone,
    "what the series relies on is as it was read": functions_were_read,
}


def report(subjects: Sequence[Subject]) -> Iterator[tuple[str, list[str]]]:
    """Make all checks.

    Args:
        subjects (Sequence[Subject]): the series on each release.

    Yields:
        (str, list[str]): what was checked, and the problems. One that not all
        releases have begins with those that do.
    """
    for title, find_problems in CHECKS.items():
        found: dict[str, list[str]] = {}
        for subject in subjects:
            for problem in find_problems(subject):
                found.setdefault(problem, []).append(subject.release.version)
        yield (
            title,
            [
                problem
                if len(where) == len(subjects)
                else f"{', '.join(where)}: {problem}"
                for problem, where in found.items()
            ],
        )
