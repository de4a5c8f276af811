"""Tests of test/releases.py: what it reads from runs, and what it writes."""

import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tools import layout, releases


_FILE = layout.ROOT / "test" / "releases.py"
_SPEC = importlib.util.spec_from_file_location("prove", _FILE)
assert _SPEC is not None and _SPEC.loader is not None
prove: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(prove)

REPORT = """\
<testsuites><testsuite>
<testcase classname="test.optim.test_x.TestX" name="test_a_cpu"/>
<testcase classname="test.optim.test_x.TestX" name="test_b">
  <failure message="AssertionError: 1 != 2&#10;more">text</failure></testcase>
<testcase classname="test.optim.test_x.TestX" name="test_k">
  <failure message="KeyError: 'sum\\n\\nTo execute"/></testcase>
<testcase classname="test.optim.test_x.TestX" name="test_c[1]">
  <skipped message="no"/></testcase>
<testcase classname="" name="test.optim.test_y"><error message="ImportError: z"/>
</testcase></testsuite></testsuites>
"""


def test_report_of_pytest() -> None:
    found = dict(prove.outcomes(ET.fromstring(REPORT), "test/x.py"))
    assert found == {
        "test/x.py::TestX::test_a_cpu": "",
        "test/x.py::TestX::test_b": "AssertionError: 1 != 2",
        "test/x.py::TestX::test_k": "KeyError: 'sum",
        "test/x.py::TestX::test_c[1]": None,
        "test/x.py": "ImportError: z",
    }


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("def test_a(): pass\ndef test_b(): assert 0", {"test_a": "", "test_b": "ass"}),
        ("import nowhere", {"": "collection failure"}),
        ("import os\nos._exit(3)", {"": "ended with status 3"}),
    ],
)
def test_run_of_a_file(tmp_path: Path, script: str, expected: dict[str, str]) -> None:
    (tmp_path / "test_x.py").write_text(script)
    found = prove.pytest(sys.executable, [str(tmp_path / "test_x.py")])
    assert len(found) == len(expected)
    for (test, text), (name, words) in zip(found.items(), expected.items()):
        assert test.endswith(f"::{name}" if name else "test_x.py")
        assert text == words or words and text.startswith(words)


def test_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "known").write_text("# Why.\n2.1?.1  *::test_b*  It is slow.\n")
    monkeypatch.setattr(prove, "KNOWN", tmp_path / "known")
    failed = {
        "x.py::T::test_b": {"message": "a", "stock": None},
        "x.py::T::test_c": {"message": "a", "stock": "a"},
        "x.py::T::test_d": {"message": "a", "stock": ""},
    }
    results = [{"failed": failed}]
    unknown = {
        "No reason is known: a; on the release itself: a": ["x.py::T::test_c"],
        "No reason is known: a; on the release itself: it passes or is skipped": [
            "x.py::T::test_d"
        ],
    }
    assert prove.explained("2.14.1", results) == {
        "It is slow.": ["x.py::T::test_b"],
        **unknown,
    }
    assert list(prove.explained("2.14.0", results)) == [*reversed(unknown)]


def test_page_keeps_other_releases() -> None:
    first = ["2.13.0", "0", "all", "5", "1", "1", "2026-01-01"]
    page = prove.updated("", first, {"It is slow.": ["test/x.py::T::test_b"]})
    second = ["2.14.1", "2", "all", "6", "0", "0", "2026-01-02"]
    page = prove.updated(page, second, {})
    row = "| 2.14.1 | 2 | all | 6 | 0 | 0 | 2026-01-02 |\n| 2.13.0 | 0 | all | 5 | 1 | 1 |"
    assert row in page
    assert page.endswith("\n## 2.13.0\n\n* It is slow.\n\n  `x.py::T::test_b`\n")
    assert prove.updated(page, second, {}) == page
    assert "## 2.13.0" not in prove.updated(page, first, {})
    many = {"It is slow.": [f"test/x.py::T::test_{i}" for i in range(prove.MOST + 2)]}
    page = prove.updated(page, first, many)
    assert page.endswith(f"  `x.py::T::test_{prove.MOST - 1}`\n  and 2 more\n")
    assert prove.updated(page, second, {}) == page


def test_environment_for_another_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BUILD", tmp_path)
    with pytest.raises(prove.ToolError, match=r"2\.99\.0 needs Python 3\.99 or later"):
        prove.environment(releases.Release("2.99.0", (3, 99)))
