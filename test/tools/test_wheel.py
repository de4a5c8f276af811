import errno
import os
import random
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections import namedtuple

import pytest
import tiny_torch

from tools import archive, base, git, progress, wheel
from tools.errors import ToolError
from tools.patched import Series


@pytest.fixture
def official(tmp_path):
    return tiny_torch.make(tmp_path / "official")


@pytest.fixture
def root(tmp_path):
    """A folder with the small patch and overlay."""
    return tiny_torch.write_series(tmp_path / "series")


@pytest.fixture
def label(root):
    """What the version of a wheel ends with."""
    return tiny_torch.label(root)


@pytest.fixture
def build(tmp_path, root):
    """Build with the small series, into a folder of the test's own."""

    def build(path, out=tmp_path / "out", root=root):
        roots = {
            "patches_root": root / "patches",
            "overlay_root": root / "torch_overlay",
        }
        return wheel.build(path, out, **roots)

    return build


@pytest.fixture
def refused(build, tmp_path):
    """Fail to build, and leave nothing behind."""

    def refused(path, *words, **arguments):
        with pytest.raises(ToolError) as caught:
            build(path, **arguments)
        for word in words:
            assert word in str(caught.value)
        out = tmp_path / "out"
        assert not out.is_dir() or not list(out.iterdir())

    return refused


def test_only_what_should_change_changes(official, build, label):
    result = build(official)
    held = tiny_torch.check_record(result)
    before = tiny_torch.contents(official)
    optimizer = before["torch/optim/optimizer.py"].decode()
    patched = optimizer.replace("line_21 = 21\n", "line_21 = 'patched'\n")
    assert held["torch/optim/optimizer.py"].decode() == patched
    assert held["torch/optim/adam.py"].endswith(b"    named = True\n")
    assert held["torch/optim/_names/keys.py"] == b"KEYS = 1\n"
    line = f"\n__version__ = '2.13.0+cpu.{label}'\n"
    assert line.encode() in held["torch/version.py"]
    metadata = held[f"torch-2.13.0+cpu.{label}.dist-info/METADATA"]
    assert f"\nVersion: 2.13.0+cpu.{label}\n".encode() in metadata
    assert b"\n\nVersion: 2.13.0+cpu is described here.\n" in metadata
    rewritten = {
        "torch/optim/optimizer.py",
        "torch/optim/adam.py",
        "torch/version.py",
        "torch-2.13.0+cpu.dist-info/METADATA",
        "torch-2.13.0+cpu.dist-info/RECORD",
    }
    for name in before.keys() - rewritten:
        new_name = name.replace("cpu.dist-info", f"cpu.{label}.dist-info")
        assert held[new_name] == before[name]
    assert len(held) == len(before) + 1


@pytest.mark.parametrize(
    ("version", "own_version", "labeled", "own_labeled"),
    [
        ("2.13.0", "2.13.0", "2.13.0+", "2.13.0+"),
        ("2.13.0+cpu", "2.13.0+cpu", "2.13.0+cpu.", "2.13.0+cpu."),
        # Wheels on the main index: only torch.__version__ has the label.
        ("2.13.0", "2.13.0+cu130", "2.13.0+", "2.13.0+cu130."),
    ],
)
def test_version_gets_a_label(
    tmp_path, build, label, version, own_version, labeled, own_labeled
):
    labeled, own_labeled = labeled + label, own_labeled + label
    result = build(tiny_torch.make(tmp_path, version=version, own_version=own_version))
    assert result.name == f"torch-{labeled}-{tiny_torch.WHEEL_TAGS}.whl"
    held = tiny_torch.check_record(result)
    assert f"__version__ = '{own_labeled}'".encode() in held["torch/version.py"]
    assert (
        f"\nVersion: {labeled}\n".encode()
        in held[f"torch-{labeled}.dist-info/METADATA"]
    )


def test_file_name_may_be_quoted_for_a_url(official, build, label):
    quoted = official.rename(official.with_name(official.name.replace("+", "%2B")))
    name = f"torch-2.13.0+cpu.{label}-{tiny_torch.WHEEL_TAGS}.whl"
    assert build(quoted).name == name


