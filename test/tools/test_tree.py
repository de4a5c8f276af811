"""Tests of tools.tree and tools.export: commits from the series, and back."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from small_torch import OVERLAY, SOURCES, Workplace, write, write_wheel

from tools import git, series, tree, variants
from tools.errors import ToolError


# What a developer may have in ~/.gitconfig, each able to change a patch's bytes.
HOSTILE = """\
[user]
 name = Somebody Else
 email = somebody@else.invalid
[core]
 autocrlf = true
 abbrev = 5
 hooksPath = {home}/hooks
 quotePath = true
[commit]
 gpgSign = true
 template = {home}/nowhere
[gpg]
 program = false
[diff]
 noprefix = true
 mnemonicPrefix = true
 algorithm = patience
 context = 0
 interHunkContext = 9
 external = false
 renames = copies
 orderFile = {home}/order
 relative = true
[format]
 signature = a signature
 subjectPrefix = OTHER
 numbered = true
 attach = true
 thread = deep
 from = true
 headers = "X-Other: header\\n"
 suffix = .txt
 coverLetter = true
 signOff = true
 useAutoBase = true
 noprefix = true
[am]
 threeWay = true
 messageid = true
 keepcr = false
[mailinfo]
 scissors = true
[apply]
 whitespace = error
[rebase]
 autoSquash = false
 autoStash = true
[log]
 date = relative
 showSignature = true
[i18n]
 commitEncoding = latin1
 logOutputEncoding = latin1
[init]
 defaultBranch = other
 defaultObjectFormat = sha256
 templateDir = {home}/template
[status]
 showUntrackedFiles = no
