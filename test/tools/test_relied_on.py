"""Tests of tools.relied_on: a function that is another one is noticed."""

from pathlib import Path

import pytest

from tools import relied_on
from tools.errors import ToolError
from tools.releases import Release


SOURCE = '''\
class Adam:
    """Adam."""

    @staticmethod
    def load(state):
        """Load it."""
        # By name.
        return {"state": state}


def other():
    pass
'''

NEWER = Release("2.14.1", (3, 10))
RELEASE = Release("2.13.0", (3, 10))
OLDER = Release("2.10.0", (3, 10))
OLDEST = Release("2.9.1", (3, 10))

LIST = """\
# What the series relies on.
torch/adam.py Adam.load
  names.py gives it
  what it takes.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "relied-on").write_text(LIST)
    relied_on.record({RELEASE: sources()}, tmp_path)
    return tmp_path


def sources(*edit: str) -> dict[str, bytes]:
    source = SOURCE.replace(*edit) if edit else SOURCE
    assert not edit or source != SOURCE
    return {"torch/adam.py": source.encode()}


def problems(
    root: Path, sources: dict[str, bytes], release: Release = RELEASE
) -> list[str]:
    return relied_on.problems(relied_on.read(root), sources, release)


def test_list_as_it_is_written(root: Path) -> None:
    form = relied_on.form_of(SOURCE.encode(), "Adam.load")
    changed = sources('"state"', '"st"')
    other = relied_on.form_of(changed["torch/adam.py"], "Adam.load")
    assert (root / "relied-on").read_text() == f"{LIST}  {form} 2.13.0\n"
    more = {NEWER: changed, OLDEST: sources(), OLDER: {}}
    relied_on.record(more, root)
    relied_on.record({}, root)
    assert (root / "relied-on").read_text() == (
        f"{LIST}  {other} 2.14.1\n  {form} 2.13.0 2.9.1\n  absent 2.10.0\n"
    )
    assert problems(root, changed, NEWER) == []
    assert problems(root, {}, OLDER) == []


@pytest.mark.parametrize(
    "edit",
    [
        ("By name", "By its name"),
        ("# By name.", ""),
        ('"""Load it."""', '"""Load it.\n\n        By name.\n        """'),
        ("    pass", "    return 1"),
        ("Adam.", "The optimizer."),
        ("class Adam", "x = 1\n\n\nclass Adam"),
    ],
)
def test_change_that_does_not_matter(root: Path, edit: tuple[str, str]) -> None:
    assert problems(root, sources(*edit)) == []


@pytest.mark.parametrize(
    "edit",
    [
        ("return {", "return dict(state) or {"),
        ("(state)", "(state, strict=True)"),
        ("    @staticmethod\n", ""),
        ("\n\ndef other", "    load = None\n\n\ndef other"),
    ],
)
def test_change_upstream(root: Path, edit: tuple[str, str]) -> None:
    first, second = problems(root, sources(*edit))
    assert first == (
        "Adam.load in torch/adam.py was changed. The series relies on it (names.py gives "
        "it what it takes.): see whether it still may."
    )
    assert second == (
        "relied-on does not have the functions of PyTorch 2.13.0 as they are. If all is "
        "well with them, run 'python -m tools check --record'."
    )


@pytest.mark.parametrize("source", [{}, sources("load", "load2")])
def test_removal_upstream(root: Path, source: dict[str, bytes]) -> None:
    assert problems(root, source)[0].startswith("Adam.load in torch/adam.py is not the")


def test_release_that_is_not_recorded(root: Path) -> None:
    (problem,) = problems(root, sources(), NEWER)
    assert "does not have the functions of PyTorch 2.14.1" in problem


def test_release_with_the_patches_of_optimizers_alone(tmp_path: Path) -> None:
    text = "torch/adam.py other\n  why\ntorch/distributed/zero.py load\n  why\n"
    (tmp_path / "relied-on").write_text(text)
    relied_on.record({RELEASE: sources()}, tmp_path)
    alone = Release("2.6.0", (3, 10), optimizers_only=True)
    relied_on.record({alone: sources()}, tmp_path)
    assert (tmp_path / "relied-on").read_text().endswith("  absent 2.13.0\n")
    changed = {**sources(), "torch/distributed/zero.py": b"def load(): pass\n"}
    assert problems(tmp_path, changed, alone) == []
    assert "load in torch/distributed/zero.py was" in problems(tmp_path, changed)[0]
    assert problems(tmp_path, sources("pass", "return 1"), alone) != []


def test_no_list(tmp_path: Path) -> None:
    assert problems(tmp_path, sources()) == []


@pytest.mark.parametrize(
    "text",
    ["  why\n", "a.py\n", "a.py f\n  0123456789ab 2.13.0\n  why\n", "a.py f\n x"],
)
def test_line_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "relied-on").write_text(f"# A list.\n{text}")
    with pytest.raises(ToolError, match=r"Line \d of .*relied-on cannot be read"):
        relied_on.read(tmp_path)
