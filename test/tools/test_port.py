"""Tests of tools.port and tools.variants: one series for several releases."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_torch import RELEASE, SOURCES, Workplace, write, write_wheel

from tools import export, layout, port, series, tree
from tools.errors import ToolError
from tools.releases import Release, supported


PATH = "torch/optim/optimizer.py"
FIRST, SECOND = "0001-Name-the-first.patch", "0002-Name-the-second.patch"

#: A line that goes, far from all hunks.
NEAR = {**SOURCES, PATH: SOURCES[PATH].replace(b"line_30 = 30\n", b"")}

#: Another line beside a hunk of the second patch.
FAR = {**NEAR, PATH: NEAR[PATH].replace(b"line_49 = 49", b"line_49 = 0")}


def begin(
    workplace: Workplace,
    version: str,
    sources: dict[str, bytes],
    start_sources: dict[str, bytes] = SOURCES,
) -> list[str]:
    return port.port(
        Release(version, (3, 11)),
        sources,
        port.neighbor(version, workplace.patches),
        start_sources,
        workplace.tree,
        patches_root=workplace.patches,
        overlay_root=workplace.overlay,
        resolutions=workplace.root / "rerere",
    )


def resolve(workplace: Workplace) -> None:
    """Take both sides, as a person would."""
    file = workplace.tree / PATH
    both = "line_49 = 0\nline_50 = 'fifty'\n"
    file.write_text(re.sub(r"(?s)<{7}.*>{7}[^\n]*\n", both, file.read_text()))
    workplace.git("add", PATH)


def go_on(workplace: Workplace) -> list[str]:
    return port.go_on(workplace.tree, patches_root=workplace.patches)


def ported(workplace: Workplace, version: str, sources: dict[str, bytes]) -> list[str]:
    """Port where the second patch conflicts, and export."""
    with pytest.raises(ToolError, match="'Name the second' conflicts"):
        begin(workplace, version, sources)
    resolve(workplace)
    go_on(workplace)
    return names(workplace, workplace.export())


def names(workplace: Workplace, paths: list[Path]) -> list[str]:
    return sorted(path.relative_to(workplace.patches).as_posix() for path in paths)


def versions(workplace: Workplace) -> list[str]:
    return [release.version for release in supported(workplace.patches)]


def patched(workplace: Workplace, version: str, sources: dict[str, bytes]) -> str:
    """What the series makes of the file; each step is checked by hash."""
    workplace.materialize(sources, release=version)
    assert workplace.export() == []
    return (workplace.tree / PATH).read_text()


def refresh(workplace: Workplace, version: str, sources: dict[str, bytes]) -> list[str]:
    changed = export.refresh(
        version,
        sources,
        workplace.tree,
        patches_root=workplace.patches,
        overlay_root=workplace.overlay,
    )
    return names(workplace, changed)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.16.0", "2.15.0"),
        ("2.15.0", "2.15.0"),
        ("2.14.0", "2.15.0"),
        ("2.13.0", "2.15.0"),
        ("2.12.1", "2.13.0"),
    ],
)
def test_neighbor(tmp_path: Path, version: str, expected: str) -> None:
    write(tmp_path, {"releases": "2.15.0  python 3.11\n2.13.0  python 3.10\n"})
    assert port.neighbor(version, tmp_path).version == expected


def test_neighbor_of_what_is_no_release(workplace: Workplace) -> None:
    with pytest.raises(ToolError, match=r"'2\.16\.0a0' is no release"):
        port.neighbor("2.16.0a0", workplace.patches)


def test_release_that_needs_no_variant(workplace: Workplace) -> None:
    assert begin(workplace, "2.12.1", NEAR) == []
    changed = names(workplace, workplace.export())
    assert changed == ["bases/2.12.1", "releases", "revision"]
    assert supported(workplace.patches) == [RELEASE, Release("2.12.1", (3, 11))]
    text = patched(workplace, "2.12.1", NEAR)
    assert "line_five" in text
    assert "fifty" in text
    assert "line_30" not in text


def test_release_that_is_ported_again_keeps_its_line(workplace: Workplace) -> None:
    begin(workplace, "2.12.1", NEAR)
    workplace.export()
    file = workplace.patches / "releases"
    line = "2.12.1  python 3.12  optimizers\n"
    file.write_text(file.read_text().replace("2.12.1  python 3.11\n", line))
    begin(workplace, "2.12.1", NEAR)
    workplace.export()
    assert file.read_text().endswith(line)


def test_conflict(workplace: Workplace) -> None:
    before = workplace.written()
    with pytest.raises(ToolError) as caught:
        begin(workplace, "2.12.1", FAR)
    for word in ("'Name the second' conflicts", PATH, "port --continue"):
        assert word in str(caught.value)
    text = (workplace.tree / PATH).read_text()
    assert "||||||| " in text  # what the patch was made for
    assert "rebase in progress" in workplace.git("status")
    with pytest.raises(ToolError, match="conflicts"):
        go_on(workplace)
    with pytest.raises(ToolError, match="is in the middle of 'git rebase'"):
        workplace.materialize()
    workplace.git("add", PATH)
    with pytest.raises(ToolError, match=r"optimizer\.py:\d+: leftover conflict marker"):
        go_on(workplace)
    resolve(workplace)
    assert go_on(workplace) == []
    assert workplace.written() == before
    with pytest.raises(ToolError, match="not exported"):
        workplace.materialize()
    changed = names(workplace, workplace.export())
    assert changed == [f"2.12.1/{SECOND}", "bases/2.12.1", "releases", "revision"]
    workplace.export()
    text = patched(workplace, "2.12.1", FAR)
    assert "line_49 = 0\nline_50 = 'fifty'" in text
    assert "line_49 = 49\nline_50 = 'fifty'" in patched(workplace, "2.13.0", SOURCES)


def test_conflict_is_resolved_once(workplace: Workplace) -> None:
    with pytest.raises(ToolError, match="conflicts"):
        begin(workplace, "2.12.1", FAR)
    resolve(workplace)
    go_on(workplace)
    tree_before = workplace.git("rev-parse", "HEAD^{tree}")
    workplace.materialize(force=True)
    assert begin(workplace, "2.12.1", FAR) == []
    assert workplace.git("rev-parse", "HEAD^{tree}") == tree_before


def test_newer_release(workplace: Workplace) -> None:
    """It gets ``patches/`` itself; what differs for the former goes into a folder."""
    former = (workplace.patches / SECOND).read_bytes()
    changed = ported(workplace, "2.14.0", FAR)
    assert changed == [
        FIRST,
        SECOND,
        f"2.13.0/{SECOND}",
        "bases/2.14.0",
        "releases",
        "revision",
    ]
    assert versions(workplace) == ["2.14.0", "2.13.0"]
    assert (workplace.patches / "2.13.0" / SECOND).read_bytes() == former
    assert b" line_49 = 0\n" in (workplace.patches / SECOND).read_bytes()
    assert "fifty" in patched(workplace, "2.14.0", FAR)
    assert "fifty" in patched(workplace, "2.13.0", SOURCES)


def test_neighbors_share(workplace: Workplace) -> None:
    ported(workplace, "2.14.1", FAR)
    workplace.materialize(FAR, release="2.14.1")
    begin(workplace, "2.14.0", FAR, FAR)
    changed = names(workplace, workplace.export())
    assert changed == ["bases/2.14.0", "releases", "revision"]
    # The one in the middle differs now, and 2.13.0 keeps what it had.
    assert versions(workplace) == ["2.14.1", "2.14.0", "2.13.0"]
    assert "line_49 = 49" in patched(workplace, "2.13.0", SOURCES)


def test_patch_without_a_place(workplace: Workplace) -> None:
    with pytest.raises(ToolError, match="conflicts"):
        begin(workplace, "2.12.1", FAR)
    workplace.git("rebase", "--skip")
    assert go_on(workplace) == [SECOND]
    changed = names(workplace, workplace.export())
    assert changed == ["bases/2.12.1", "releases", "revision", "series"]
    order = (workplace.patches / "series").read_text()
    assert order.endswith(f"\n{FIRST}\n{SECOND}  # since 2.13.0\n")
    assert "fifty" not in patched(workplace, "2.12.1", FAR)
    assert "fifty" in patched(workplace, "2.13.0", SOURCES)
    # An edit elsewhere does not bring it back.
    workplace.edit("torch/hub.py", "1", "2")
    workplace.commit("Name the third\n\nWhy not.")
    workplace.export()
    refresh(workplace, "2.12.1", FAR)
    assert "fifty" not in patched(workplace, "2.12.1", FAR)
    assert (workplace.tree / "torch/hub.py").read_text() == "hub = 2\n"


def test_newest_release_has_all(workplace: Workplace) -> None:
    with pytest.raises(ToolError, match="conflicts"):
        begin(workplace, "2.14.0", FAR)
    workplace.git("rebase", "--skip")
    go_on(workplace)
    before = workplace.written()
    with pytest.raises(
        ToolError, match=rf"{SECOND} is in the series for 2\.13\.0, but"
    ):
        workplace.export()
    assert workplace.written() == before


def test_other_release_is_not_taken_without_a_port(workplace: Workplace) -> None:
    workplace.git("config", tree.RELEASE, "2.12.1")
    with pytest.raises(ToolError, match=r"2\.12\.1 is not supported"):
        workplace.export()


def test_tree_that_is_no_port(workplace: Workplace) -> None:
    with pytest.raises(ToolError, match="is no port"):
        go_on(workplace)


def test_oldest_python(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    assert tree.oldest_python(wheel) == (3, 10)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torch-2.13.0.dist-info/METADATA", "Name: torch\n")
    with pytest.raises(ToolError, match="does not say which Python"):
        tree.oldest_python(wheel)


class TestCommand:
    """``python -m tools port`` in a repository, with wheels in its cache."""

    @pytest.fixture
    def repository(self, workplace: Workplace) -> Workplace:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(layout.ROOT / "tools", workplace.root / "tools", ignore=ignore)
        cache = workplace.root / "build" / "cache" / "any"
        cache.mkdir(parents=True)
        for version, sources in (
            ("2.13.0", SOURCES),
            ("2.12.1", NEAR),
            ("2.14.0", FAR),
        ):
            write_wheel(cache, f"{version}+cpu", sources)
        return workplace

    def run(
        self, repository: Workplace, *words: str
    ) -> "subprocess.CompletedProcess[str]":
        variables = {k: v for k, v in os.environ.items() if "OPTIM_NAMES" not in k}
        return subprocess.run(
            [sys.executable, "-m", "tools", *words],
            cwd=repository.root,
            env=variables,
            capture_output=True,
            text=True,
        )

    def test_ports(self, repository: Workplace) -> None:
        done = self.run(repository, "port", "2.12.1")
        assert done.stdout.startswith("From PyTorch 2.13.0 to 2.12.1.\n")
        assert self.run(repository, "export").returncode == 0
        assert versions(repository) == ["2.13.0", "2.12.1"]
        done = self.run(repository, "port", "2.14.0")
        assert done.returncode == 1
        assert "port --continue" in done.stderr
        resolve(repository)
        assert self.run(repository, "port", "--continue").returncode == 0
        assert self.run(repository, "export").returncode == 0
        assert versions(repository) == ["2.14.0", "2.13.0", "2.12.1"]
        for version, sources in (
            ("2.14.0", FAR),
            ("2.13.0", SOURCES),
            ("2.12.1", NEAR),
        ):
            assert "fifty" in patched(repository, version, sources)

    def test_edit_for_all(self, repository: Workplace) -> None:
        """An export looks at all releases of which there is a wheel."""
        self.run(repository, "port", "2.12.1")
        self.run(repository, "export")
        (repository.patches / "releases").write_text(
            "2.13.0  python 3.10\n2.12.1  python 3.10\n2.11.0  python 3.10\n"
        )
        assert self.run(repository, "materialize").returncode == 0
        repository.edit(PATH, "line_five", "line_V")
        repository.git("commit", "-q", "-a", "--fixup=:/^Name the first")
        repository.git("rebase", "-q", "-i", "--autosquash", "tags/base")
        done = self.run(repository, "export")
        assert "wrote patches/bases/2.12.1" in done.stdout.replace("\\", "/")
        assert "Not looked at, for lack of a wheel: 2.11.0." in done.stdout
        assert "line_V" in patched(repository, "2.12.1", NEAR)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "Name the release to port to"),
            (("2.16.0a0",), "'2.16.0a0' is no release of PyTorch"),
            (("--continue",), "is no port"),
        ],
    )
    def test_mistakes(
        self, repository: Workplace, words: tuple[str, ...], message: str
    ) -> None:
        done = self.run(repository, "port", *words)
        assert done.returncode == 1
        assert message in done.stderr


class TestEdits:
    """An edit in the tree of one release is one in all that have the same patch."""

    @pytest.fixture
    def both(self, workplace: Workplace) -> Workplace:
        ported(workplace, "2.12.1", FAR)
        return workplace

    def test_new_patch(self, both: Workplace) -> None:
        both.materialize(FAR, release="2.12.1")
        both.edit("torch/hub.py", "1", "2")
        both.commit("Name the third\n\nWhy not.")
        changed = names(both, both.export())
        assert changed == [
            "0003-Name-the-third.patch",
            "bases/2.12.1",
            "revision",
            "series",
        ]
        assert refresh(both, "2.13.0", SOURCES) == ["bases/2.13.0"]
        patched(both, "2.13.0", SOURCES)
        assert (both.tree / "torch/hub.py").read_text() == "hub = 2\n"

    def test_shared_patch(self, both: Workplace) -> None:
        both.materialize(FAR, release="2.12.1")
        both.edit(PATH, "line_five", "line_V")
        both.git("commit", "-q", "-a", "--fixup=:/^Name the first")
        both.git("rebase", "-q", "-i", "--autosquash", "tags/base")
        assert FIRST in names(both, both.export())
        # The newest one's has the numbers of its files again.
        assert refresh(both, "2.13.0", SOURCES) == [FIRST, SECOND, "bases/2.13.0"]
        for version, sources in (("2.12.1", FAR), ("2.13.0", SOURCES)):
            assert "line_V" in patched(both, version, sources)

    def test_variants_are_their_own(self, both: Workplace) -> None:
        assert export.apart(both.tree, patches_root=both.patches) == {}
        for version, sources, elsewhere, other in (
            ("2.12.1", FAR, "2.13.0", both.patches / SECOND),
            ("2.13.0", SOURCES, "2.12.1", both.patches / "2.12.1" / SECOND),
        ):
            before = other.read_bytes()
            both.materialize(sources, release=version)
            both.edit("torch/optim/adam.py", "named=0", "named=1")
            both.git("commit", "-q", "-a", "--amend", "--no-edit")
            apart = export.apart(both.tree, patches_root=both.patches)
            assert apart == {series.slug(SECOND): [elsewhere]}
            assert both.export() != []
            assert other.read_bytes() == before

    def test_message_is_for_all(self, both: Workplace) -> None:
        both.materialize()
        message = "Name the last\n\nIt is better."
        both.git("commit", "-q", "--amend", "-m", message)
        new = "0002-Name-the-last.patch"
        changed = {
            f"{folder}{name}" for folder in ("", "2.12.1/") for name in (SECOND, new)
        }
        assert {*names(both, both.export())} == {*changed, "revision", "series"}
        for folder in ("", "2.12.1"):
            assert "It is better." in (both.patches / folder / new).read_text()
        assert "line_49 = 0" in patched(both, "2.12.1", FAR)

    def test_patch_that_is_taken_out(self, both: Workplace) -> None:
        both.materialize()
        both.git("reset", "-q", "--hard", "HEAD~1")
        both.export()
        assert not (both.patches / "2.12.1").exists()
        refresh(both, "2.12.1", FAR)
        assert "fifty" not in patched(both, "2.12.1", FAR)

    def test_edit_that_does_not_fit_elsewhere(self, both: Workplace) -> None:
        both.materialize()
        both.edit(PATH, "line_30 = 30", "line_30 = 'thirty'")
        both.commit("Name the third\n\nWhy not.")
        both.export()
        with pytest.raises(ToolError, match=r"Patch 0003-Name-the-third.* hunk 1"):
            refresh(both, "2.12.1", FAR)

    def test_variant_that_became_common(self, both: Workplace) -> None:
        both.materialize(SOURCES, release="2.13.0")
        variant = both.patches / "2.12.1" / SECOND
        variant.write_bytes((both.patches / SECOND).read_bytes())
        both.materialize(SOURCES, release="2.13.0")
        assert variant in both.export()
        assert not variant.parent.exists()
