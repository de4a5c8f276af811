"""Tests of tools.series: the order file, and applying to a plain folder."""

import os
import subprocess
from pathlib import Path

import pytest
from small_torch import SOURCES, Workplace, write

from tools import files, git, series
from tools.errors import ToolError


Promises = dict[str, tuple[str, str]]


@pytest.fixture
def patches(template: Workplace) -> list[series.Patch]:
    return series.patches(root=template.patches)


@pytest.fixture
def promises(template: Workplace) -> Promises:
    return series.promises(root=template.patches)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "plain", SOURCES)
    return tmp_path / "plain"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def write_order(root: Path, order: str, *names: str) -> None:
    write(root, {"series": order, **dict.fromkeys(names, "diff --git a/x b/x\n")})


def names(patches: list[series.Patch]) -> list[str]:
    return [patch.name for patch in patches]


def test_patches_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    order = "# A comment.\n\n0002-b.patch # its reason\n  0001-a.patch\n"
    write_order(tmp_path, order, "0001-a.patch", "0002-b.patch")
    assert names(series.patches(root=tmp_path)) == ["0002-b.patch", "0001-a.patch"]


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("2.15.0", ["a", "b", "c"]),
        ("2.14.1", ["a", "2.14.1/b", "c"]),
        ("2.14.0", ["a", "2.14.1/b", "c"]),
        ("2.12.1", ["a", "2.14.1/b", "c"]),
        ("2.9.1", ["2.9.1/a", "2.14.1/b"]),
        ("2.8.0", ["2.9.1/a", "2.14.1/b"]),
    ],
)
def test_variants_serve_what_is_older(
    tmp_path: Path, release: str, found: list[str]
) -> None:
    # The folders are not in the order of text.
    variants = ("2.14.1/b.patch", "2.9.1/a.patch")
    order = "a.patch\nb.patch\nc.patch  # since 2.12.1\n"
    write_order(tmp_path, order, "a.patch", "b.patch", "c.patch", *variants)
    paths = [patch.path for patch in series.patches(release, tmp_path)]
    assert paths == [tmp_path / f"{path}.patch" for path in found]


def write_sections(root: Path, order: str, *names: str) -> None:
    mail = "From 0 Mon\nSubject: [PATCH] optim: name {}\n\nWhy.\n\ndiff --git a/x b/x\n"
    write(root, {"series": order, **{name: mail.format(name) for name in names}})


def test_sections(tmp_path: Path) -> None:
    order = """\
# The order.
a.patch

# == optim: first
b.patch
# A comment.
c.patch

# == optim: second
d.patch  # since 2.12.0
"""
    write_sections(tmp_path, order, "a.patch", "b.patch", "c.patch", "d.patch")
    found = [
        (section.title, names(section.patches))
        for section in series.sections("2.12.0", tmp_path)
    ]
    assert found == [
        ("optim: name a.patch", ["a.patch"]),
        ("optim: first", ["b.patch", "c.patch"]),
        ("optim: second", ["d.patch"]),
    ]
    older = series.sections("2.11.0", tmp_path)
    assert [section.title for section in older] == [title for title, _ in found[:2]]


def test_section_in_two_places(tmp_path: Path) -> None:
    order = "# == A\na.patch\n# == B\nb.patch\n# == A\nc.patch\n"
    write_sections(tmp_path, order, "a.patch", "b.patch", "c.patch")
    assert names(series.patches(root=tmp_path)) == ["a.patch", "b.patch", "c.patch"]
    with pytest.raises(ToolError, match="has the title 'A' twice"):
        series.sections(root=tmp_path)


def test_message(patches: list[series.Patch]) -> None:
    assert series.message(patches[0]) == ("Name the first", "It had no name.")


def test_promises(template: Workplace) -> None:
    found = series.promises(root=template.patches)
    assert sorted(found) == ["torch/optim/adam.py", "torch/optim/optimizer.py"]
    for path, (before, after) in found.items():
        assert before == git.blob(SOURCES[path])
        assert after == git.blob((template.tree / path).read_bytes())
    written = (template.patches / "bases" / "2.13.0").read_bytes()
    assert series.promised(found) == written


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"bases.2\.13\.0 is missing.*materialize --release 2\.13\.0"),
        ("1234 5678  torch/hub.py\n", r"Line 1 of .*2\.13\.0 is not two hashes"),
    ],
)
def test_bad_promises(tmp_path: Path, content: str | None, message: str) -> None:
    write(tmp_path, {} if content is None else {"bases/2.13.0": content})
    with pytest.raises(ToolError, match=message):
        series.promises(root=tmp_path)


