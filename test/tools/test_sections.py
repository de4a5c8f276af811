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
    {"a": "", "b": "no such name", "c": None, "d": "no such name", "e": ""},
    {"a": "", "b": "no such name", "c": None, "d": "", "e": "is broken"},
    {"a": "", "b": "", "c": None, "d": "is broken", "e": "is broken"},
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
    belongs, broken = sections.prove(["test/optim"])
    assert belongs == {"a": "", "b": "second"}
    assert broken == [
        "After 'first', e fails: is broken. It passed without the series.",
        "After 'second', d fails: is broken. It passed after 'first'.",
        "In the end, d fails: is broken",
        "In the end, e fails: is broken",
    ]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        "0 2 2 2 PyTorch as it is".split(),
        "1 1 2 2 first".split(),
        "2 1 2 2 second".split(),
    ]


def test_some_sections(capsys: pytest.CaptureFixture[str]) -> None:
    _, broken = sections.prove(["test/optim"], [0])
    assert broken == [f"In the end, {test} fails: no such name" for test in "bd"]
    assert "second" not in capsys.readouterr().out


def test_tests_of_the_branch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def run(
        torch: Path, changes: object, tests: list[str], sources: dict[str, bytes]
    ) -> dict[str, str | None]:
        assert sources.keys() >= {*tests}
        ran.append(tests)
        return OUTCOMES[len(ran) - 1]

    helper, test = "test/optim/_common.py", "test/optim/test_x.py"
    parts = [{helper: b"", test: b""}, {helper: b"", test: b"", f"{test}_y": b""}]
    monkeypatch.setattr(sections, "run", run)
    monkeypatch.setattr(
        sections.upstream_tests, "by_section", lambda titles: iter(parts)
    )
    broken = sections.prove_branch(["test/optim"])
    assert ran == [[test], [test, f"{test}_y"]]
    assert broken == [
        "After 'first', b fails: no such name",
        "After 'first', d fails: no such name",
        "After 'second', b fails: no such name",
        "After 'second', e fails: is broken",
    ]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == ["1 2 1 2 first".split(), "2 2 1 2 second".split()]

    ran.clear()
    sections.prove_branch(["test/optim"], [2])
    assert len(ran) == 1
    assert sections.prove_branch(["test/distributed"]) == []


def test_tests_from_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def pytest_of(
        python: str, tests: list[str], torch: Path, root: Path
    ) -> dict[str, str | None]:
        assert (root / tests[0]).read_bytes() == b"def test_a(): ...\n"
        assert root == torch != layout.ROOT
        return {"a": ""}

    monkeypatch.setattr(sections.proof, "pytest", pytest_of)
    monkeypatch.setattr(sections.view, "mirror", lambda *of: None)
    file = "test/optim/test_x.py"
    sources = {file: b"def test_a(): ...\n"}
    assert sections.run(Path(), {}, [file], sources) == {"a": ""}


def test_tests_that_are_skipped_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    runs = []

    def pytest_of(
        python: str, tests: list[str], torch: Path, root: Path
    ) -> dict[str, str | None]:
        runs.append(tests)
        answers: list[dict[str, str | None]] = [
            {"a": "", "b": "fails", "c": None, "d": None},
            {"c": None, "d": ""},
            {"c": None},
        ]
        return answers[len(runs) - 1]

    monkeypatch.setattr(sections.proof, "pytest", pytest_of)
    monkeypatch.setattr(sections.view, "mirror", lambda *of: None)
    found = sections.run(Path(), {}, ["file"])
    assert found == {"a": "", "b": "fails", "c": None, "d": ""}
    # "c" is skipped without a failure before it, too.
    assert runs == [["file"], ["c", "d"], ["c"]]


SOURCE = """\
class TestOne:
    def test_a(self): ...
    def test_a_b(self): ...

class TestOneMore:
    def test_a(self): ...
    def test_b(self): ...
    def test_c(self): ...
"""


def test_table() -> None:
    file = "test/optim/test_x.py"
    belongs = {
        f"{file}::TestOneCPU::test_a_SGD_cpu": "first",
        f"{file}::TestOneCPU::test_a_Adam_cpu": "second",
        f"{file}::TestOneCPU::test_a_b_SGD_cpu": "first",
        f"{file}::TestOneMore::test_a": "third",
        f"{file}::TestOneMore::test_c": "",
        "test/optim/test_y.py::TestOne::test_a": "second",
    }
    table = sections.table(belongs, {file: SOURCE}, ["first", "second", "third", "all"])
    assert table == (
        f"{sections._HEAD}\n[first]\n{file}\n\n[second]\n{file}::TestOne::test_a\n"
        f"\n[third]\n{file}::TestOneMore::test_a\n\n[all]\n{file}::TestOneMore::test_b\n"
    )