def test_untouched_entries_keep_their_bytes_and_attributes(official, build, label):
    result = build(official)
    with official.open("rb") as old, result.open("rb") as new:
        before, after = archive.entries(old), archive.entries(new)
        for name in ("torch/lib/libtorch.so", "torch/__init__.py"):
            spans = []
            for file, entry in ((old, before[name]), (new, after[name])):
                file.seek(entry.start)
                spans.append(file.read(entry.end - entry.start))
            assert spans[0] == spans[1]
    with zipfile.ZipFile(official) as old, zipfile.ZipFile(result) as new:
        for info in old.infolist():
            name = info.filename.replace("cpu.dist-info", f"cpu.{label}.dist-info")
            same = new.getinfo(name)
            assert same.date_time == info.date_time
            assert same.external_attr == info.external_attr
        added = new.getinfo("torch/optim/_names/keys.py")
        assert added.date_time == (2026, 7, 3, 22, 22, 48)
        assert added.external_attr == 0o100644 << 16
        assert new.namelist()[-1].endswith(".dist-info/RECORD")


def test_same_input_gives_the_same_bytes(official, build, root, tmp_path):
    first = build(official, tmp_path / "one").read_bytes()
    os.utime(root / "torch_overlay/torch/optim/_names/keys.py", (0, 0))
    os.utime(official, (0, 0))
    assert build(official, tmp_path / "two").read_bytes() == first


