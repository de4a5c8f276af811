"""Tests of test/sections.py: where tests of the series begin to pass."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import layout, releases


sys.path.insert(0, str(layout.ROOT / "test"))

import sections

from tools.series import Section


#: After each section, what its tests say: nothing if they pass.
OUTCOMES: list[dict[str, str | None]] = [
    {"a": "", "b": "no such name", "c": None, "d": ""},
    {"a": "", "b": "", "c": None, "d": "is broken"},
]


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [
        SimpleNamespace(section=Section(title, []), patched={}, overlay={})
        for title in ("first", "second")
    ]
    outcomes = iter(OUTCOMES)
    look = SimpleNamespace(release=releases.DEFAULT)
    monkeypatch.setattr(sections.installed, "look", lambda torch: look)
    monkeypatch.setattr(
        sections.installed, "installed_torch", lambda: SimpleNamespace(folder=Path())
    )
    monkeypatch.setattr(sections.fetch, "python_files", lambda release: Path())
    monkeypatch.setattr(sections.tree, "wheel_sources", lambda wheel, release: {})
    monkeypatch.setattr(sections.stack, "steps", lambda *series: iter(steps))
    monkeypatch.setattr(sections, "run", lambda *torch_and_tests: next(outcomes))


def test_tests_that_begin_to_pass_and_that_break(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sections.prove(["test/optim"]) == [
        "After 'second', d fails: is broken. It passed after 'first'.",
        "In the end, d fails: is broken",
    ]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [["1", "2", "2", "1", "first"], ["2", "1", "2", "1", "second"]]


def test_some_sections(capsys: pytest.CaptureFixture[str]) -> None:
    assert sections.prove(["test/optim"], [1]) == ["In the end, b fails: no such name"]
    assert "second" not in capsys.readouterr().out
