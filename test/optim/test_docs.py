# Owner(s): ["module: optimizer"]

"""The documents are true: their Python blocks run, and print what they show.

Each block of Python in README.md and docs/*.md is a test of its own. It runs in an
empty folder, after the blocks under the page's heading "Setup", and must raise and
warn of nothing. Where a block of ``text`` follows it immediately, that is what it
prints. An error that ends it, and warnings, are printed as well then: their types
and texts. Line breaks and other white space do not matter.

A block of Python that starts with ``{`` is no code, but a state dict.
"""

import ast
import contextlib
import io
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from _guard import require_patched_torch


require_patched_torch()

import torch  # noqa: E402
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402
from torch.testing._internal.common_utils import (  # noqa: E402
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
    TestCase,
)


ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "test" / "consumers.md",
]

#: What the README, which is no place for a setup, takes for granted.
README_SETUP = """
from collections import OrderedDict

import torch
from torch import nn

model = nn.Sequential(OrderedDict(encoder=nn.Linear(2, 3), head=nn.Linear(3, 1)))
optimizer = torch.optim.AdamW(model.named_parameters(), lr=1e-3)
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
saved = optimizer.state_dict()
"""


class Block(NamedTuple):
    """A block of Python in a document."""

    page: Path
    #: The number of the line before it, which is the number of lines above it.
    line: int
    #: The last heading above it.
    heading: str
    code: str
    #: What it prints; None if nothing says so.
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    """Read the Python blocks of a document.

    Args:
        page (Path): of a Markdown file.

    Returns:
        list of Block: in their order.
    """
    blocks: list[Block] = []
    heading, language, body = page.stem, None, []
    follows_python = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if language is not None:
            if line != "```":
                body.append(line)
                continue
            text = "\n".join(body)
            if language == "python":
                start = number - 1 - len(body)
                blocks.append(Block(page, start, heading, text, None))
            elif language == "text" and follows_python:
                blocks[-1] = blocks[-1]._replace(output=text)
            follows_python = language == "python"
            language = None
        elif line.startswith("```"):
            language, body = line[3:].strip(), []
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif line:
            follows_python = False
    if language is not None:
        raise ValueError(f"{page} ends in a block. Please close it with a line of ```.")
    return blocks


def run(block: Block, setup: str) -> str:
    """Run a block.

    Args:
        block (Block): a block of Python.
        setup (str): code to be run before.

    Returns:
        str: what the block prints, and the types and texts of its warnings and of
        the error that ended it.

    Raises:
        Exception: what the block raises, if nothing says what it prints.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(setup, f"setup of {block.page.name}", "exec"), namespace)
    # So that a traceback has the line of the document.
    code = compile("\n" * block.line + block.code, str(block.page), "exec")
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # They are about what torch uses itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Blocks about distributed checkpoints run in one process, too.
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        with contextlib.redirect_stdout(printed):
            try:
                exec(code, namespace)
            except Exception as error:
                if block.output is None:
                    raise
                print(f"{type(error).__name__}: {error}")
    return printed.getvalue() + "\n".join(
        f"{warning.category.__name__}: {warning.message}" for warning in caught
    )


def slug(heading: str) -> str:
    """The anchor of a heading, as in a link."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def identifier(page: Path, heading: str = "") -> str:
    """The part of a test's name that says what it is about."""
    path = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", " ")
    return slug(f"{path} {heading}".strip()).replace("-", "_")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHOWN = [block for block in BLOCKS if block.code.startswith("{")]


def _setup_of(page: Path) -> str:
    if page == ROOT / "README.md":
        return README_SETUP
    return "\n".join(b.code for b in BLOCKS if b.page == page and b.heading == "Setup")


def _subtests() -> list[Any]:
    found: dict[str, int] = {}
    subtests = []
    for block in BLOCKS:
        if block in SHOWN:
            continue
        name = identifier(block.page, block.heading)
        found[name] = found.get(name, 0) + 1
        if found[name] > 1:
            name = f"{name}_{found[name]}"
        subtests.append(subtest(block, name=name))
    return subtests