def test_an_earlier_result_is_replaced(official, build):
    result = build(official)
    bytes_ = result.read_bytes()
    result.write_bytes(b"old")
    assert build(official).read_bytes() == bytes_
    assert [file.name for file in result.parent.iterdir()] == [result.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_result_gets_the_mode_of_a_new_file(official, build):
    mask = os.umask(0o027)
    try:
        assert build(official).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


def test_windows_line_endings_are_kept(tmp_path, build, label):
    held = tiny_torch.check_record(build(tiny_torch.make(tmp_path, crlf=True)))
    for name in ("torch/optim/optimizer.py", "torch/optim/adam.py", "torch/version.py"):
        assert held[name].count(b"\r\n") == held[name].count(b"\n") > 1
    assert b"line_21 = 'patched'\r\n" in held["torch/optim/optimizer.py"]
    assert f"'2.13.0+cpu.{label}'\r\n".encode() in held["torch/version.py"]


@pytest.mark.parametrize("how", ["descriptors", "directories", "zip64"])
def test_other_forms_of_zip(tmp_path, build, how):
    path = tiny_torch.make(tmp_path, **{how: True})
    plain = tiny_torch.check_record(build(tiny_torch.make(tmp_path / "plain")))
    assert tiny_torch.check_record(build(path, tmp_path / "other")) == plain


def test_no_entry_stays_in_the_old_folder(tmp_path, build):
    result = build(tiny_torch.make(tmp_path, directories=True))
    assert not [
        n for n in tiny_torch.contents(result) if n.startswith("torch-2.13.0+cpu.d")
    ]


def test_zip64_output(official, build, monkeypatch):
    # As if a field held no more than 50,000: every kind of field exceeds that.
    monkeypatch.setattr(archive, "_LIMIT", 50_000)
    monkeypatch.setattr(archive, "_COUNT_LIMIT", 5)
    result = build(official)
    assert b"PK\6\6" in result.read_bytes()
    held = tiny_torch.check_record(result)
    # The reader here understands it, too.
    with result.open("rb") as file:
        entries = archive.entries(file)
        assert {n: archive.content(file, e) for n, e in entries.items()} == held


@pytest.mark.parametrize("kernel", ["absent", "refusing"])
def test_copy_without_help_of_the_kernel(
    official, build, tmp_path, monkeypatch, kernel
):
    expected = build(official, tmp_path / "kernel").read_bytes()
    if kernel == "absent":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:

        def refuse(*arguments):
            raise OSError(errno.EXDEV, "not between these")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    assert build(official, tmp_path / "buffer").read_bytes() == expected


def test_parts_outside_torch_are_left_out(official, build, tmp_path):
    both = tiny_torch.DIFFS + tiny_torch.OUTSIDE
    patches = {"0001.patch": both, "0002.patch": tiny_torch.OUTSIDE}
    root = tiny_torch.write_series(tmp_path / "both", patches)
    expected = tiny_torch.contents(build(official, tmp_path / "expected"))
    found = tiny_torch.check_record(build(official, root=root))
    assert len(found) == len(expected)
    # The version says which patches there are.
    for name in expected.keys() - {"torch/version.py"}:
        if name.startswith("torch/"):
            assert found[name] == expected[name]


def test_patch_that_does_not_apply(official, refused, tmp_path):
    wrong = tiny_torch.PATCH.replace("-line_21 = 21", "-line_21 = 'other'")
    root = tiny_torch.write_series(tmp_path / "wrong", {"0007-Wrong.patch": wrong})
    words = ("0007-Wrong.patch", "torch/optim/optimizer.py", "hunk 1")
    refused(official, *words, root=root)


def test_patch_that_lost_a_hunk(official, refused, tmp_path):
    root = tiny_torch.write_series(
        tmp_path / "lost", {"0007-Lost.patch": tiny_torch.PATCH}
    )
    base = root / "patches" / "bases" / "2.13.0"
    held = git.blob(tiny_torch.PATCHED_OPTIMIZER.encode())
    whole = git.blob(b"another line is changed, too")
    base.write_text(base.read_text().replace(held, whole))
    words = ("0007-Lost.patch", "torch/optim/optimizer.py did not become")
    refused(official, *words, root=root)


def test_temporary_folder_with_a_colon(official, build, tmp_path, monkeypatch):
    expected = build(official, tmp_path / "expected").read_bytes()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    odd = tmp_path / "odd:folder"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    assert build(official).read_bytes() == expected
    assert list(odd.iterdir()) == []


@pytest.mark.parametrize(
    ("tags", "inner_tags"),
    [
        ("cp311-cp311-linux_x86_64", "cp311-cp311-linux_aarch64"),
        ("cp311-cp311-linux_x86_64", "cp310-cp310-linux_x86_64"),
        ("py2.py3-none-any", "py3-none-any"),
    ],
)
def test_name_that_disagrees_with_the_tags_inside(tmp_path, refused, tags, inner_tags):
    path = tiny_torch.make(tmp_path, tags=tags, inner_tags=inner_tags)
    refused(path, path.name, "says inside that it is for", "published it")


def test_abi_in_the_name_may_be_none(tmp_path, build):
    """PyTorch publishes such wheels for macOS."""
    tags, inner_tags = (f"cp311-{abi}-macosx_11_0_arm64" for abi in ("none", "cp311"))
    path = tiny_torch.make(tmp_path, tags=tags, inner_tags=inner_tags)
    assert build(path).name.endswith(f"{tags}.whl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_base_that_is_no_file(tmp_path, refused, make):
    make(tmp_path / "torch.whl")
    refused(tmp_path / "torch.whl", "torch.whl is not a file")


def test_patch_of_a_file_that_is_not_there(official, refused, tmp_path):
    wrong = tiny_torch.PATCH.replace("optim/adam.py", "optim/none.py")
    root = tiny_torch.write_series(tmp_path / "wrong", {"0001.patch": wrong})
    refused(official, "torch/optim/none.py", official.name, root=root)


def test_overlay_file_that_torch_has(official, refused, tmp_path):
    overlay = {"torch/optim/__init__.py": ""}
    root = tiny_torch.write_series(tmp_path / "both", overlay=overlay)
    refused(official, "torch/optim/__init__.py", root=root)


def test_no_git(official, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(official, "git")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"version": "2.12.0+cpu"}, ("2.12.0+cpu", "2.13.0")),
        ({"version": "2.13.0.post1"}, ("2.13.0.post1",)),
        ({"name": "torchvision"}, ("torchvision", "a wheel of torch is needed")),
        ({"version": "2.13.0+cpu.named"}, ("patched already",)),
    ],
)
def test_other_wheels(tmp_path, refused, how, words):
    path = tiny_torch.make(tmp_path, **how)
    refused(path, path.name, *words)


