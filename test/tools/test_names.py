"""Tests of tools.names: what is missing is found, and nothing else is."""

import pytest

from tools import names


PATH = "torch/optim/adam.py"

SOURCES = {
    "torch/__init__.py": b"def typename(o): ...\n",
    "torch/hub.py": b"from typing import TYPE_CHECKING\nload = 1\n"
    b"if TYPE_CHECKING:\n    from os import PathLike\n",
    "torch/_C.pyi": b"def _log(): ...\n",
    "torch/optim/__init__.py": b"from torch.optim import adam as adam\n",
    "torch/optim/_names/__init__.py": b"key = 1\n",
    "torch/open.py": b"def __getattr__(name): ...\n",
    "torch/namespace/module.py": b"",
}


def missing(source: str) -> set[str]:
    return names.missing(PATH, {**SOURCES, PATH: source.encode()})


@pytest.mark.parametrize(
    "source",
    [
        "def step():\n    return _foo\n",
        "class Adam:\n    def step(self):\n        return [_foo(p) for p in self.ps]\n",
        "def step():\n    _foo: int\n    return lambda: _foo\n_bar = _foo\n",
        "x: _foo = 1\n",
        "def step(lr=_foo): ...\n",
        "def step():\n    global _foo\n    return _foo\n",
        "def other():\n    _foo = 1\n\ndef step():\n    return _foo\n",
        # There for type checkers, but not when the code runs.
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from os import _foo\ndef step():\n    return _foo\n",
    ],
)
def test_name_that_nothing_defines(source: str) -> None:
    assert missing(source) == {"uses _foo, which nothing defines"}


@pytest.mark.parametrize(
    "source",
    [
        "def step():\n    return late, len, __name__, __file__\n\nlate = 1\n",
        "import os.path as p, sys\nfrom re import sub\ndef f(): return p, sys, sub\n",
        "try:\n    import fast\nexcept ImportError as e:\n    fast = None\n"
        "def f(): return fast, e\n",
        "for i in ():\n    pass\nwith open('') as f, open('') as (g, h):\n    pass\n"
        "def f2(): return i, f, g, h\n",
        "def f(a, *b, c=1, **d):\n    def g(): return a, b, c, d\n    return g\n",
        "class A:\n    x = 1\n    y = x\n    def f(self): return __class__\n",
        "if (n := 1):\n    pass\ndef f(): return n\n",
        "def f(): return missing\nglobals()['missing'] = 1\n",
        "def f(): return missing\nfrom torch.hub import *\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from os import PathLike\nelse:\n    PathLike = None\n"
        "def f() -> PathLike: return PathLike\n",
        "from __future__ import annotations\nimport typing\nif typing.TYPE_CHECKING:\n"
        "    from os import PathLike\n"
        "def f(a: PathLike) -> list[PathLike]:\n    b: PathLike = a\n",
        "this is no Python",
    ],
)
def test_names_that_are_there(source: str) -> None:
    assert missing(source) == set()


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        ("import torch.nowhere\n", ["imports torch.nowhere"]),
        ("from torch import nowhere\n", ["imports nowhere from torch"]),
        ("from ..hub import save\n", ["imports save from torch.hub"]),
        ("from torch.hub import PathLike\n", ["imports PathLike from torch.hub"]),
        (
            "from torch.optim import _names\ndef f(): return _names.keys.first\n",
            ["uses keys of torch.optim._names"],
        ),
        (
            "import torch\ndef f(): return torch.optim._names.keys()\n",
            ["uses keys of torch.optim._names"],
        ),
        (
            "import torch.hub as h\ndef f():\n    return h.load(h.save)\n",
            ["uses save of torch.hub"],
        ),
        (
            "def f():\n    from . import _names as n\n    return n.other, n.key\n",
            ["uses other of torch.optim._names"],
        ),
    ],
)
def test_what_torch_does_not_have(source: str, problems: list[str]) -> None:
    assert missing(source) == {f"{problem}, which is not there" for problem in problems}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ndef f(): return torch.typename, torch.optim.adam, torch._C._log\n",
        "import torch.hub\ndef f(): return torch.hub.load.cache.clear\n",
        "from torch.namespace import module\nimport torch.namespace\n",
        "import torch.open as o\ndef f(): return o.anything\n",
        # Not always the module.
        "from torch import hub\ndef f(hub): return hub.save\n",
        "from torch import hub\ndef f():\n    hub = 1\n    return hub.save\n",
        "try:\n    from torch import hub as h\nexcept ImportError:\n"
        "    from torch import optim as h\ndef f(): return h.save\n",
        "import torch.hub as h\nh.save = 1\n",
        "import numpy\nfrom os import path\ndef f(): return numpy.x, path.y\n",
    ],
)
def test_what_torch_has(source: str) -> None:
    assert missing(source) == set()


def test_file_that_is_not_there() -> None:
    assert names.missing("torch/other.py", SOURCES) == set()
