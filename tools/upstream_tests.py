"""The tests as they go upstream: where they lie there, and with what they test.

A commit of the branch brings the tests that begin to pass with it, so a test module
grows from commit to commit. ``test/sections.txt`` has the section of each test.
"""

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from tools import layout, stack


#: The folders of tests that lie where upstream has its own.
FOLDERS = ("test/optim", "test/distributed", "test/inductor")

#: Tests and helpers that are tied to this repository: they compare with the release,
#: read its documents, or carry checkpoints of older releases.
TIED = {
    "test/distributed/_cases_dcp.py",
    "test/distributed/_cases_fsdp.py",
    "test/distributed/_cases_optim.py",
    "test/distributed/_exchange.py",
    "test/distributed/_files_dcp.py",
    "test/distributed/_parity.py",
    "test/distributed/test_exchange.py",
    "test/distributed/test_named_checkpoint.py",
    "test/distributed/test_resharding.py",
    "test/distributed/test_unnamed_dcp.py",
    "test/distributed/test_unnamed_fsdp.py",
    "test/distributed/test_unnamed_optim.py",
    "test/optim/_guard.py",
    "test/optim/_parity_cases.py",
    "test/optim/_stock.py",
    "test/optim/test_as_the_release.py",
    "test/optim/test_docs.py",
    "test/optim/test_old_releases.py",
    "test/optim/test_unnamed_parity.py",
}

#: Says, below the titles of sections, which tests begin to pass with them. A line is a
#: file, ``FILE::CLASS`` or ``FILE::CLASS::METHOD``; the longest that fits a test holds.
TABLE = "test/sections.txt"

_GUARD = re.compile(
    rb"from _guard import require_patched_torch\n\n\nrequire_patched_torch\(\)\n\n"
)


def upstream_tests(root: Path = layout.ROOT) -> dict[str, bytes]:
    """The tests that go upstream, where they lie there.

    Args:
        root (Path): the folder with ``test/``.

    Returns:
        dict[str, bytes]: POSIX path to content, without the guard against a torch
        that is not patched.
    """
    found = [file for f in FOLDERS for file in sorted((root / f).glob("*.py"))]
    paths = {file.relative_to(root).as_posix(): file for file in found}
    return {
        path: _GUARD.sub(b"", file.read_bytes())
        for path, file in paths.items()
        if path not in TIED
    }


def by_section(
    titles: Sequence[str], root: Path = layout.ROOT
) -> Iterator[dict[str, bytes]]:
    """The tests that upstream has after each section.

    Args:
        titles (Sequence[str]): the titles of the sections, in order.
        root (Path): the folder with ``test/``.

    Yields:
        dict[str, bytes]: as :func:`upstream_tests`, for each title. After the last
        one, they are all there.
    """
    tests = upstream_tests(root)
    modules = {p for p in tests if PurePosixPath(p).name.startswith("test_")}
    helpers = {path: tests[path] for path in tests.keys() - modules}
    section_of = table(root)
    # The series for an older release may lack a section; its tests come with the next.
    order = list(dict.fromkeys(section_of.values()))
    so_far: set[str] = set()
    for title in titles[:-1]:
        if title in order:
            so_far.update(order[: order.index(title) + 1])
        there: dict[str, bytes] = {}
        for path in modules:
            source = tests[path].decode()
            done = {
                test
                for test in tests_of(source)
                if _section(section_of, path, *test) in so_far
            }
            if part := only(source, done):
                there[path] = part.encode()
        yield there | _imported(there, helpers)
    yield tests


def table(root: Path = layout.ROOT) -> dict[str, str]:
    """The section of each entry of :data:`TABLE`."""
    file = root / TABLE
    section_of: dict[str, str] = {}
    title = ""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        if line.startswith("["):
            title = line[1:-1]
        elif line and not line.startswith("#"):
            section_of[line] = title
    return section_of


def tests_of(source: str) -> list[tuple[str, str]]:
    """The tests of a module: the names of a class and of a method."""
    return [(case.name, method.name) for case, method in _methods(_parsed(source))]


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _methods(module: ast.Module) -> Iterator[tuple[ast.ClassDef, ast.FunctionDef]]:
    for case in module.body:
        if isinstance(case, ast.ClassDef):
            for method in case.body:
                if isinstance(method, ast.FunctionDef) and method.name[:4] == "test":
                    yield case, method


