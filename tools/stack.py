"""The series as a stack of sections, each with the modules of the overlay it uses."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools import files, names, series
from tools.errors import ToolError
from tools.series import Section


_PACKAGE = "/__init__.py"

_QUOTES = '"""'

_COLUMNS = 88


@dataclass(frozen=True)
class Step:
    """What PyTorch is after a section and those before it.

    Attributes:
        section (Section): the section.
        patched (dict[str, bytes or None]): POSIX path to content of the files that
            patches have touched so far; None for no file.
        overlay (dict[str, bytes]): the same of the overlay's files.
    """

    section: Section
    patched: dict[str, bytes | None]
    overlay: dict[str, bytes]


def steps(
    sections: Sequence[Section],
    sources: Mapping[str, bytes],
    overlay: Mapping[str, bytes],
) -> Iterator[Step]:
    """Lay sections over PyTorch, one after the other.

    Args:
        sections (Sequence[Section]): the series for a release.
        sources (Mapping[str, bytes]): the files of that release.
        overlay (Mapping[str, bytes]): all files of the overlay.

    Yields:
        Step: one for each section. The last one has the whole overlay.

    Raises:
        ToolError: if a patch does not apply.
    """
    patched: dict[str, bytes | None] = {}
    with files.scratch() as folder:
        for section in sections:
            for patch in section.patches:
                touched = series.touched_files([patch])
                for path in touched:
                    if path not in patched:
                        files.put(folder / path, sources.get(path))
                if problem := series.rejected(patch, folder):
                    raise ToolError(problem)
                patched |= {path: files.content(folder / path) for path in touched}
            last = section is sections[-1]
            there = {path: new for path, new in patched.items() if new is not None}
            brought = dict(overlay) if last else needed(there, overlay)
            yield Step(section, dict(patched), brought)


def needed(
    patched: Mapping[str, bytes], overlay: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The part of the overlay that some files use.

    Args:
        patched (Mapping[str, bytes]): POSIX path to content of the files.
        overlay (Mapping[str, bytes]): the same of all files of the overlay.

    Returns:
        dict[str, bytes]: the modules that are imported, directly or by another one.
        Packages are without the imports of which nothing is used.
    """
    found: set[str] = set()
    wanted: set[str] = set()
    seen: set[str] = set()
    todo = {name for path, new in patched.items() for name in names.used(path, new)}
    while todo:
        name = todo.pop()
        seen.add(name)
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            path = _file(parts[:end], overlay)
            if path not in overlay:
                continue
            if path.endswith(_PACKAGE):
                if end < len(parts):
                    wanted.add(".".join(parts[: end + 1]))
                    todo |= names.origins(path, overlay[path], parts[end]) - seen
            elif path not in found:
                todo |= names.used(path, overlay[path]) - seen
            found.add(path)
    return {
        path: _reduced(path, overlay, found, wanted)
        if path.endswith(_PACKAGE)
        else overlay[path]
        for path in sorted(found)
    }


def _file(module: Sequence[str], overlay: Mapping[str, bytes]) -> str:
    path = "/".join(module)
    return path + _PACKAGE if path + _PACKAGE in overlay else f"{path}.py"


def _reduced(
    path: str, overlay: Mapping[str, bytes], found: set[str], wanted: set[str]
) -> bytes:
    """A package's own file, of which only some names are used."""
    package = path.removesuffix(_PACKAGE).replace("/", ".")
    text = overlay[path].decode()
    lines = text.splitlines(keepends=True)
    module = ast.parse(text)
    for node in reversed(module.body):
        if isinstance(node, ast.ImportFrom):
            bound = [alias.name for alias in node.names]
            kept = [name for name in bound if f"{package}.{name}" in wanted]
            if kept == bound:
                continue
            new = import_from(node.module or "", kept) if kept else ""
        elif isinstance(node, ast.Assign) and ast.unparse(node).startswith("__all__ "):
            bound = ast.literal_eval(node.value)
            kept = [name for name in bound if f"{package}.{name}" in wanted]
            new = "".join(["__all__ = [\n", *(f'    "{n}",\n' for n in kept), "]\n"])
            new = new if kept else ""
        elif node is module.body[0] and ast.get_docstring(module):
            new = "".join(lines[node.lineno - 1 : node.end_lineno])
            new = _docstring(new, overlay.keys() - found)
        else:
            continue
        lines[node.lineno - 1 : node.end_lineno] = [new]
    return f"{''.join(lines).rstrip()}\n".encode()


def import_from(module: str, bound: Sequence[str], comment: str = "") -> str:
    """The import of some names, as upstream's formatter has it.

    Args:
        module (str): what they are imported from.
        bound (Sequence[str]): the names.
        comment (str): what stands behind them, with the spaces before it.
    """
    line = f"from {module} import {', '.join(bound)}{comment}\n"
    if len(line) > _COLUMNS + 1:
        names = "".join(f"    {name},\n" for name in bound)
        line = f"from {module} import ({comment}\n{names})\n"
    return line


def _docstring(text: str, missing: set[str]) -> str:
    """A docstring without paragraphs and list items about missing modules."""
    body = text.strip().removeprefix(_QUOTES).removesuffix(_QUOTES)
    items = re.split(r"(?m)^(?=\* |\n)", body)
    kept = [
        item
        for item in items
        if not any(
            module.replace(".", "/") + end in missing
            for module in re.findall(r":mod:`~?([\w.]+)`", item)
            for end in (".py", _PACKAGE)
        )
    ]
    for n, item in enumerate(kept):
        if item.startswith("* ") and not "".join(kept[n + 1 :]).startswith("* "):
            kept[n] = re.sub(r";(?=\n*\Z)", ".", item)
    return f"{_QUOTES}{''.join(kept).rstrip()}\n{_QUOTES}\n"
