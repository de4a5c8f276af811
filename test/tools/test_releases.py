"""Tests of tools.releases: which releases the series is for."""

from pathlib import Path

import pytest
from small_torch import write

from tools import releases
from tools.errors import ToolError
from tools.releases import Release


LISTED = [
    Release("2.15.0", (3, 11)),
    Release("2.9.1", (3, 10)),
    Release("2.6.0", (3, 10), optimizers_only=True),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, {"releases": releases.listed(reversed(LISTED))})
    return tmp_path


def test_newest_first(root: Path) -> None:
    assert releases.supported(root) == LISTED
    assert releases.newest(root) == LISTED[0]


def test_default_is_supported() -> None:
    assert releases.find(releases.DEFAULT).version == releases.DEFAULT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "releases is missing"),
        ("# None.\n", "lists no release"),
        ("2.13.0  python 3.10\n2.14  python 3.10\n", "Line 2 of .* is '2.14  python"),
        ("2.6.0  python 3.10  all\n", "Line 1 .*may end with 'optimizers'"),
        ("2.13.0\n", "Line 1 of .* is '2.13.0'; .*such as '2.13.0  python 3.10'"),
    ],
)
def test_bad_list(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path, {} if content is None else {"releases": content})
    with pytest.raises(ToolError, match=message):
        releases.supported(tmp_path)


def test_find(root: Path) -> None:
    assert releases.find("2.9.1+cu130", root) == LISTED[1]
    with pytest.raises(
        ToolError, match=r"2\.14\.0 is not supported.*2\.15\.0, 2\.9\.1, 2\.6\.0:"
    ):
        releases.find("2.14.0", root)
    with pytest.raises(ToolError, match=r"torch 2\.16\.0a0\+git1 is no release"):
        releases.find("2.16.0a0+git1", root)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.10.0", (2, 10, 0)),
        ("2.9.1+cpu", (2, 9, 1)),
        ("2.16.0a0", ()),
        ("2.15.0rc1", ()),
        ("bases", ()),
    ],
)
def test_order(version: str, expected: tuple[int, ...]) -> None:
    assert releases.order(version) == expected