@pytest.mark.parametrize(
    ("order", "files", "message"),
    [
        ("a.patch\nb.patch\n", ["a.patch"], r"lists b\.patch, but there is no file"),
        ("a.patch\n", ["a.patch", "b.patch"], r"b\.patch is not listed"),
        (
            "a.patch\n",
            ["a.patch", "2.12.0/b.patch"],
            r"2\.12\.0.b\.patch is not listed",
        ),
        ("a.patch\na.patch\n", ["a.patch"], r"lists a\.patch twice"),
        ("a.patch\n../b.patch\n", ["a.patch"], r"Line 2 of .* is '\.\./b\.patch'"),
        ("a.txt\n", [], r"Line 1 of .* is 'a\.txt'"),
    ],
)
def test_bad_order_file(
    tmp_path: Path, order: str, files: list[str], message: str
) -> None:
    write_order(tmp_path, order, *files)
    with pytest.raises(ToolError, match=message):
        series.patches(root=tmp_path)


def test_missing_order_file(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"The order file .*series is missing"):
        series.patches(root=tmp_path)


def test_touched_files(patches: list[series.Patch]) -> None:
    expected = ["torch/optim/adam.py", "torch/optim/optimizer.py"]
    assert series.touched_files(patches) == expected


def test_patch_without_a_diff(tmp_path: Path) -> None:
    write(tmp_path, {"a.patch": "Subject: nothing\n"})
    with pytest.raises(ToolError, match=r"a\.patch changes no file"):
        series.touched_files([series.Patch("a.patch", tmp_path / "a.patch")])


def test_apply_and_reverse(
    patches: list[series.Patch], promises: Promises, folder: Path, template: Workplace
) -> None:
    series.apply(patches, folder, promises)
    for path in SOURCES:
        assert (folder / path).read_bytes() == (template.tree / path).read_bytes()
    series.reverse(patches, folder, promises)
    assert contents(folder) == SOURCES


def test_file_that_is_changed_and_then_removed(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    tmp_path: Path,
    template: Workplace,
) -> None:
    path = "torch/optim/adam.py"
    lines = (template.tree / path).read_text().splitlines()
    diff = f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n"
    diff += f"index {promises[path][1]}..{'0' * 40}\n"
    diff += f"--- a/{path}\n+++ /dev/null\n@@ -1,{len(lines)} +0,0 @@\n"
    write(tmp_path, {"c.patch": diff + "".join(f"-{line}\n" for line in lines)})
    removal = [*patches, series.Patch("c.patch", tmp_path / "c.patch")]
    gone = {**promises, path: (promises[path][0], "0" * 40)}
    series.apply(removal, folder, gone)
    assert not (folder / path).exists()
    series.reverse(removal, folder, gone)
    assert contents(folder) == SOURCES