"""


@pytest.fixture
def empty(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "work")


def log(workplace: Workplace, form: str = "%s") -> list[str]:
    return workplace.git("log", "--reverse", f"--format={form}").splitlines()


def head(workplace: Workplace) -> str:
    return workplace.git("rev-parse", "HEAD").strip()


def lose_a_hunk(workplace: Workplace) -> None:
    """Write a patch of two hunks, and cut the second one off."""
    workplace.edit("torch/optim/optimizer.py", "line_30 = 30", "line_30 = 'thirty'")
    workplace.git("commit", "-q", "--amend", "-a", "--no-edit")
    workplace.export()
    patch = workplace.patches / "0002-Name-the-second.patch"
    text = patch.read_text()
    assert text.count("\n@@") == 3
    patch.write_text(text[: text.rindex("@@ -")])


class TestSources:
    def test_wheel(self, tmp_path: Path) -> None:
        assert tree.wheel_sources(write_wheel(tmp_path)) == SOURCES

    def test_lines_of_a_wheel_for_windows(self, tmp_path: Path) -> None:
        windows = {p: c.replace(b"\n", b"\r\n") for p, c in SOURCES.items()}
        assert tree.wheel_sources(write_wheel(tmp_path, sources=windows)) == SOURCES

    @pytest.mark.parametrize(
        ("version", "message"),
        [
            ("2.12.0", "is torch 2.12.0, but PyTorch 2.13.0 is wanted"),
            ("2.13.0+cpu.named", "is patched already"),
        ],
    )
    def test_other_wheel(self, tmp_path: Path, version: str, message: str) -> None:
        with pytest.raises(ToolError, match=message):
            tree.wheel_sources(write_wheel(tmp_path, version))

    def test_wheel_of_something_else(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
            archive.writestr("other-1.0.dist-info/METADATA", "")
        with pytest.raises(ToolError, match="is not a wheel of torch"):
            tree.wheel_sources(tmp_path / "other.whl")

    def test_wheel_without_optimizers(self, tmp_path: Path) -> None:
        sources = {"torch/__init__.py": b""}
        with pytest.raises(ToolError, match=r"no torch/optim/optimizer\.py"):
            tree.wheel_sources(write_wheel(tmp_path, sources=sources))

    def test_torn_wheel(self, tmp_path: Path) -> None:
        wheel = write_wheel(tmp_path)
        wheel.write_bytes(wheel.read_bytes()[:-100])
        with pytest.raises(ToolError, match="cannot be read"):
            tree.wheel_sources(wheel)

    def test_checkout(self, tmp_path: Path) -> None:
        checkout = tmp_path / "pytorch"
        tests = {"test/test_optim.py": b"test = 1\n"}
        kernel = {"torch/csrc/adam.cpp": b"", "setup.py": b""}
        write(checkout, {**SOURCES, **tests, **kernel})
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "-m", "c"],
        ):
            subprocess.run(["git", *command], cwd=checkout, check=True)
        write(checkout, {"torch/hub.py": "changed = 1\n"})
        assert tree.checkout_sources(checkout) == {**SOURCES, **tests}

    def test_folder_that_is_no_checkout(self, tmp_path: Path) -> None:
        # Not even when a repository encloses it.
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        write(tmp_path, {"inside/file": ""})
        with pytest.raises(ToolError, match="not a git repository"):
            tree.checkout_sources(tmp_path / "inside")

    def test_missing_checkout(self, tmp_path: Path) -> None:
        with pytest.raises(ToolError, match="does not exist"):
            tree.checkout_sources(tmp_path / "nowhere")


class TestMaterialize:
    def test_commits(self, workplace: Workplace) -> None:
        workplace.materialize()
        assert log(workplace) == [
            "PyTorch 2.13.0",
            "Overlay: the new modules",
            "Name the first",
            "Name the second",
        ]
        assert workplace.git("branch", "--show-current") == "optim-names\n"
        assert workplace.git("log", "-1", "--format=%s", "tags/base").strip() == (
            "PyTorch 2.13.0"
        )
        assert workplace.git("status", "--porcelain") == ""
        assert set(log(workplace, "%an <%ae> %cn <%ce>")) == {
            f"{tree.AUTHOR} <{tree.EMAIL}> {tree.AUTHOR} <{tree.EMAIL}>"
        }
        for path, content in OVERLAY.items():
            assert (workplace.tree / path).read_text() == content

    def test_message_and_date_are_kept(self, workplace: Workplace) -> None:
        before = log(workplace, "%ad %B")
        workplace.materialize()
        assert log(workplace, "%ad %B") == before
        assert log(workplace, "%ad") == log(workplace, "%cd")

    def test_same_series_same_commits(self, workplace: Workplace) -> None:
        workplace.materialize()
        first = head(workplace)
        workplace.materialize()
        assert head(workplace) == first

    def test_without_patches(self, empty: Workplace) -> None:
        assert empty.materialize() == []
        assert len(log(empty)) == 2

    def test_patch_that_does_not_apply(self, workplace: Workplace) -> None:
        sources = dict(SOURCES)
        path = "torch/optim/optimizer.py"
        sources[path] = sources[path].replace(b"line_49 = 49", b"line_49 = 0")
        message = (
            r"Patch 0002-Name-the-second\.patch does not apply: hunk 1 of "
            r"torch/optim/optimizer\.py found no place.*git am --continue"
        )
        with pytest.raises(ToolError, match=message):
            workplace.materialize(sources)
        assert log(workplace)[-1] == "Name the first"
        assert workplace.git("status", "--porcelain") == ""
        with pytest.raises(ToolError, match="is in the middle of 'git am'"):
            workplace.export()
        with pytest.raises(ToolError, match="is in the middle of 'git am'"):
            workplace.materialize()
        # As the message says: repair what was rejected, and go on.
        workplace.edit(path, "line_50 = 50", "line_50 = 'fifty'")
        workplace.edit("torch/optim/adam.py", "step(self)", "step(self, named=0)")
        workplace.git("add", "-A")
        workplace.git("am", "--continue")
        assert log(workplace)[-1] == "Name the second"
        assert any(path.name.startswith("0002") for path in workplace.export())

    def test_file_that_only_a_checkout_has(self, workplace: Workplace) -> None:
        sources = {**SOURCES, "test/test_optim.py": b"test = 1\n"}
        workplace.materialize(sources)
        workplace.edit("test/test_optim.py", "1", "2")
        workplace.commit("Test it\n\nIt was not.")
        workplace.export()
        with pytest.raises(ToolError, match=r"test/test_optim\.py, which no wheel"):
            workplace.materialize()
        workplace.materialize(sources)

    def test_overlay_over_a_file_of_pytorch(self, workplace: Workplace) -> None:
        write(workplace.overlay, {"torch/hub.py": "hub = 2\n"})
        with pytest.raises(ToolError, match=r"holds torch/hub\.py, which PyTorch has"):
            workplace.materialize()

    def test_uncommitted_change_is_kept(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        with pytest.raises(ToolError, match=r"uncommitted changes \(torch/hub\.py\)"):
            workplace.materialize()
        assert (workplace.tree / "torch/hub.py").read_text() == "hub = 2\n"

    def test_untracked_file_is_kept(self, workplace: Workplace) -> None:
        write(workplace.tree, {"torch/new.py": ""})
        with pytest.raises(ToolError, match=r"uncommitted changes \(torch/new\.py\)"):
            workplace.materialize()

    def test_commit_is_kept_until_exported(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Name the third\n\nWhy not.")
        before = head(workplace)
        with pytest.raises(ToolError, match=r"1 commit that was not exported.*--force"):
            workplace.materialize()
        assert head(workplace) == before
        workplace.export()
        assert len(workplace.materialize()) == 3

    @pytest.mark.parametrize("place", ["branch", "stash"])
    def test_work_elsewhere_in_the_tree_is_kept(
        self, workplace: Workplace, place: str
    ) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        if place == "branch":
            workplace.git("checkout", "-q", "-b", "other")
            workplace.commit("Another")
            workplace.git("checkout", "-q", "optim-names")
        else:
            workplace.git("stash")
        with pytest.raises(ToolError, match="not exported"):
            workplace.materialize()

    def test_force(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.materialize(force=True)
        assert (workplace.tree / "torch/hub.py").read_text() == "hub = 1\n"

    def test_foreign_folder_is_kept_even_by_force(self, empty: Workplace) -> None:
        write(empty.tree, {"precious": "1"})
        for force in (False, True):
            with pytest.raises(ToolError, match="was not made by this command"):
                empty.materialize(force=force)
        subprocess.run(["git", "init", "-q", empty.tree], check=True)
        with pytest.raises(ToolError, match="was not made by this command"):
            empty.materialize(force=True)
        assert (empty.tree / "precious").exists()

    def test_edit_in_the_meantime_is_kept(
        self, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = git.run

        def slow(folder: Path, *arguments: str, **options: Any) -> object:
            if arguments[0] == "am":
                workplace.edit("torch/hub.py", "1", "2")
            return run(folder, *arguments, **options)

        monkeypatch.setattr(git, "run", slow)
        with pytest.raises(ToolError, match=r"uncommitted changes \(torch/hub\.py\)"):
            workplace.materialize()
        assert (workplace.tree / "torch/hub.py").read_text() == "hub = 2\n"
        assert [path.name for path in workplace.tree.parent.iterdir()] == ["tree"]

    @pytest.mark.skipif(os.name == "nt", reason="a script stands in for git")
    def test_full_disk_is_no_conflict(
        self, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = f"""#!/bin/sh
