"""Tests of tools.upstream_tests: which tests each pull request brings."""

import ast
from pathlib import Path

from small_torch import write

from tools import layout, names, series, upstream_tests


SOURCE = '''\
# Owner(s): ["module: optimizer"]

"""Tests."""

import os
import sys

from _common import first, second

import torch
from torch import nn


# What one test uses.
ONE: int = first

BOTH = second


def helper():
    return BOTH


class Base:
    """No tests."""


class TestOne(Base):
    """Two tests."""

    def test_a(self):
        return ONE, sys

    # Says what it tests.
    @second
    def test_b(self):
        return helper(), os


class TestTwo:
    def test_c(self):
        return nn.Linear


instantiate(TestOne)
instantiate(TestTwo)


if __name__ == "__main__":
    run()
'''

WITH_A = '''\
# Owner(s): ["module: optimizer"]

"""Tests."""

import sys

from _common import first


# What one test uses.
ONE: int = first


class Base:
    """No tests."""


class TestOne(Base):
    """Two tests."""

    def test_a(self):
        return ONE, sys


instantiate(TestOne)


if __name__ == "__main__":
    run()
'''

A, B, C = ("TestOne", "test_a"), ("TestOne", "test_b"), ("TestTwo", "test_c")


def test_some_tests_and_what_they_use() -> None:
    assert upstream_tests.tests_of(SOURCE) == [A, B, C]
    assert upstream_tests.only(SOURCE, {A}) == WITH_A
    assert upstream_tests.only(SOURCE, {A, B, C}) == SOURCE
    assert upstream_tests.only(SOURCE, set()) == ""


def test_imports_that_become_shorter() -> None:
    long = [f"a_name_of_some_length_{number}" for number in range(9)]
    listed = "".join(f"    {name},\n" for name in long)
    used = ", ".join(long[:2])
    source = (
        f"from _common import (\n{listed})\n\n\nclass TestOne:\n"
        f"    def test_a(self):\n        return {used}\n\n"
        f"    def test_b(self):\n        return {', '.join(long)}\n"
    )
    assert upstream_tests.only(source, {A}) == (
        f"from _common import {used}\n\n\nclass TestOne:\n"
        f"    def test_a(self):\n        return {used}\n"
    )
    more = source.replace(f"return {used}\n", f"return {', '.join(long[1:])}\n")
    assert upstream_tests.only(more, {A}).startswith(
        f"from _common import (\n{listed.partition(chr(10))[2]})\n\n\nclass"
    )


def test_imports_that_do_more() -> None:
    source = (
        "from _setup import first, join  # usort: skip\n\n\nclass TestOne:\n"
        "    def test_a(self): ...\n\n    def test_b(self):\n        join()\n\n"
        "    def test_c(self):\n        first()\n"
    )
    for kept, line in (
        (A, "import _setup  # noqa: F401, usort: skip"),
        (B, "from _setup import join  # usort: skip"),
    ):
        assert upstream_tests.only(source, {kept}).startswith(f"{line}\n\n\nclass")


def test_a_test_that_uses_the_class_of_another() -> None:
    source = (
        "class TestOne:\n    def helper(self): ...\n\n    def test_a(self): ...\n\n\n"
        "class TestTwo:\n    def test_c(self):\n        TestOne.helper(self)\n\n\n"
        "instantiate(TestOne)\ninstantiate(TestTwo)\n"
    )
    assert upstream_tests.only(source, {C}) == (
        "class TestOne:\n    def helper(self): ...\n\n\n"
        "class TestTwo:\n    def test_c(self):\n        TestOne.helper(self)\n\n\n"
        "instantiate(TestTwo)\n"
    )


def test_sections(tmp_path: Path) -> None:
    other = "import _other\n\n\nclass TestOne:\n    def test_a(self): ...\n"
    write(
        tmp_path,
        {
            "test/sections.txt": (
                "# A comment.\n\n[one]\ntest/optim/test_x.py\n\n"
                "[two]\ntest/optim/test_x.py::TestOne::test_b\n"
                "[three]\ntest/optim/test_x.py::TestTwo\n"
            ),
            "test/optim/test_x.py": SOURCE,
            "test/optim/test_y.py": other,
            "test/optim/_common.py": "import _more",
            "test/optim/_more.py": "",
            "test/optim/_other.py": "",
        },
    )
    titles = ["one", "without", "two", "three"]
    one, same, two, three = upstream_tests.by_section(titles, tmp_path)
    assert same == one
    assert one.keys() == {
        f"test/optim/{name}.py" for name in ("test_x", "_common", "_more")
    }
    assert one["test/optim/test_x.py"].decode() == WITH_A
    # What the table does not have comes last.
    assert two.keys() == one.keys()
    assert upstream_tests.tests_of(two["test/optim/test_x.py"].decode()) == [A, B]
    assert three == upstream_tests.upstream_tests(tmp_path)
    # A release for which the series has no section "one"
    (two, _) = upstream_tests.by_section(["two", "three"], tmp_path)
    assert upstream_tests.tests_of(two["test/optim/test_x.py"].decode()) == [A, B]


def test_tests_that_move_need_no_file_that_stays() -> None:
    moving = upstream_tests.upstream_tests()
    stay = {Path(path).stem for path in upstream_tests.TIED}
    for path, source in moving.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in stay, path
            elif isinstance(node, ast.Import):
                assert stay.isdisjoint(a.name for a in node.names), path
    assert "test/optim/test_named_load.py" in moving
    for path in upstream_tests.TIED:
        assert (layout.ROOT / path).is_file()


def test_each_section_has_what_its_tests_use() -> None:
    titles = [section.title for section in series.sections()]
    sizes = []
    for tests in upstream_tests.by_section(titles):
        for path in tests:
            missing = names.missing(path, tests)
            assert not [text for text in missing if "nothing defines" in text], path
        sizes.append(sum(map(len, tests.values())))
    assert sizes == sorted(sizes)
    # Most come before the last one.
    assert sizes[-2] > 0.9 * sizes[-1]


def test_table_is_of_the_tests_and_the_series() -> None:
    table = upstream_tests.table()
    assert {*table.values()} <= {section.title for section in series.sections()}
    moving = upstream_tests.upstream_tests()
    for entry in table:
        path, *test = entry.split("::")
        tests = upstream_tests.tests_of(moving[path].decode())
        assert any(list(found[: len(test)]) == test for found in tests), entry
