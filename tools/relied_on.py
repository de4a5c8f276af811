"""Functions of PyTorch whose behavior patches and overlay take for granted.

``patches/relied-on`` lists them, each with a reason and with a hash of every form
that it has in the supported releases::

    torch/optim/optimizer.py Optimizer.load_state_dict
      build_state() gives each parameter what the loop in it gave.
      0123456789ab 2.15.0 2.14.1
      ba9876543210 2.13.0

A form that is not there is one that nobody has read.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias

from tools import files, layout, releases
from tools.errors import ToolError
from tools.releases import Release


FILE = "relied-on"

#: The form of what a release does not have.
ABSENT = "absent"

#: What binds a name.
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Name

#: Where no patch of a release at the level "optimizers" is.
_ELSEWHERE = ("torch/distributed/", "torch/_dynamo/")

_FORM = re.compile(rf"  ([0-9a-f]{{12}}|{ABSENT})((?: \d+\.\d+\.\d+)+)")


@dataclass
class Entry:
    """A function or class that the series relies on.

    Attributes:
        path (str): POSIX path of its module in PyTorch's tree.
        name (str): its qualified name.
        reason (list[str]): what relies on it, as lines.
        forms (dict[str, str]): release to the form that was read there.
    """

    path: str
    name: str
    reason: list[str] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)


def read(root: Path = layout.PATCHES) -> list[Entry]:
    """The list.

    Args:
        root (Path): the folder of the patches.

    Returns:
        list[Entry]: one for each function; empty if there is no list.

    Raises:
        ToolError: if a line of it cannot be read.
    """
    return _parse(root / FILE)[1]


def _parse(file: Path) -> tuple[list[str], list[Entry]]:
    """The comments before the first entry, and the entries."""
    head: list[str] = []
    entries: list[Entry] = []
    lines = files.text(file).splitlines() if file.exists() else []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            head += [] if entries else [line]
        elif not line.startswith(" ") and line.count(" ") == 1:
            path, name = line.split()
            entries.append(Entry(path, name))
        elif found := _FORM.fullmatch(line) if entries else None:
            entries[-1].forms.update(dict.fromkeys(found[2].split(), found[1]))
        elif line.startswith("  ") and entries and not entries[-1].forms:
            entries[-1].reason.append(line.strip())
        else:
            raise ToolError(
                f"Line {number} of {file} cannot be read. An entry is a path and a name, "
                "and below, by two blanks, a reason and a line for each form."
            )
    return head, entries


def problems(
    entries: list[Entry], sources: Mapping[str, bytes], release: Release
) -> list[str]:
    """What nobody has read in a release.

    Args:
        entries (list[Entry]): the list.
        sources (Mapping[str, bytes]): the release's files, by POSIX path.
        release (Release): the release.

    Returns:
        list[str]: a sentence for each function that is another one than in the
        releases for which it was read, and for what is not recorded.
    """
    found = []
    unrecorded = False
    for entry in entries:
        if not _matters(entry, release):
            continue
        form = form_of(sources.get(entry.path, b""), entry.name)
        if form not in entry.forms.values():
            what = "is not there" if form == ABSENT else "was changed"
            found.append(
                f"{entry.name} in {entry.path} {what}. The series relies on it "
                f"({' '.join(entry.reason)}): see whether it still may."
            )
        unrecorded |= entry.forms.get(release.version) != form
    if unrecorded:
        found.append(
            f"{FILE} does not have the functions of PyTorch {release.version} as they are. If "
            "all is well with them, run 'python -m tools check --record'."
        )
    return found


def _matters(entry: Entry, release: Release) -> bool:
    """Whether the series for a release relies on a function."""
    return not (release.optimizers_only and entry.path.startswith(_ELSEWHERE))


def record(
    sources: Mapping[Release, Mapping[str, bytes]], root: Path = layout.PATCHES
) -> None:
    """Write the form of each function in some releases to the list.

    Args:
        sources (Mapping): release to its files, by POSIX path.
        root (Path): the folder of the patches.

    Raises:
        ToolError: if the list cannot be read.
    """
    head, entries = _parse(root / FILE)
    lines = [*head]
    for entry in entries:
        for release, contents in sources.items():
            if _matters(entry, release):
                form = form_of(contents.get(entry.path, b""), entry.name)
                entry.forms[release.version] = form
        lines += [f"{entry.path} {entry.name}", *(f"  {why}" for why in entry.reason)]
        of_form: dict[str, list[str]] = {}
        for version in sorted(entry.forms, key=releases.order, reverse=True):
            of_form.setdefault(entry.forms[version], []).append(version)
        lines += [f"  {form} {' '.join(where)}" for form, where in of_form.items()]
    files.replace({root / FILE: "".join(f"{line}\n" for line in lines).encode()})


def form_of(source: bytes, name: str) -> str:
    """What tells one version of a function from another.

    Args:
        source (bytes): the source of its module.
        name (str): its qualified name.

    Returns:
        str: a hash of its lines without docstrings, comments and blank lines;
        :data:`ABSENT` if there is no such function.
    """
    functions, lines = _parsed(source)
    code = [line for node in functions.get(name, ()) for line in _code(node, lines)]
    digest = hashlib.sha256("\n".join(code).encode())
    return digest.hexdigest()[:12] if code else ABSENT


@cache
def _parsed(source: bytes) -> tuple[dict[str, list[Definition]], list[str]]:
    return definitions(ast.parse(source)), source.decode("utf-8").splitlines()


def _code(node: Definition, lines: list[str]) -> Iterator[str]:
    """The lines of a definition that say what it does."""
    texts: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = inner.body[0]
            if ast.get_docstring(inner, clean=False) is not None:
                texts.update(range(first.lineno, (first.end_lineno or 0) + 1))
    for number in line_numbers(node):
        line = lines[number - 1].rstrip()
        if line and not line.lstrip().startswith("#") and number not in texts:
            yield line


def definitions(tree: ast.AST) -> dict[str, list[Definition]]:
    """What a module defines, also inside of functions and classes.

    Args:
        tree (ast.AST): the module.

    Returns:
        dict[str, list[Definition]]: qualified name to the functions, classes and
        assignments that bind it.
    """
    found: dict[str, list[Definition]] = {}
    open_nodes = [(tree, "")]
    while open_nodes:
        node, scope = open_nodes.pop()
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{scope}{child.name}."
                found.setdefault(scope + child.name, []).append(child)
            elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
                found.setdefault(scope + child.id, []).append(child)
            open_nodes.append((child, inner))
    return found


def line_numbers(node: Definition) -> range:
    """The numbers of the lines of a definition, with its decorators.

    Args:
        node (Definition): one of :func:`definitions`.

    Returns:
        range: the numbers, from 1.
    """
    decorators = [] if isinstance(node, ast.Name) else node.decorator_list
    first = min(n.lineno for n in (node, *decorators))
    return range(first, (node.end_lineno or node.lineno) + 1)