def only(source: str, kept: Collection[tuple[str, str]]) -> str:
    """The source of a module with some of its tests, and with what these use.

    Args:
        source (str): the source.
        kept (collection of (str, str)): the tests, as :func:`tests_of` has them.

    Returns:
        str: the source; empty if no test is kept.
    """
    module = _parsed(source)
    tests = [*_methods(module)]
    left_out = {m for case, m in tests if (case.name, m.name) not in kept}
    cases = {case.name for case, method in tests if method not in left_out}
    gone = {case.name for case, _ in tests} - cases
    if not left_out or not cases:
        return source if cases else ""
    used = _used(module, cases, gone, left_out)
    lines = source.splitlines(keepends=True)
    for statement in module.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            names = [a for a in statement.names if _bound(a) in used]
            if len(names) < len(statement.names):
                _replace(lines, statement, names)
        elif _defined(statement).isdisjoint(used) and (
            _defined(statement) or _names(statement) & gone
        ):
            _remove(lines, statement)
    for case, method in tests:
        if method in left_out and case.name in used:
            _remove(lines, method)
    text = re.sub(r"\n{3,}(?=(?:from|import) )", "\n\n", "".join(lines))
    return re.sub(r"\n{4,}", "\n\n\n", text)


def _used(
    module: ast.Module,
    cases: Collection[str],
    gone: Collection[str],
    left_out: Collection[ast.AST],
) -> set[str]:
    """The names that some tests use, directly or not."""
    by_name: dict[str, list[ast.stmt]] = {}
    todo: list[ast.stmt] = []
    for statement in module.body:
        names = _defined(statement)
        for name in names:
            by_name.setdefault(name, []).append(statement)
        if not names.isdisjoint(cases) or not (names or _names(statement) & {*gone}):
            todo.append(statement)
    used = {*cases}
    while todo:
        new = _names(todo.pop(), left_out) - used
        used |= new
        todo += [statement for name in new for statement in by_name.get(name, ())]
    return used


def _names(node: ast.AST, left_out: Collection[ast.AST] = ()) -> set[str]:
    """The names in some code."""
    found: set[str] = set()
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Name):
            found.add(part.id)
        if part not in left_out:
            todo += ast.iter_child_nodes(part)
    return found


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement defines for those below; imports have none."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {statement.name}
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _replace(
    lines: list[str],
    statement: ast.Import | ast.ImportFrom,
    names: Sequence[ast.alias],
) -> None:
    """Replace an import by one of fewer names; other lines keep their numbers."""
    first, last = statement.lineno - 1, statement.end_lineno or 0
    # An import that is not to be sorted does more than give names.
    comment = "  # usort: skip" if "usort: skip" in lines[last - 1] else ""
    bound = [ast.unparse(name) for name in names]
    if bound and isinstance(statement, ast.ImportFrom):
        module = "." * statement.level + (statement.module or "")
        new = stack.import_from(module, bound, comment)
    elif bound:
        new = f"import {', '.join(bound)}{comment}\n"
    elif comment and isinstance(statement, ast.ImportFrom):
        new = f"import {statement.module}  # noqa: F401, usort: skip\n"
    else:
        new = ""
    lines[first:last] = [new, *[""] * (last - first - 1)]


def _remove(lines: list[str], statement: ast.stmt) -> None:
    """Remove a statement, with its decorators, and what is above it alone."""
    decorators = getattr(statement, "decorator_list", [])
    first = min(node.lineno for node in (statement, *decorators)) - 1
    indent = " " * statement.col_offset
    while first and lines[first - 1].startswith(f"{indent}#"):
        first -= 1
    last = statement.end_lineno or 0
    # Else, the blank lines above are for the next statement.
    if lines[last : last + 1] in (["\n"], []):
        while first and lines[first - 1] in ("\n", ""):
            first -= 1
    lines[first:last] = [""] * (last - first)


def _section(section_of: dict[str, str], path: str, case: str, method: str) -> str:
    """The title of the section with which a test comes; empty for the last one."""
    for entry in (f"{path}::{case}::{method}", f"{path}::{case}", path):
        if entry in section_of:
            return section_of[entry]
    return ""


def _imported(
    modules: Mapping[str, bytes], helpers: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The helpers that some modules import, directly or not."""
    found: dict[str, bytes] = {}
    todo = [*modules.items()]
    while todo:
        _, content = todo.pop()
        names = {
            name
            for node in ast.walk(_parsed(content.decode()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (getattr(node, "module", None), *(a.name for a in node.names))
        }
        new = {
            helper: helpers[helper]
            for helper in helpers.keys() - found.keys()
            if PurePosixPath(helper).stem in names
        }
        found |= new
        todo += new.items()
    return found
