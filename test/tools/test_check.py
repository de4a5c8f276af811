"""Tests of tools.check: each check passes, and catches what it is for."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_torch import ADAM, RELEASE, SOURCES, Workplace, write, write_wheel
from test_series import LITTER
from test_tree import lose_a_hunk

from tools import __main__ as command_line
from tools import check, export, layout, names, releases, relied_on, series


Edit = tuple[str, str]


def subject(workplace: Workplace, **sources: bytes) -> check.Subject:
    return check.Subject(
        RELEASE,
        {**SOURCES, **sources},
        series.patches(root=workplace.patches),
        patches_root=workplace.patches,
        overlay_root=workplace.overlay,
    )


def edited(workplace: Workplace, path: str, *edits: Edit) -> check.Subject:
    """The subject after one more patch."""
    for old, new in edits:
        workplace.edit(path, old, new)
    workplace.commit("Name the third\n\nWhy not.")
    workplace.export()
    return subject(workplace)


@pytest.mark.parametrize("find_problems", check.CHECKS.values(), ids=check.CHECKS)
def test_good_series_passes(
    workplace: Workplace, find_problems: Callable[[check.Subject], list[str]]
) -> None:
    assert find_problems(subject(workplace)) == []


def test_empty_series_passes(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    workplace.materialize()
    workplace.export()
    found = dict(check.report([subject(workplace)]))
    assert found == dict.fromkeys(check.CHECKS, [])


def test_series_that_does_not_apply(workplace: Workplace) -> None:
    path = "torch/optim/optimizer.py"
    other = SOURCES[path].replace(b"line_49 = 49", b"line_49 = 0")
    (problem,) = check.applies(subject(workplace, **{path: other}))
    assert f"{path} in PyTorch 2.13.0 is not the file that" in problem


@pytest.mark.parametrize(
    ("path", "edit"),
    [
        ("patches/0001-Name-the-first.patch", (b"+line_five", b"+line_V")),
        ("patches/0002-Name-the-second.patch", (b"either.\n", b"either. \n")),
        ("patches/0002-Name-the-second.patch", (b"Date: ", b"X-A: b\nDate: ")),
        (
            "patches/0002-Name-the-second.patch",
            (b"\ndiff", b"---\n adam.py | 2\n\ndiff"),
        ),
        ("patches/series", (b"second.patch\n", b"second.patch   # why\n")),
    ],
)
def test_no_fixed_point(
    workplace: Workplace, path: str, edit: tuple[bytes, bytes]
) -> None:
    file = workplace.root / path
    before = file.read_bytes()
    file.write_bytes(before.replace(*edit, 1))
    assert file.read_bytes() != before
    problems = check.is_fixed_point(subject(workplace))
    assert any(file.name in problem for problem in problems), problems


def test_check_of_the_fixed_point_leaves_the_tree_alone(workplace: Workplace) -> None:
    write(workplace.tree, {"torch/hub.py": "edited = 1\n"})
    written = workplace.written()
    assert check.is_fixed_point(subject(workplace)) == []
    assert workplace.written() == written
    assert (workplace.tree / "torch/hub.py").read_text() == "edited = 1\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("torch/hub.py", "is PyTorch's file torch/hub.py"),
        ("torch/Hub.py", "is PyTorch's file torch/hub.py"),
        ("torch/optim/adam/keys.py", "hides PyTorch's module torch/optim/adam.py"),
        ("torch/optim.py", "has the name of a package of PyTorch"),
    ],
)
def test_overlay_that_is_not_new(workplace: Workplace, path: str, message: str) -> None:
    write(workplace.overlay, {path: ""})
    (problem,) = check.overlay_is_new(subject(workplace))
    assert message in problem


@pytest.mark.parametrize(
    "path",
    [
        *(f"torch/csrc/adam{suffix}" for suffix in (".cpp", ".cu", ".cuh", ".h", ".c")),
        "aten/src/ATen/native/mps/kernels/Adam.metal",
        "aten/src/ATen/native/mps/Adam.mm",
        "test/cpp/adam.cpp",
        "CMakeLists.txt",
    ],
)
def test_patch_of_a_kernel(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"0001-a.patch": f"diff --git a/{path} b/{path}\n"})
    patch = series.Patch("0001-a.patch", tmp_path / "0001-a.patch")
    (problem,) = check.touches_python_only(check.Subject(RELEASE, {}, [patch]))
    assert f"0001-a.patch touches {path}" in problem.replace("the compiled source ", "")


@pytest.mark.parametrize(
    "path", ["torch/a.py", "torch/a.pyi", "docs/source/optim.md", "test/data.json"]
)
def test_patch_of_python(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"0001-a.patch": f"diff --git a/{path} b/{path}\n"})
    patch = series.Patch("0001-a.patch", tmp_path / "0001-a.patch")
    assert check.touches_python_only(check.Subject(RELEASE, {}, [patch])) == []


INNER = "_multi_tensor_inner"


@pytest.mark.parametrize(
    ("problem", "edits"),
    [
        ("changes _single_tensor_adam in", [("param - lr for", "param - 2 * lr for")]),
        ("changes _single_tensor_adam in", [("# The step", "# A step")]),
        ("changes _single_tensor_adam in", [("lr=0.1", "lr=0.2")]),
        ("changes _single_tensor_adam in", [("@_compiled\n", "")]),
        (f"changes adam.{INNER} in", [(f"{INNER}(params):", f"{INNER}(params, /):")]),
        ("changes Adam._fused_check in", [("bool(params)", "not params")]),
        (
            "changes _fused_adam in",
            [("_fused_adam = _single", "_fused_adam = 0 or _single")],
        ),
        (
            "adds _fused_new to",
            [("def _compiled", "def _fused_new():\n    pass\n\n\ndef _c")],
        ),
        (
            "adds Adam._single_tensor_x to",
            [("def step", "_single_tensor_x = 1\n\n    def step")],
        ),
        ("removes _fused_adam from", [("\n\n_fused_adam = _single_tensor_adam\n", "")]),
        (
            "adds _single_tensor_adam to",
            [
                (
                    "def _compiled",
                    "async def _single_tensor_adam(): ...\n\n\ndef _compiled",
                )
            ],
        ),
    ],
)
def test_step_functions(workplace: Workplace, problem: str, edits: list[Edit]) -> None:
    found = check.steps_are_unchanged(edited(workplace, "torch/optim/adam.py", *edits))
    # A second definition changes what the name stands for.
    problem = problem.replace(
        "adds _single_tensor_adam to", "changes _single_tensor_adam in"
    )
    assert found == [f"The series {problem} torch/optim/adam.py."]


def test_moved_step_function_is_unchanged(workplace: Workplace) -> None:
    edit = ('"""Choose how to compute the step."""', '"""Choose."""\n    del lr\n')
    after = edited(workplace, "torch/optim/adam.py", edit)
    assert check.steps_are_unchanged(after) == []


def test_removed_file_with_step_functions(workplace: Workplace) -> None:
    workplace.git("rm", "-q", "torch/optim/adam.py")
    workplace.commit("Remove\n\nWhy not.")
    workplace.export()
    problems = check.steps_are_unchanged(subject(workplace))
    assert (
        "The series removes _single_tensor_adam from torch/optim/adam.py." in problems
    )
    assert ADAM.count("_single_tensor_adam(") == 2  # a call is no definition
    assert len(problems) == 4


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"From 0", b"Form 0", "does not start with a 'From' line"),
        (b"From: optim-names contributors", b"From: A Person", "is by A Person <"),
        (b"Date: ", b"X-Date: ", "has no Date header"),
        (b"Subject: ", b"X-Subject: ", "has no Subject header"),
        (b"Name the first", b"Name the first" * 6, "has a subject of 84 columns"),
        (b"\nIt had no name.\n", b"", "has no message below its subject"),
    ],
)
def test_messages(workplace: Workplace, old: bytes, new: bytes, problem: str) -> None:
    file = workplace.patches / "0001-Name-the-first.patch"
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    (found,) = check.messages_are_complete(subject(workplace))
    assert found.startswith(f"0001-Name-the-first.patch {problem}")


def test_folded_subject_is_measured_whole(workplace: Workplace) -> None:
    workplace.edit("torch/hub.py", "1", "2")
    workplace.commit("Word " * 14 + "xx\n\nWhy not.")
    workplace.export()
    assert check.messages_are_complete(subject(workplace)) == []
    workplace.git("commit", "-q", "--amend", "-m", "Word " * 14 + "xxx\n\nWhy not.")
    workplace.export()
    (problem,) = check.messages_are_complete(subject(workplace))
    assert "has a subject of 73 columns" in problem


def test_patched_file_that_does_not_compile(workplace: Workplace) -> None:
    after = edited(workplace, "torch/hub.py", ("hub = 1\n", "hub = 1\nhub = = 2\n"))
    (problem,) = check.compiles(after)
    assert problem.startswith("torch/hub.py, line 2: ")
    assert check.steps_are_unchanged(after) == []


@pytest.mark.parametrize("source", ["def x(:\n", "try:\n    x\nexcept* E:\n    y\n"])
def test_overlay_that_does_not_compile(workplace: Workplace, source: str) -> None:
    write(workplace.overlay, {"torch/optim/_names/bad.py": source})
    (problem,) = check.compiles(subject(workplace))
    assert problem.startswith("torch/optim/_names/bad.py, line ")


def test_patch_that_lost_a_hunk(workplace: Workplace) -> None:
    lose_a_hunk(workplace)
    (problem,) = check.applies(subject(workplace))
    assert "0002-Name-the-second.patch was cut or edited" in problem
    bases = f"{workplace.patches / 'bases' / '2.13.0'} is not what"
    assert any(p.startswith(bases) for p in check.is_fixed_point(subject(workplace)))


@pytest.fixture
def importing(workplace: Workplace) -> Workplace:
    """A series whose patched file and overlay import from the overlay."""
    name = "torch/optim/_names/"
    workplace.edit(
        "torch/optim/optimizer.py",
        "line_1 = 1\n",
        "from torch.optim import _names\nfrom torch.optim._names.keys import key\n",
    )
    source = "from torch.optim._names.keys import key\nfrom . import keys\n"
    write(workplace.tree, {f"{name}__init__.py": source})
    write(workplace.tree, {f"{name}keys.py": "import torch.hub\nkey = 1\n"})
    workplace.commit("Name the third\n\nWhy not.")
    workplace.export()
    return workplace


def test_imports_that_resolve(importing: Workplace) -> None:
    assert check.names_are_there(subject(importing)) == []


@pytest.mark.parametrize(
    ("path", "content", "problems"),
    [
        (
            "keys.py",
            None,
            [
                "optimizer.py imports key from torch.optim._names.keys",
                "__init__.py imports key from torch.optim._names.keys",
                "__init__.py imports keys from torch.optim._names,",
            ],
        ),
        (
            "keys.py",
            "def key2():\n    key = 1\n",
            [
                "optimizer.py imports key from torch.optim._names.keys",
                "__init__.py imports key from torch.optim._names.keys",
            ],
        ),
        ("keys.py", "key = 1\nimport torch.nowhere\n", ["imports torch.nowhere"]),
        ("keys.py", "key = 1\nfrom ..hub import x\n", ["x from torch.optim.hub"]),
        ("keys.py", "from torch.hub import key\n", ["imports key from torch.hub"]),
    ],
)
def test_imports_of_what_is_not_there(
    importing: Workplace, path: str, content: str | None, problems: list[str]
) -> None:
    file = importing.overlay / "torch/optim/_names" / path
    file.unlink()
    if content is not None:
        file.write_text(content)
    found = check.names_are_there(subject(importing))
    assert len(found) == len(problems)
    for problem, words in zip(found, problems):
        assert words in problem


def test_overlay_that_is_not_there(importing: Workplace) -> None:
    shutil.rmtree(importing.overlay / "torch")
    problems = check.names_are_there(subject(importing))
    assert "optimizer.py imports _names from torch.optim, which is not" in problems[0]


def test_name_that_is_not_there(workplace: Workplace) -> None:
    edit = ("self.params = params", "self.params = _as_list(params)")
    after = edited(workplace, "torch/optim/adam.py", edit)
    problem = "torch/optim/adam.py uses _as_list, which nothing defines."
    assert check.names_are_there(after) == [problem]
    source = f"{ADAM}\n\ndef _as_list(params):\n    return [*params]\n".encode()
    assert (
        names.missing("torch/optim/adam.py", {"torch/optim/adam.py": source}) == set()
    )


def test_name_that_the_release_lacks_too(workplace: Workplace) -> None:
    path = "torch/hub.py"
    sources = {path: b"hub = 1\n\n\ndef load():\n    return _made_by_the_build\n"}
    workplace.materialize({**SOURCES, **sources}, force=True)
    after = edited(workplace, path, ("hub = 1", "hub = 2"))
    after = dataclasses.replace(after, sources={**SOURCES, **sources})
    assert after.changes.keys() >= {path}
    assert check.names_are_there(after) == []


def test_sections_that_stand_alone(importing: Workplace) -> None:
    assert check.sections_stand_alone(subject(importing)) == []


def test_section_that_uses_what_a_later_one_brings(workplace: Workplace) -> None:
    path = "torch/optim/adam.py"
    workplace.edit("torch/hub.py", "hub = 1", "hub = 1\nlater = 2")
    workplace.commit("Name the third\n\nWhy not.")
    workplace.edit(path, '"""Adam, by name."""', "from torch.hub import later")
    workplace.git("commit", "-q", "-a", "--fixup=:/^Name the first")
    workplace.git("rebase", "-q", "-i", "--autosquash", "tags/base")
    workplace.export()
    assert check.names_are_there(subject(workplace)) == []
    assert check.sections_stand_alone(subject(workplace)) == [
        f"After '{title}', {path} imports later from torch.hub, which is not there."
        for title in ("Name the first", "Name the second")
    ]
    order = workplace.patches / "series"
    order.write_text(order.read_text().replace("0001-", "# == All\n0001-"))
    assert check.sections_stand_alone(subject(workplace)) == []


@pytest.mark.parametrize(
    ("titles", "problem"),
    [
        (["One", "Two", "One"], "has the title 'One' twice"),
        (["One", "T" * 73, ""], "has 73 columns; give it at most 72"),
        (["One", "Two", "Three"], "There are 3 sections; join them to 2 or less"),
    ],
)
def test_titles_of_sections(
    importing: Workplace,
    titles: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "MOST_SECTIONS", 2)
    order = importing.patches / "series"
    text = order.read_text()
    for number, title in enumerate(titles, 1):
        name = f"{number:04}-"
        text = text.replace(name, f"# == {title}\n{name}" if title else name)
    order.write_text(text)
    (found,) = check.sections_stand_alone(subject(importing))
    assert problem in found


def test_function_that_was_changed_upstream(workplace: Workplace) -> None:
    path = "torch/optim/adam.py"
    write(workplace.patches, {"relied-on": f"{path} adam\n  keys.py calls it.\n"})
    relied_on.record({RELEASE: SOURCES}, workplace.patches)
    assert check.functions_were_read(subject(workplace)) == []
    edit = (b"if not params:", b"if params is None:")
    after = subject(workplace, **{path: SOURCES[path].replace(*edit)})
    first, _ = check.functions_were_read(after)
    assert first.startswith(
        f"adam in {path} was changed. The series relies on it (keys"
    )


@pytest.mark.parametrize(
    "path",
    [
        *(f"torch_overlay/{path}" for path in LITTER if "pycache" not in path),
        "patches/0001-Name-the-first.patch.orig",
        "patches/2.12.0/notes.txt",
        "patches/old/0001-Name-the-first.patch",
    ],
)
def test_file_that_should_not_be_there(workplace: Workplace, path: str) -> None:
    write(workplace.root, {path: ""})
    (problem,) = check.nothing_else_is_there(subject(workplace))
    assert problem.startswith(f"{workplace.root / path} is neither a patch nor")


#: As 2.13.0, but without what the overlay below uses.
OLDER = {**SOURCES, "torch/hub.py": b"core = 1\n"}


class TestCommand:
    """``python -m tools check`` as a whole."""

    @pytest.fixture(autouse=True)
    def repository(
        self, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command works on the workplace, which is for two releases."""
        roots = {
            layout.PATCHES: workplace.patches,
            layout.OVERLAY: workplace.overlay,
        }
        for function in (
            check.Subject.__init__,
            relied_on.record,
            releases.find,
            releases.supported,
            series.overlay_files,
            series.patches,
        ):
            defaults = function.__defaults__ or ()
            monkeypatch.setattr(
                function, "__defaults__", tuple(roots.get(v, v) for v in defaults)
            )
        monkeypatch.delenv("OPTIM_NAMES_BASE_WHEEL", raising=False)
        monkeypatch.setenv("OPTIM_NAMES_CACHE", str(tmp_path / "cache"))
        older = releases.Release("2.12.1", (3, 10))
        write(workplace.patches, {"releases": releases.listed([RELEASE, older])})
        export.refresh(
            "2.12.1",
            OLDER,
            workplace.tree,
            patches_root=workplace.patches,
            overlay_root=workplace.overlay,
        )

    @pytest.fixture
    def wheel(self, tmp_path: Path) -> Path:
        (tmp_path / "cache" / "any").mkdir(parents=True)
        return write_wheel(tmp_path / "cache" / "any")

    @pytest.fixture
    def older_wheel(self, wheel: Path) -> Path:
        return write_wheel(wheel.parent, "2.12.1", OLDER)

    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        return capsys.readouterr().out.splitlines()

    def test_release_that_is_cached(
        self, wheel: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["check"]) == 0
        *lines, verdict, unknown = self.lines(capsys)
        assert lines == [f"ok    {title}" for title in check.CHECKS]
        assert verdict.startswith(
            "2 patches and 1 overlay file on PyTorch 2.13.0: all well, in "
        )
        assert unknown == "Not checked, for lack of a wheel: 2.12.1; see '--all'."

    @pytest.mark.usefixtures("older_wheel")
    def test_all_releases(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line.main(["check", "--all"]) == 0
        *lines, verdict = self.lines(capsys)
        assert len(lines) == len(check.CHECKS)
        assert " on PyTorch 2.13.0, 2.12.1: all well" in verdict

    @pytest.mark.usefixtures("older_wheel")
    def test_name_that_one_release_lacks(
        self, workplace: Workplace, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = "from torch import hub\n\n\ndef names():\n    return hub.hub\n"
        write(workplace.overlay, {"torch/optim/_names/__init__.py": source})
        assert command_line.main(["check"]) == 1
        assert [line for line in self.lines(capsys) if line[:2] != "ok"][:2] == [
            "FAIL  overlay and patched files use names that are there",
            "      2.12.1: torch/optim/_names/__init__.py uses hub of torch.hub, which is "
            "not there.",
        ]
        assert command_line.main(["check", "--release", "2.13.0"]) == 0

    def test_problem_of_all_releases(
        self,
        workplace: Workplace,
        older_wheel: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write(workplace.patches, {"notes.txt": ""})
        assert command_line.main(["check"]) == 1
        out = capsys.readouterr().out
        assert f"\n      {workplace.patches / 'notes.txt'} is neither a patch" in out
        assert f"1 of {len(check.CHECKS)} checks failed" in out

    @pytest.mark.usefixtures("older_wheel")
    def test_record(
        self, workplace: Workplace, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(workplace.patches, {"relied-on": "torch/optim/adam.py adam\n  why\n"})
        assert command_line.main(["check"]) == 1
        assert "run 'python -m tools check --record'" in capsys.readouterr().out
        assert command_line.main(["check", "--record"]) == 0
        form = relied_on.form_of(ADAM.encode(), "adam")
        text = (workplace.patches / "relied-on").read_text()
        assert text.endswith(f"  {form} 2.13.0 2.12.1\n")

    @pytest.mark.parametrize(
        ("options", "version"),
        [
            (["--release", "2.12.1"], "2.12.1"),
            (["--base-wheel", "torch-2.12.1-py3-none-any.whl"], "2.12.1"),
        ],
    )
    def test_one_release(
        self,
        options: list[str],
        version: str,
        older_wheel: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(older_wheel.parent)
        assert command_line.main(["check", *options]) == 0
        assert f"on PyTorch {version}: all well" in self.lines(capsys)[-1]

    def test_error_is_one_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line.main(["check", "--release", "2.11.0"]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: PyTorch 2.11.0 is not supported.")
