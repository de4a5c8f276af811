"""Names that Python sources use and nothing provides.

A patch may merge cleanly into a release in which a name that it uses does not
exist: that shows only where the code runs. What goes in are sources; nothing is
imported.
"""

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath


#: What every module has.
_GIVEN = {*vars(builtins), "__file__", "__path__", "__builtins__", "__annotations__"}
_GIVEN |= {"__name__", "__doc__", "__package__", "__spec__", "__loader__", "__class__"}


@dataclass(frozen=True)
class _Module:
    """What a source says about names.

    Attributes:
        undefined: the names that it looks up, but nothing defines.
        imported: each module of torch that is imported from, and the name out of
            it, or ``""``.
        read: the same for each name that only imports bind, and the dotted names
            that are read from it.
    """

    undefined: frozenset[str]
    imported: frozenset[tuple[str, str]]
    read: frozenset[tuple[str, str, str]]


def missing(path: str, sources: Mapping[str, bytes]) -> set[str]:
    """What a file uses of its module, of builtins and of torch, and is not there.

    Args:
        path (str): POSIX path of the file. One that is not there, or is no
            Python, passes.
        sources (Mapping[str, bytes]): all Python files of a torch, by path.

    Returns:
        set[str]: for each, what to put after the path to make a sentence.
    """
    module = _read(path, sources.get(path, b""))
    if module is None:
        return set()
    found = {f"uses {name}, which nothing defines" for name in module.undefined}
    for where, name in module.imported:
        # What a package imports from itself can only be a module below it.
        itself = path == f"{where.replace('.', '/')}/__init__.py"
        place = (f"{where}.{name}",) if itself else (where, name)
        if not _is_there(sources, *place):
            what = f"{name} from {where}" if name else where
            found.add(f"imports {what}, which is not there")
    for where, name, chain in module.read:
        holder = f"{where}.{name}" if name else where
        for attribute in chain.split("."):
            if not _files(sources, holder):
                break  # no module, or a compiled one
            if not _is_there(sources, holder, attribute):
                found.add(f"uses {attribute} of {holder}, which is not there")
                break
            holder = f"{holder}.{attribute}"
    return found


def used(path: str, source: bytes) -> set[str]:
    """What a file imports of torch, and reads from it.

    Args:
        path (str): POSIX path of the file.
        source (bytes): its content.

    Returns:
        set[str]: dotted names; empty for what is no Python.
    """
    module = _read(path, source)
    if module is None:
        return set()
    parts = [*module.imported, *module.read]
    return {".".join(filter(None, names)) for names in parts}


def origins(path: str, source: bytes, name: str) -> set[str]:
    """What a name of a file stands for, if it is imported.

    Args:
        path (str): POSIX path of the file.
        source (bytes): its content, which must be Python.
        name (str): the name.

    Returns:
        set[str]: dotted names.
    """
    imports = _imports(ast.walk(ast.parse(source)), PurePosixPath(path).parent.parts)
    return {
        f"{module}.{own}" for alias, module, own in imports if alias == name and own
    }


def _is_there(sources: Mapping[str, bytes], module: str, name: str = "") -> bool:
    """Whether a module exists, and has a name if one is given."""
    contents = [sources[file] for file in _files(sources, module)]
    if not name or name == "*":
        folder = f"{module.replace('.', '/')}/"
        # A package may have no __init__.py.
        return bool(contents) or any(file.startswith(folder) for file in sources)
    bound = [_bound(content) for content in contents]
    if any(not names.isdisjoint((name, "*")) for names in bound):
        return True
    return _is_there(sources, f"{module}.{name}")


def _files(sources: Mapping[str, bytes], module: str) -> list[str]:
    path = module.replace(".", "/")
    ends = (".py", "/__init__.py", ".pyi", "/__init__.pyi")
    return [path + end for end in ends if path + end in sources]


@cache
def _read(path: str, source: bytes) -> _Module | None:
    """None for what is no Python: another check reports it."""
    try:
        tree = ast.parse(source)
        used = {*_looked_up(symtable.symtable(source.decode(), path, "exec"))} - _GIVEN
    except (SyntaxError, ValueError):
        return None
    bound = _bound(source)
    undefined: set[str] = set()
    if "*" not in bound:
        # What is there for type checkers alone is enough for annotations.
        undefined = used - {*_module_names(tree, types=True)}
        undefined |= used & {*_evaluated(tree)} - bound
    nodes = [*ast.walk(tree)]
    imports = [*_imports(nodes, PurePosixPath(path).parent.parts)]
    stands_for: dict[str, set[tuple[str, str]]] = {}
    for alias, module, name in imports:
        # "import torch.optim" binds torch.
        whole = not name and alias == module.partition(".")[0]
        stands_for.setdefault(alias, set()).add((alias if whole else module, name))
    for other in _bound_otherwise(nodes):
        stands_for.pop(other, None)
    return _Module(
        frozenset(undefined),
        frozenset((module, name) for _, module, name in imports if _is_torch(module)),
        frozenset(
            (*place, chain)
            for root, chain in _chains(nodes)
            for place in stands_for.get(root, ())
            if len(stands_for[root]) == 1 and _is_torch(place[0])
        ),
    )


def _is_torch(module: str) -> bool:
    return module.partition(".")[0] == "torch"


def _looked_up(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that no function or class around their use binds."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _looked_up(child)


def _evaluated(tree: ast.Module) -> Iterator[str]:
    """The names that are read outside annotations."""
    open_nodes: list[ast.AST] = [tree]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Name):
            yield node.id
        for field, value in ast.iter_fields(node):
            if field not in ("annotation", "returns"):
                children = value if isinstance(value, list) else [value]
                open_nodes += [c for c in children if isinstance(c, ast.AST)]


@cache
def _bound(source: bytes) -> frozenset[str]:
    """The names of a module; ``*`` among them if it may have more."""
    try:
        return frozenset(_module_names(ast.parse(source)))
    except (SyntaxError, ValueError):
        return frozenset("*")


def _module_names(tree: ast.Module, *, types: bool = False) -> Iterator[str]:
    """The names of a module, with those for type checkers alone if asked for."""
    open_nodes: list[ast.AST] = [tree]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield "*" if node.name == "__getattr__" else node.name
            continue  # its names are its own
        if isinstance(node, ast.Name) and node.id == "globals":
            yield "*"
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        if isinstance(node, ast.If) and not types and _is_for_types(node.test):
            open_nodes += node.orelse
        else:
            open_nodes += ast.iter_child_nodes(node)


def _is_for_types(condition: ast.expr) -> bool:
    return ast.unparse(condition) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports(
    nodes: Iterable[ast.AST], package: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """The name that each import binds, the module, and the name out of it, or ''."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield alias.asname or alias.name, module, alias.name


def _bound_otherwise(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that something else than an import binds, anywhere in the file."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _chains(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """The first name of each ``a.b.c`` that is read, and the rest."""
    for node in nodes:
        names: list[str] = []
        while isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names.append(node.attr)
            node = node.value
        if names and isinstance(node, ast.Name):
            yield node.id, ".".join(reversed(names))