def test_own_output_is_refused(official, build, tmp_path):
    with pytest.raises(ToolError, match="patched already"):
        build(build(official, tmp_path / "first"))


def test_no_such_file(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # pip shows this far away from where the path was typed.
    refused(base.Path("none.whl"), f"{tmp_path / 'none.whl'} does not exist")


def test_not_an_archive(tmp_path, refused):
    path = tmp_path / "torch.whl"
    path.write_text("A page that says: not found.\n")
    refused(path, "torch.whl", "not a wheel")


def test_archive_that_is_no_wheel(tmp_path, refused):
    path = tiny_torch.write(tmp_path / "a.whl", {"a.txt": b"a"})
    refused(path, "a.whl", "dist-info/RECORD")


def test_wheel_under_another_name(official, refused):
    renamed = official.rename(official.with_name("torch.whl"))
    refused(renamed, "torch.whl", "not named", "2.13.0+cpu")


@pytest.mark.parametrize(
    "name",
    [
        "torch/optim/optimizer.py",
        "torch/version.py",
        "torch-2.13.0+cpu.dist-info/METADATA",
    ],
)
def test_file_that_is_not_as_recorded(official, refused, name):
    contents = tiny_torch.contents(official)
    contents[name] += b"# changed\n"
    refused(tiny_torch.write(official, contents), official.name, name, "RECORD")


@pytest.mark.parametrize("change", ["unlisted", "missing"])
def test_record_that_does_not_fit(official, refused, change):
    contents = tiny_torch.contents(official)
    if change == "unlisted":
        contents["torch/more.py"] = b""
    else:
        del contents["torch/__init__.py"]
    name = "torch/more.py" if change == "unlisted" else "torch/__init__.py"
    refused(tiny_torch.write(official, contents), official.name, name, "RECORD")


def test_broken_compressed_bytes(official, refused):
    with official.open("rb") as file:
        entry = archive.entries(file)["torch/optim/optimizer.py"]
    data = bytearray(official.read_bytes())
    data[entry.data + entry.compress_size // 2] ^= 0xFF
    official.write_bytes(data)
    refused(official, official.name, "torch/optim/optimizer.py", "Delete it")


def test_truncated_at_any_length(official, refused):
    data = official.read_bytes()
    lengths = {0, 1, 22, len(data) - 1, *range(0, len(data), 1009)}
    lengths |= set(range(len(data) - 1600, len(data), 37))
    for length in sorted(lengths):
        official.write_bytes(data[:length])
        refused(official, official.name, "damaged")


def test_bytes_missing_in_the_middle(official, refused):
    data = official.read_bytes()
    official.write_bytes(data[:60_000] + data[60_100:])
    refused(official, official.name, "damaged")


def test_garbage_is_an_error_or_does_no_harm(official, build, tmp_path):
    """Whatever byte is wrong, what comes out is a message or a wheel."""
    data = official.read_bytes()
    rng = random.Random(1)
    directory = data.index(b"PK\1\2")
    positions = [rng.randrange(directory, len(data)) for _ in range(200)]
    positions += [rng.randrange(len(data)) for _ in range(100)]
    errors = 0
    root = tiny_torch.write_series(tmp_path / "none", {})
    for position in positions:
        broken = bytearray(data)
        broken[position] ^= rng.randrange(1, 256)
        official.write_bytes(broken)
        try:
            build(official, root=root)
        except ToolError as error:
            errors += 1
            assert official.name in str(error)
    assert errors > 100


def test_entries_that_overlap(official, refused):
    data = bytearray(official.read_bytes())
    first = data.index(b"PK\1\2")
    # The first entry claims more compressed bytes than lie before the second.
    data[first + 20 : first + 24] = (50_000).to_bytes(4, "little")
    official.write_bytes(data)
    refused(official, official.name, "damaged")


def _central(data, name):
    """Where the central record of an entry starts."""
    return data.index(name.encode(), data.index(b"PK\1\2")) - 46


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("signature", "torch/__init__.py is not where"),
        ("name", "torch/__init__.py is not where"),
        ("longer name", "torch/__init__.py has another name"),
        ("fewer entries", "another size than announced"),
        ("more entries", "central directory is broken"),
        ("bytes after the end", "end record is not at its end"),
        ("bytes before the start", "central directory is not where"),
        ("crc of RECORD", "RECORD has another size or CRC-32"),
        ("encrypted RECORD", "RECORD is encrypted"),
        ("unknown compression of RECORD", "RECORD uses an unknown compression"),
    ],
)
def test_contradictions(official, refused, damage, words):
    data = bytearray(official.read_bytes())
    header = data.index(b"torch/__init__.py") - 30
    record = _central(data, "torch-2.13.0+cpu.dist-info/RECORD")
    if damage == "signature":
        data[header] = 0
    elif damage == "name":
        data[header + 30] ^= 1
    elif damage == "longer name":
        data[header + 26] += 1
    elif damage == "fewer entries":
        data[-12] -= 1
    elif damage == "more entries":
        data[-12] += 1
    elif damage == "bytes after the end":
        data += b"more"
    elif damage == "bytes before the start":
        data = b"more" + data
    elif damage == "crc of RECORD":
        data[record + 16] ^= 1
    elif damage == "encrypted RECORD":
        data[record + 8] |= 1
    else:
        data[record + 10] = 99
    official.write_bytes(data)
    refused(official, official.name, "damaged", words)


