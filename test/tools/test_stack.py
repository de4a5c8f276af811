"""Tests of tools.stack: what each section brings."""

import pytest
from small_torch import SOURCES, Workplace

from tools import series, stack
from tools.errors import ToolError


PACKAGE = "torch/optim/_names/"

INIT = '''\
"""Names.

The modules:

* :mod:`~torch.optim._names.keys` makes keys of names that are rather long, so that
  the item has two lines;
* :mod:`~torch.optim._names.files` reads
  files.

More about :mod:`~torch.optim._names.files`.

All are functions.
"""

from torch.optim._names.files import read, write
from torch.optim._names.keys import a_function_with_a_long_name, key, Keys
from torch.optim._names.more.deep import deep


__all__ = [
    "Keys",
    "a_function_with_a_long_name",
    "deep",
    "key",
    "read",
    "write",
]
'''

OVERLAY = {
    f"{PACKAGE}__init__.py": INIT.encode(),
    f"{PACKAGE}files.py": b"from .texts import text\nread = write = 1\n",
    f"{PACKAGE}keys.py": b"key = Keys = a_function_with_a_long_name = 1\n",
    f"{PACKAGE}more/__init__.py": b'"""More."""\n',
    f"{PACKAGE}more/deep.py": b"import torch.optim._names.texts\ndeep = 1\n",
    f"{PACKAGE}texts.py": b"from torch.optim._names.keys import key\ntext = 1\n",
}


def needed(source: str) -> dict[str, str]:
    found = stack.needed({"torch/optim/a.py": source.encode()}, OVERLAY)
    return {path.removeprefix(PACKAGE): text.decode() for path, text in found.items()}


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import torch.hub\n", []),
        ("from torch.optim._names import keys\n", ["keys"]),
        ("from ._names.keys import key\n", ["keys"]),
        ("from ._names import key as k\n", ["keys"]),
        ("from torch.optim import _names\n_names.key\n", ["keys"]),
        ("from torch.optim import _names\nx: _names.Keys\n", ["keys"]),
        ("import torch\ntorch.optim._names.key\n", ["keys"]),
        ("from torch.optim import _names\n_names.read\n", ["files", "keys", "texts"]),
        (
            "from ._names.more import deep\n",
            ["keys", "more/__init__", "more/deep", "texts"],
        ),
        (
            "from torch.optim import _names\ndef f():\n    _names.deep()\n",
            ["keys", "more/__init__", "more/deep", "texts"],
        ),
    ],
)
def test_modules_that_are_used(source: str, modules: list[str]) -> None:
    names = ["__init__", *modules] if modules else []
    assert list(needed(source)) == [f"{name}.py" for name in names]


def test_package_of_which_all_is_used() -> None:
    names = ("Keys", "a_function_with_a_long_name", "deep", "key", "read", "write")
    source = f"from torch.optim._names import {', '.join(names)}\n"
    assert needed(source)["__init__.py"] == INIT


def test_package_of_which_a_part_is_used() -> None:
    init = needed("from torch.optim._names import key, Keys\n")["__init__.py"]
    assert (
        init
        == '''\
"""Names.

The modules:

* :mod:`~torch.optim._names.keys` makes keys of names that are rather long, so that
  the item has two lines.

All are functions.
"""

from torch.optim._names.keys import key, Keys


__all__ = [
    "Keys",
    "key",
]
'''
    )


def test_package_of_which_no_name_is_used() -> None:
    init = needed("from torch.optim._names.keys import key\n")["__init__.py"]
    assert init.endswith('All are functions.\n"""\n')
    assert "import" not in init


def test_imports_that_fill_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_COLUMNS", 40)
    init = needed("from torch.optim._names import key, Keys\n")["__init__.py"]
    lines = "from torch.optim._names.keys import (\n    key,\n    Keys,\n)\n"
    assert lines in init


def test_steps(workplace: Workplace) -> None:
    path = "torch/optim/adam.py"
    overlay = {"torch/optim/_names/__init__.py": b"names = 1\n"}
    first, second = stack.steps(
        series.sections(root=workplace.patches), SOURCES, overlay
    )
    assert (first.section.title, second.section.title) == (
        "Name the first",
        "Name the second",
    )
    assert b"by name" in (first.patched[path] or b"")
    assert b"named=0" not in (first.patched[path] or b"")
    assert first.overlay == {}
    for name, new in second.patched.items():
        assert new == (workplace.tree / name).read_bytes()
    assert second.overlay == overlay  # all that is left


def test_step_that_does_not_apply(workplace: Workplace) -> None:
    path = "torch/optim/optimizer.py"
    sources = {**SOURCES, path: SOURCES[path].replace(b"line_49 = 49", b"line_49 = 0")}
    with pytest.raises(ToolError, match=r"0002-Name-the-second\.patch does not apply"):
        [*stack.steps(series.sections(root=workplace.patches), sources, {})]