def test_an_enclosing_repository_plays_no_part(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    template: Workplace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subprocess.run(["git", "init", "-q", folder.parent], check=True)
    subprocess.run(
        ["git", "config", "core.autocrlf", "true"], cwd=folder.parent, check=True
    )
    monkeypatch.setenv("GIT_DIR", str(template.tree / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(folder / "index"))
    series.apply(patches, folder, promises)
    assert b"by name" in (folder / "torch/optim/adam.py").read_bytes()


def test_colon_in_the_path(
    patches: list[series.Patch], promises: Promises, template: Workplace, tmp_path: Path
) -> None:
    """It separates paths in git's list of places to stop looking for repositories."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    folder = tmp_path / "odd:path" / "plain"
    write(folder, SOURCES)
    series.apply(patches, folder, promises)
    for path in SOURCES:
        assert (folder / path).read_bytes() == (template.tree / path).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for git")
@pytest.mark.parametrize("back", [False, True])
def test_git_that_does_nothing(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    back: bool,
) -> None:
    if back:
        series.apply(patches, folder, promises)
    before = contents(folder)
    write(tmp_path, {"bin/git": "#!/bin/sh\nexit 0\n"})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(ToolError, match=r"adam\.py|nothing to do"):
        (series.reverse if back else series.apply)(patches, folder, promises)
    assert contents(folder) == before


def test_file_of_another_release(
    patches: list[series.Patch], promises: Promises, folder: Path
) -> None:
    file = folder / "torch/optim/optimizer.py"
    file.write_bytes(file.read_bytes().replace(b"line_30 = 30", b"line_30 = 0"))
    before = contents(folder)
    with pytest.raises(
        ToolError, match=r"optimizer\.py in .* is not the file that the patches are"
    ):
        series.apply(patches, folder, promises)
    assert contents(folder) == before


def test_patches_of_another_release(
    patches: list[series.Patch], promises: Promises, folder: Path, template: Workplace
) -> None:
    """Their index lines do not fit; what is promised for the release does."""
    path = "torch/optim/optimizer.py"
    expected = (template.tree / path).read_bytes().replace(b"line_30 = 30", b"x = 0")
    file = folder / path
    file.write_bytes(file.read_bytes().replace(b"line_30 = 30", b"x = 0"))
    own = {**promises, path: (git.blob(file.read_bytes()), git.blob(expected))}
    series.apply(patches, folder, own)
    assert file.read_bytes() == expected
    series.reverse(patches, folder, own)
    assert git.blob(file.read_bytes()) == own[path][0]


def test_file_of_which_nothing_is_promised(
    patches: list[series.Patch], folder: Path
) -> None:
    with pytest.raises(ToolError, match=r"changes torch/optim/adam\.py, of which"):
        series.apply(patches, folder, {})
    assert contents(folder) == SOURCES


def test_patch_that_lost_a_hunk(
    patches: list[series.Patch], promises: Promises, folder: Path, tmp_path: Path
) -> None:
    text = patches[0].path.read_text()
    write(tmp_path, {"cut.patch": text[: text.rindex("diff --git")]})
    cut = [series.Patch("cut.patch", tmp_path / "cut.patch"), patches[1]]
    message = r"optimizer\.py did not become what it must: 0002-Name-the-second"
    with pytest.raises(ToolError, match=message):
        series.apply(cut, folder, promises)
    assert contents(folder) == SOURCES


def test_the_user_s_configuration_plays_no_part(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Blanks at the end of a context line would be an error, and be repaired.
    config = "[apply]\n whitespace = fix\n ignoreWhitespace = change\n"
    config += "[core]\n autocrlf = true\n whitespace = trailing-space,tab-in-indent\n"
    write(tmp_path, {"home/.gitconfig": config})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))
    before, after = b"a = 1\nb = 2\n", b"a = 1\nc = 3  \nb = 2\n"
    write(folder, {"torch/blanks.py": before})
    diff = (
        "diff --git a/torch/blanks.py b/torch/blanks.py\n"
        f"index {git.blob(before)}..{git.blob(after)}\n--- a/torch/blanks.py\n"
        "+++ b/torch/blanks.py\n@@ -1,2 +1,3 @@\n a = 1\n+c = 3  \n b = 2\n"
    )
    write(tmp_path, {"blanks.patch": diff})
    own = series.Patch("blanks.patch", tmp_path / "blanks.patch")
    blobs = {"torch/blanks.py": (git.blob(before), git.blob(after))}
    series.apply([*patches, own], folder, {**promises, **blobs})
    assert (folder / "torch/blanks.py").read_bytes() == after


def now(folder: Path, patches: list[series.Patch]) -> Promises:
    """Promises that take the files as they are."""
    blobs = {
        path: git.blob(files.content(folder / path))
        for path in series.touched_files(patches)
    }
    return {path: (blob, blob) for path, blob in blobs.items()}


@pytest.mark.parametrize("back", [False, True])
def test_rejected_hunk_is_named_and_nothing_changes(
    patches: list[series.Patch], promises: Promises, folder: Path, back: bool
) -> None:
    if back:
        series.apply(patches, folder, promises)
    file = folder / "torch/optim/optimizer.py"
    file.write_bytes(file.read_bytes().replace(b"line_49 = 49", b"line_49 = 0"))
    before = contents(folder)
    message = (
        rf"Patch 0002-Name-the-second\.patch {'cannot be taken back' if back else ''}"
        rf"{'' if back else 'does not apply'}: hunk 1 of torch/optim/optimizer\.py "
        "found no place"
    )
    with pytest.raises(ToolError, match=message):
        (series.reverse if back else series.apply)(
            patches, folder, now(folder, patches)
        )
    assert contents(folder) == before


def test_number_of_the_rejected_hunk(tmp_path: Path, folder: Path) -> None:
    diff = (
        "diff --git a/torch/optim/optimizer.py b/torch/optim/optimizer.py\n"
        f"index {'1' * 40}..{'2' * 40} 100644\n"
        "--- a/torch/optim/optimizer.py\n+++ b/torch/optim/optimizer.py\n"
        "@@ -1,2 +1,3 @@\n line_1 = 1\n+x = 1\n line_2 = 2\n"
        "@@ -20,2 +21,3 @@\n line_20 = 20\n+x = 2\n line_0 = 0\n"
    )
    write(tmp_path, {"a.patch": diff})
    patches = [series.Patch("a.patch", tmp_path / "a.patch")]
    with pytest.raises(ToolError, match=r"hunk 2 of torch/optim/optimizer\.py"):
        series.apply(patches, folder, now(folder, patches))


def test_missing_file_is_named(patches: list[series.Patch], folder: Path) -> None:
    (folder / "torch/optim/optimizer.py").unlink()
    before = contents(folder)
    message = (
        r"0001.*\.patch does not apply: there is no file torch/optim/optimizer\.py"
    )
    with pytest.raises(ToolError, match=message):
        series.apply(patches, folder, now(folder, patches))
    assert contents(folder) == before


def test_applied_twice(
    patches: list[series.Patch], promises: Promises, folder: Path
) -> None:
    series.apply(patches, folder, promises)
    before = contents(folder)
    with pytest.raises(ToolError, match="already applied"):
        series.apply(patches, folder, promises)
    assert contents(folder) == before


def test_reversed_without_being_applied(
    patches: list[series.Patch], promises: Promises, folder: Path
) -> None:
    with pytest.raises(ToolError, match="are not applied"):
        series.reverse(patches, folder, promises)
    assert contents(folder) == SOURCES


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for git")
def test_interrupted_writing_is_undone(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A git that writes half of a file, creates another and runs out of space.
    script = "#!/bin/sh\nprintf half > torch/optim/adam.py\n"
    script += "rm -f torch/optim/optimizer.py\nexit 128\n"
    write(tmp_path, {"bin/git": script})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(ToolError):
        series.apply(patches, folder, promises)
    assert contents(folder) == SOURCES


def test_no_git(
    patches: list[series.Patch],
    promises: Promises,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="git was not found on PATH"):
        series.apply(patches, folder, promises)


LITTER = [
    "torch/optim/__pycache__/x.pyc",
    "torch/optim/_names/.DS_Store",
    "torch/optim/_names/._x.py",
    "torch/optim/_names/#x.py#",
    "torch/optim/_names/x.py~",
    "torch/optim/_names/.x.py.swp",
    "torch/optim/_names/x (copy).py",
    "torch/optim/_names/x.py.orig",
    "torch/optim/_names/.ipynb_checkpoints/x-checkpoint.py",
    "torch/optim/_names/notes.txt",
    "setup.py",
]


@pytest.mark.parametrize("path", LITTER)
def test_overlay_files(tmp_path: Path, path: str) -> None:
    own = ["torch/optim/_names/x.py", "torch/optim/_names/x.pyi"]
    write(tmp_path, dict.fromkeys([*own, path], ""))
    assert series.overlay_files(tmp_path) == {name: tmp_path / name for name in own}


@pytest.mark.parametrize("name", ["linked.py", "linked"])
def test_links_in_the_overlay(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"overlay/torch/optim/x.py": "", "elsewhere/x.py": ""})
    target = tmp_path / "elsewhere" / ("x.py" if name.endswith(".py") else "")
    (tmp_path / "overlay/torch/optim" / name).symlink_to(target)
    with pytest.raises(ToolError, match=f"{name} is a link"):
        series.overlay_files(tmp_path / "overlay")


def test_missing_overlay(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"The overlay folder .* does not exist"):
        series.overlay_files(tmp_path / "nowhere")


class TestRevision:
    """What tells one state of the series from another."""

    def revision(self, workplace: Workplace) -> str:
        return series.revision(
            series.patches(root=workplace.patches),
            series.overlay_files(workplace.overlay),
            workplace.patches,
        )

    @pytest.mark.parametrize(
        "path", ["torch/optim/_names/__init__.py", "torch/optim/adam.py"]
    )
    def test_newer_is_newer(self, workplace: Workplace, path: str) -> None:
        version = pytest.importorskip("packaging.version").Version
        before = self.revision(workplace)
        assert workplace.export() == []
        assert self.revision(workplace) == before
        for number in range(12):
            write(workplace.tree, {path: f"number = {number}\n"})
            workplace.commit(f"Number {number}\n\nWhy not.")
            workplace.export()
            after = self.revision(workplace)
            assert version(f"2+cpu.named.{before}") < version(f"2+cpu.named.{after}")
            before = after

    def test_what_was_not_exported_is_told_apart(self, workplace: Workplace) -> None:
        before = self.revision(workplace)
        write(workplace.overlay, {"torch/optim/_names/__init__.py": "names = 2\n"})
        after = self.revision(workplace)
        assert after.partition(".")[0] == before.partition(".")[0]
        assert after != before

    def test_number_that_is_none(self, workplace: Workplace) -> None:
        write(workplace.patches, {"revision": "<<<<<<< HEAD\n8\n"})
        with pytest.raises(ToolError, match="revision holds .*the larger of the two"):
            self.revision(workplace)


def test_order_file_that_is_not_utf_8(tmp_path: Path) -> None:
    write(tmp_path, {"series": b"# caf\xe9\n"})
    with pytest.raises(ToolError, match=r"series is not UTF-8 text .* at byte 5"):
        series.patches(root=tmp_path)