def test_name_that_is_there_twice(official, refused):
    with (
        zipfile.ZipFile(official, "a") as zipped,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        zipped.writestr("torch/optim/adam.py", "x = 1\n")
    refused(official, official.name, "torch/optim/adam.py is there twice")


def test_too_little_space_is_seen_beforehand(official, refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    refused(official, "cannot be written", "No space left", "MiB; free some space")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_space_runs_out_in_the_middle(official, build, monkeypatch, code):
    result = build(official)
    before = result.read_bytes()

    def fail(self):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(archive.Writer, "finish", fail)
    with pytest.raises(ToolError, match="free some space"):
        build(official)
    assert result.read_bytes() == before
    assert [file.name for file in result.parent.iterdir()] == [result.name]


def test_limit_of_file_size(official, refused):
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
    try:
        refused(official, "cannot be written", "free some space")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_output_folder_that_is_a_file(official, tmp_path, refused):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(official, "cannot be written", "another folder", out=out)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere"
)
def test_output_folder_that_is_read_only(official, tmp_path, refused):
    (tmp_path / "out").mkdir(mode=0o555)
    refused(official, "cannot be written", "permissions")


def test_interruption_leaves_nothing(official, build, tmp_path, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(archive.Writer, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(official)
    assert list((tmp_path / "out").iterdir()) == []


def test_no_progress_without_a_terminal(official, build, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    build(official)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(official, build, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    result = build(official)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"\rWriting {result.name}: 0 of 0 MiB" in err
    # The line is wiped at the end.
    assert err.endswith("\r") and err.rstrip("\r").endswith("  ")


def _real_wheels():
    folder = os.environ.get("OPTIM_NAMES_TEST_WHEELS")
    if folder:
        return sorted(base.Path(folder).glob("torch-*.whl"))
    found = base.named_wheel() or base.cached(base.Wanted())
    return [found] if found else []


@pytest.mark.parametrize("path", _real_wheels() or [None])
def test_official_wheel(path, tmp_path):
    if path is None:
        pytest.skip(
            "no official wheel in the cache, $OPTIM_NAMES_BASE_WHEEL or the folder "
            "$OPTIM_NAMES_TEST_WHEELS"
        )
    result = wheel.build(path, tmp_path)
    held = tiny_torch.check_record(result)
    version = path.name.split("-")[1]
    new_version = result.name.split("-")[1]
    laid = Series(version.partition("+")[0])
    assert new_version == f"{version}{'.' if '+' in version else '+'}{laid.label}"
    touched = {*laid.promises, "torch/version.py"}
    with zipfile.ZipFile(path) as zipped:
        for info in zipped.infolist():
            name = info.filename.replace(f"torch-{version}.", f"torch-{new_version}.")
            if not (name in touched or name.endswith(("/", "/METADATA", "/RECORD"))):
                assert zlib.crc32(held[name]) == info.CRC