case " $* " in *" am "*) trap '' XFSZ; ulimit -f 0;; esac
exec {shutil.which("git")} "$@"
"""
        write(tmp_path, {"bin/git": script})
        (tmp_path / "bin/git").chmod(0o755)
        before = head(workplace)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
        with pytest.raises(ToolError) as caught:
            workplace.materialize()
        assert "File too large" in str(caught.value)
        assert "does not apply" not in str(caught.value)
        assert head(workplace) == before

    def test_patch_that_lost_a_hunk(self, workplace: Workplace) -> None:
        lose_a_hunk(workplace)
        message = r"optimizer\.py did not become what it must: .*0002-Name-the-second"
        with pytest.raises(ToolError, match=message):
            workplace.materialize()

    def test_failure_keeps_the_old_tree(self, workplace: Workplace) -> None:
        before = head(workplace)
        with pytest.raises(ToolError, match="invalid path"):
            workplace.materialize({**SOURCES, "torch/../../escape.py": b""})
        assert head(workplace) == before
        assert [path.name for path in workplace.tree.parent.iterdir()] == ["tree"]


class TestExport:
    def test_files(self, workplace: Workplace) -> None:
        assert sorted(workplace.written()) == [
            "patches/0001-Name-the-first.patch",
            "patches/0002-Name-the-second.patch",
            "patches/bases/2.13.0",
            "patches/releases",
            "patches/revision",
            "patches/series",
            "torch_overlay/torch/optim/_names/__init__.py",
        ]
        assert workplace.written()["patches/series"].decode() == (
            "# The order.\n\n0001-Name-the-first.patch\n0002-Name-the-second.patch\n"
        )

    def test_form_of_a_patch(self, workplace: Workplace) -> None:
        patch = (workplace.patches / "0001-Name-the-first.patch").read_text()
        head, _, diff = patch.partition("diff --git ")
        lines = head.splitlines()
        assert lines[0] == f"From {'0' * 40} Mon Sep 17 00:00:00 2001"
        assert lines[1] == f"From: {tree.AUTHOR} <{tree.EMAIL}>"
        assert lines[2].startswith("Date: ")
        assert lines[3:] == [
            "Subject: [PATCH] Name the first",
            "",
            "It had no name.",
            "",
        ]
        assert diff.startswith("a/torch/optim/adam.py b/torch/optim/adam.py\nindex ")
        assert diff.endswith(" line_8 = 8\n")

    def test_twice_gives_the_same_bytes(self, workplace: Workplace) -> None:
        before = workplace.written()
        assert workplace.export() == []
        workplace.materialize()
        assert workplace.export() == []
        assert workplace.written() == before

    def test_configuration_changes_nothing(
        self, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = tmp_path / "home"
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
        write(home, {".gitconfig": HOSTILE.format(home=home), "hooks/pre-commit": "#!"})
        monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
        monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00")
        monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
        monkeypatch.setenv("GIT_DIR", str(home))
        before = workplace.written()
        workplace.materialize()
        assert workplace.export() == []
        assert workplace.written() == before

    def test_configuration_of_the_tree_changes_nothing(
        self, workplace: Workplace
    ) -> None:
        before = workplace.written()
        for name, value in {
            "diff.noprefix": "true",
            "diff.mnemonicPrefix": "true",
            "diff.algorithm": "patience",
            "diff.context": "0",
            "diff.external": "false",
            "core.abbrev": "5",
            "format.signature": "a signature",
            "format.subjectPrefix": "OTHER",
            "format.attach": "true",
            "format.from": "true",
            "format.headers": "X-Other: header\n",
            "format.numbered": "true",
            "format.suffix": ".txt",
            "format.thread": "deep",
        }.items():
            workplace.git("config", name, value)
        assert workplace.export() == []
        assert workplace.written() == before

    def test_fixup_workflow(self, workplace: Workplace) -> None:
        before = workplace.written()
        first = workplace.git("log", "--format=%h", "--grep=the first").strip()
        workplace.edit("torch/optim/adam.py", "by name", "by its name")
        write(workplace.tree, {"torch/optim/_names/keys.py": "key = 1\n"})
        workplace.git("add", "-A")
        workplace.git("commit", "-q", f"--fixup={first}")
        with pytest.raises(ToolError, match="fixup! Name the first' is not folded in"):
            workplace.export()
        assert workplace.written() == before
        workplace.git("rebase", "-q", "-i", "--autosquash", "tags/base")
        changed = {path.name for path in workplace.export()}
        assert changed == {
            "0001-Name-the-first.patch",
            "0002-Name-the-second.patch",  # its index line
            "2.13.0",
            "keys.py",
            "revision",
        }
        assert (
            b"by its name" in workplace.written()["patches/0001-Name-the-first.patch"]
        )
        workplace.materialize()
        assert workplace.export() == []

    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("torch_overlay/torch/optim/_names/__init__.py", "names = 'mine'\n"),
            ("torch_overlay/torch/optim/_names/keys.py", "keys = 'mine'\n"),
            ("patches/0002-Name-the-second.patch", "as a pull brought it\n"),
            (
                "patches/series",
                "# Pulled.\n0001-Name-the-first.patch\n0002-Name-the-second.patch\n",
            ),
        ],
    )
    def test_work_outside_the_tree_is_kept(
        self, workplace: Workplace, path: str, content: str
    ) -> None:
        write(workplace.root, {path: content})
        workplace.edit("torch/hub.py", "1", "2")
        workplace.edit("torch/optim/_names/__init__.py", "1", "2")
        workplace.commit("Name the third\n\nWhy not.")
        before = workplace.written()
        with pytest.raises(ToolError) as caught:
            workplace.export()
        for word in (str(workplace.root / path), "--force"):
            assert word in str(caught.value)
        assert workplace.written() == before
        workplace.export(force=True)
        assert workplace.written().get(path) != content.encode()
        # From here on, the tree knows what the series is.
        workplace.edit("torch/optim/_names/__init__.py", "2", "3")
        workplace.commit("Again")
        workplace.export()

    def test_tree_without_a_record(self, workplace: Workplace) -> None:
        (workplace.tree / ".git" / "optim-names.json").unlink()
        assert workplace.export() == []
        workplace.edit("torch/optim/_names/__init__.py", "1", "2")
        workplace.commit("Change the overlay")
        (workplace.tree / ".git" / "optim-names.json").unlink()
        with pytest.raises(ToolError, match=r"_names.__init__\.py"):
            workplace.export()

    @pytest.mark.parametrize(
        "message",
        [
            "Name the third\n\nSome text.\n---\nMore text.",
            "Name the third\n\nAs in\ndiff --git a/torch/hub.py b/torch/hub.py\n",
            "Name the third\n\nAs in\n--- a/torch/hub.py\n",
            "Name the third,\nwhich goes on here\n\nWhy not.",
            "[PATCH] Name the third\n\nWhy not.",
            "[PATCH 3/4] Name the third\n\nWhy not.",
            "名前\n\nWhy not.",
            "",
        ],
    )
    def test_what_does_not_come_back(self, workplace: Workplace, message: str) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit(message, "--allow-empty-message")
        before = workplace.written()
        with pytest.raises(ToolError, match=r"rebase -i' and 'reword'"):
            workplace.export()
        assert workplace.written() == before

    @pytest.mark.parametrize(
        "message",
        [
            "Name the \xdcber-parameter \u540d\n\nText in \u540d\u524d.\n\n * list\n",
            f"Name{' a long subject' * 8}\n\nWhy not.",
        ],
    )
    def test_what_does_come_back(self, workplace: Workplace, message: str) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit(message)
        workplace.export()
        workplace.materialize()
        assert workplace.git("log", "-1", "--format=%B").strip() == message.strip()
        assert workplace.export() == []

    @pytest.mark.parametrize("path", ["torch/notes.txt", "new.py", "torch/a-b.py"])
    def test_new_file_that_no_overlay_holds(
        self, workplace: Workplace, path: str
    ) -> None:
        write(workplace.tree, {path: "new\n"})
        workplace.commit("Add it\n\nWhy not.")
        with pytest.raises(ToolError, match=f"{path} is new in the tree"):
            workplace.export()

    @pytest.mark.parametrize("subject", ["fixup! x", "squash! x", "amend! x"])
    def test_commit_to_be_folded_in(self, workplace: Workplace, subject: str) -> None:
        workplace.commit(subject, "--allow-empty")
        with pytest.raises(ToolError, match=f"'{subject}' is not folded in yet"):
            workplace.export()

    def test_uncommitted_changes(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        with pytest.raises(ToolError, match=r"uncommitted changes \(torch/hub\.py\)"):
            workplace.export()

    def test_other_author(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Third", "--author=A Person <a@person.invalid>")
        with pytest.raises(
            ToolError, match=r"'Third' is by A Person <a@person.invalid>"
        ):
            workplace.export()

    def test_merge(self, workplace: Workplace) -> None:
        workplace.git("checkout", "-q", "-b", "side", "HEAD~1")
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Side")
        workplace.git("checkout", "-q", "optim-names")
        workplace.git("merge", "-q", "side", "-m", "Merge")
        with pytest.raises(ToolError, match="'Merge' is a merge"):
            workplace.export()

    def test_history_without_the_base(self, workplace: Workplace) -> None:
        workplace.git("checkout", "-q", "--orphan", "other")
        workplace.commit("Orphan")
        with pytest.raises(ToolError, match="does not descend from the tag base"):
            workplace.export()

    def test_no_tree(self, empty: Workplace) -> None:
        with pytest.raises(ToolError, match="is not a materialized tree"):
            empty.export()

    def test_new_files_go_to_the_overlay(self, workplace: Workplace) -> None:
        write(workplace.tree, {"torch/optim/_names/keys.py": "key = 1\n"})
        workplace.edit("torch/optim/_names/__init__.py", "names = 1", "names = 2")
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Name the third\n\nIn base and overlay.")
        workplace.edit("torch/optim/_names/keys.py", "1", "2")
        workplace.commit("Only the overlay")
        workplace.export()
        written = workplace.written()
        folder = "torch_overlay/torch/optim/_names"
        assert written[f"{folder}/keys.py"] == b"key = 2\n"
        assert written[f"{folder}/__init__.py"] == b"names = 2\n"
        third = written["patches/0003-Name-the-third.patch"]
        assert third.count(b"diff --git") == 1
        assert b"torch/hub.py" in third
        assert not any("Only-the-overlay" in name for name in written)

    def test_stale_files_are_removed(self, workplace: Workplace) -> None:
        workplace.git("reset", "-q", "--hard", "HEAD~1")
        workplace.git("rm", "-q", "torch/optim/_names/__init__.py")
        workplace.commit("Without the overlay")
        changed = workplace.export()
        assert sorted(workplace.written()) == [
            "patches/0001-Name-the-first.patch",
            "patches/bases/2.13.0",
            "patches/releases",
            "patches/revision",
            "patches/series",
        ]
        assert workplace.patches / "0002-Name-the-second.patch" in changed
        assert not (workplace.overlay / "torch").exists()

    def test_renamed_file_of_pytorch_is_no_rename(self, workplace: Workplace) -> None:
        workplace.git("mv", "torch/hub.py", "torch/center.py")
        workplace.commit("Move\n\nWhy not.")
        workplace.export()
        written = workplace.written()
        assert written["torch_overlay/torch/center.py"] == SOURCES["torch/hub.py"]
        assert b"deleted file" in written["patches/0003-Move.patch"]
        assert b"rename" not in written["patches/0003-Move.patch"]
        workplace.materialize()
        assert workplace.export() == []

    def test_words_in_brackets_stay_in_the_subject(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("[optim] Name the third\n\nWhy not.")
        workplace.export()
        workplace.materialize()
        assert log(workplace)[-1] == "[optim] Name the third"
        assert workplace.export() == []

    @pytest.mark.parametrize("header", ["# Header.\n", "# Header.\n\n", ""])
    def test_header_of_the_order_file_is_kept(
        self, workplace: Workplace, header: str
    ) -> None:
        names = "0001-Name-the-first.patch\n0002-Name-the-second.patch\n"
        (workplace.patches / "series").write_text(header + names)
        assert workplace.export() == []

    def write_sections(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Name the third\n\nWhy not.")
        workplace.export()
        (workplace.patches / "series").write_text(
            "# The order.\n\n# == One\n0001-Name-the-first.patch\n\n# == Two\n"
            "0002-Name-the-second.patch\n0003-Name-the-third.patch\n"
        )
        assert workplace.export() == []

    @pytest.mark.parametrize(
        ("todo", "order"),
        [
            ("132", "# == One\n1\n\n# == Two\n3\n2"),
            ("12", "# == One\n1\n\n# == Two\n2"),
            ("13", "# == One\n1\n\n# == Two\n3"),
            ("1", "# == One\n1"),
            ("14", "# == One\n1\n\n# == Two\n4"),  # 2 with a new subject
            ("1423", "# == One\n1\n4\n\n# == Two\n2\n3"),
            ("1234", "# == One\n1\n\n# == Two\n2\n3\n4"),
            ("213", "# == Two\n2\n\n# == One\n1\n\n# == Two\n3"),
        ],
    )
    def test_sections_are_kept(
        self, workplace: Workplace, todo: str, order: str
    ) -> None:
        self.write_sections(workplace)
        words = {"1": "first", "2": "second", "3": "third", "4": "fourth"}
        slugs = [f"Name-the-{words[number]}.patch" for number in todo]
        every = {"2.13.0": dict.fromkeys(slugs, b"")}
        contents = variants.contents(every, slugs, workplace.patches)
        text = (contents[workplace.patches / "series"] or b"").decode()
        for number, word in words.items():
            text = re.sub(rf"\d+-Name-the-{word}\.patch", number, text)
        assert text == f"# The order.\n\n{order}\n"

    def test_two_commits_with_one_subject(self, workplace: Workplace) -> None:
        workplace.edit("torch/hub.py", "1", "2")
        workplace.commit("Name the first\n\nAgain.")
        with pytest.raises(ToolError, match="Two commits have the same subject"):
            workplace.export()

    def test_failed_writing_changes_nothing(
        self, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = workplace.written()
        workplace.edit("torch/hub.py", "1", "2")
        workplace.edit("torch/optim/_names/__init__.py", "1", "2")
        workplace.commit("Name the third\n\nWhy not.")
        calls = []

        def replace(source: str, target: str) -> None:
            calls.append(target)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            Path(source).rename(target)

        monkeypatch.setattr("tools.files.os.replace", replace)
        with pytest.raises(ToolError, match=r"No space left.* It is as it was"):
            workplace.export()
        assert len(calls) == 2
        assert workplace.written() == before
        monkeypatch.undo()
        assert len(workplace.export()) == 5


def test_series_of_a_tree_applies_to_a_plain_folder(
    workplace: Workplace, tmp_path: Path
) -> None:
    write(tmp_path / "plain", SOURCES)
    promises = series.promises(root=workplace.patches)
    series.apply(series.patches(root=workplace.patches), tmp_path / "plain", promises)
    content = (tmp_path / "plain/torch/optim/adam.py").read_text()
    assert content == (workplace.tree / "torch/optim/adam.py").read_text()