class TestDocs(TestCase):
    """Everything in the documents that can be checked."""

    def in_an_empty_folder(self) -> None:
        """Change to an empty folder until the test is over."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def check(self, block: Block, setup: str) -> None:
        """Run a block and compare what it prints."""
        printed = run(block, setup)
        where = f"{block.page}:{block.line + 1}"
        if block.output is not None:
            self.assertEqual(
                printed.split(), block.output.split(), f"{where}\n{printed}"
            )
        else:
            self.assertNotIn("Warning: ", printed, where)

    @parametrize("block", _subtests())
    def test_block(self, block):
        self.in_an_empty_folder()
        self.check(block, "" if block.heading == "Setup" else _setup_of(block.page))

    def test_state_dicts_that_are_shown(self):
        first = next(block for block in BLOCKS if block.page == ROOT / "README.md")
        namespace: dict[str, Any] = {}
        exec(README_SETUP + first.code, namespace)
        named, model = namespace["optimizer"], namespace["model"]
        model(torch.ones(1, 2)).sum().backward()
        unnamed = type(named)(model.parameters(), lr=0.1, momentum=0.9)
        self.assertEqual(len(SHOWN), 2)
        for block, optimizer in zip(SHOWN, (unnamed, named)):
            optimizer.step()
            actual = optimizer.state_dict()
            code = block.code.replace("tensor(...)", "...")
            shown = ast.literal_eval(re.sub(r"(?m)^ *\.\.\.\n", "", code))
            keys = {key: list(state) for key, state in actual["state"].items()}
            self.assertEqual({k: list(v) for k, v in shown["state"].items()}, keys)
            for group, shown_group in zip(
                actual["param_groups"], shown["param_groups"], strict=True
            ):
                self.assertEqual({key: group[key] for key in shown_group}, shown_group)

    @parametrize("optim_info", [subtest(i, name=i.name) for i in optim_db])
    def test_table_of_shapes(self, optim_info):
        page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
        section = page.partition("## Shapes of state\n")[2].partition("\n## ")[0]
        rows = [line.split("|")[1:3] for line in section.splitlines() if "|" in line]
        (checked,) = [
            tuple(re.findall(r"`(\w+)`", entries))
            for names, entries in rows
            if optim_info.name in re.findall(r"\w+", names)
        ]
        self.assertEqual(checked, optim_info.optim_cls._state_entries.param_shaped)

    @parametrize("page", [subtest(page, name=identifier(page)) for page in PAGES])
    def test_links(self, page):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            self.assertTrue(file.exists(), f"{page}: {target}")
            if anchor:
                headings = re.findall(
                    r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE
                )
                self.assertIn(anchor, [slug(h) for h in headings], f"{page}: {target}")

    @parametrize(
        "code, output, fails",
        [
            subtest(("assert 1 == 2", None, True), name="wrong_assertion"),
            subtest(("undefined", None, True), name="error"),
            subtest(
                ("import warnings; warnings.warn('x')", None, True), name="warning"
            ),
            subtest(("print(1)", "2", True), name="other_output"),
            subtest(("1", "ValueError: x", True), name="no_error"),
            subtest(
                ("raise ValueError('x')", "ValueError: x", False), name="its_error"
            ),
            subtest(("print(1)", None, False), name="output_that_is_not_shown"),
        ],
    )
    def test_a_broken_block_fails(self, code, output, fails):
        self.in_an_empty_folder()
        page = Path("page.md").resolve()
        shown = "" if output is None else f"\n```text\n{output}\n```\n"
        page.write_text(f"# A\n\n```python\n{code}\n```\n{shown}", encoding="utf-8")
        (block,) = blocks_of(page)
        context = self.assertRaises(Exception) if fails else contextlib.nullcontext()
        with context:
            self.check(block, "")


instantiate_parametrized_tests(TestDocs)


if __name__ == "__main__":
    run_tests()
