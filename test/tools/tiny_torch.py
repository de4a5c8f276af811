"""Wheels and checkouts that look like torch, and take milliseconds to make."""

import base64
import csv
import hashlib
import io
import itertools
import random
import shutil
import zipfile
from pathlib import Path

from tools import git, layout
from tools.patched import Series


WHEEL_TAGS = "cp311-cp311-manylinux_2_28_x86_64"

OPTIMIZER = "".join(f"line_{number} = {number}\n" for number in range(1, 41))
ADAM = "import math\n\n\nclass Adam:\n    pass\n"


def index(before, after):
    """The index line of a diff between two texts."""
    return f"index {git.blob(before.encode())}..{git.blob(after.encode())} 100644"


PATCHED_ADAM = ADAM.replace("    pass\n", "    named = True\n")


def patched(optimizer):
    """What the patch makes of an optimizer."""
    return optimizer.replace("line_21 = 21\n", "line_21 = 'patched'\n")


PATCHED_OPTIMIZER = patched(OPTIMIZER)

#: What the patch below changes, in Adam and in the optimizer's line 21.
DIFFS = f"""\
diff --git a/torch/optim/adam.py b/torch/optim/adam.py
{index(ADAM, PATCHED_ADAM)}
--- a/torch/optim/adam.py
+++ b/torch/optim/adam.py
@@ -4,2 +4,2 @@ import math
 class Adam:
-    pass
+    named = True
diff --git a/torch/optim/optimizer.py b/torch/optim/optimizer.py
{index(OPTIMIZER, PATCHED_OPTIMIZER)}
--- a/torch/optim/optimizer.py
+++ b/torch/optim/optimizer.py
@@ -20,3 +20,3 @@ line_19 = 19
 line_20 = 20
-line_21 = 21
+line_21 = 'patched'
 line_22 = 22
"""

PATCH = (
    """\
From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: A <a@example.org>
Date: Thu, 1 Jan 1970 00:00:00 +0000
Subject: [PATCH] Change two lines

---
"""
    + DIFFS
    + "--\x20\n2.39.0\n"
)

OLD_TEST, NEW_TEST = "old = 1\n", "new = 1\n"

#: A change of a file that no wheel holds.
OUTSIDE = f"""\
diff --git a/test/test_optim.py b/test/test_optim.py
{index(OLD_TEST, NEW_TEST)}
--- a/test/test_optim.py
+++ b/test/test_optim.py
@@ -1,1 +1,1 @@
-old = 1
+new = 1
"""


class Unseekable(io.RawIOBase):
    """A file that :mod:`zipfile` writes with data descriptors."""

    def __init__(self, path):
        self._file = path.open("wb")

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)

    def close(self):
        self._file.close()
        super().close()


def expanded(tags):
    """The tags that a file name stands for, one a line."""
    parts = itertools.product(*(part.split(".") for part in tags.split("-")))
    return "".join(f"Tag: {'-'.join(tag)}\n" for tag in parts)


def optimizer(version):
    """The optimizer of a release; each but 2.13 has its own last line."""
    return OPTIMIZER if version.startswith("2.13.") else f"{OPTIMIZER}# {version[:6]}\n"


def files(
    *,
    version="2.13.0+cpu",
    own_version=None,
    name="torch",
    crlf=False,
    tags=WHEEL_TAGS,
):
    """The content of a small torch wheel, without RECORD."""
    info = f"{name}-{version}.dist-info"
    texts = {
        "torch/__init__.py": "from .version import __version__\n",
        "torch/optim/__init__.py": "",
        "torch/optim/adam.py": ADAM,
        "torch/optim/optimizer.py": optimizer(version),
        "torch/version.py": "__all__ = ['__version__']\n"
        f"__version__ = '{own_version or version}'\ndebug = False\n",
        'torch/odd, "name".txt': "odd\n",
        f"{info}/licenses/LICENSE": "You may.\n",
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        f"Summary: small\n\nVersion: {version} is described here.\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\n{expanded(tags)}",
    }
    ending = "\r\n" if crlf else "\n"
    contents = {n: t.replace("\n", ending).encode() for n, t in texts.items()}
    contents["torch/lib/libtorch.so"] = random.Random(0).randbytes(100_000)
    return contents


def record(contents, own):
    """RECORD for contents, with its own name as the last line."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
        writer.writerow([name, f"sha256={digest.decode().rstrip('=')}", len(content)])
    writer.writerow([own, "", ""])
    return text.getvalue().encode()


def write(path, contents, *, descriptors=False, directories=False, zip64=False):
    """Write a zip archive with fixed timestamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = Unseekable(path) if descriptors else path.open("wb")
    with target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        if directories:
            for folder in sorted({f"{Path(n).parent.as_posix()}/" for n in contents}):
                archive.writestr(zipfile.ZipInfo(folder, (2026, 7, 3, 22, 22, 48)), b"")
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, (2026, 7, 3, 22, 22, 48))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            with archive.open(info, "w", force_zip64=zip64) as file:
                file.write(content)
    return path


def make(
    folder,
    *,
    version="2.13.0+cpu",
    name="torch",
    own_version=None,
    crlf=False,
    tags=WHEEL_TAGS,
    inner_tags=None,
    **how,
):
    """A small torch wheel in a folder."""
    contents = files(
        version=version,
        own_version=own_version,
        name=name,
        crlf=crlf,
        tags=inner_tags or tags,
    )
    own = f"{name}-{version}.dist-info/RECORD"
    contents[own] = record(contents, own)
    path = folder / f"{name}-{version}-{tags}.whl"
    return write(path, contents, **how)


def write_series(folder, patches=None, releases=("2.13.0",), overlay=None):
    """A series and its overlay in a folder, as the repository has them.

    Args:
        folder (Path): the folder.
        patches (dict[str, str], optional): name to text; by default, the small one.
        releases (sequence of str): those that it is for, newest first.
        overlay (dict[str, str], optional): path to text; by default, one new file.
    """
    patches = {"0001-Change-two-lines.patch": PATCH} if patches is None else patches
    overlay = (
        {"torch/optim/_names/keys.py": "KEYS = 1\n"} if overlay is None else overlay
    )
    texts = {f"patches/{name}": text for name, text in patches.items()}
    texts["patches/series"] = "".join(f"{name}\n" for name in patches)
    texts["patches/releases"] = "".join(f"{r}  python 3.10\n" for r in releases)
    texts |= {f"torch_overlay/{path}": text for path, text in overlay.items()}
    texts |= {f"patches/bases/{r}": promise(r) for r in releases}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    return folder


def promise(release):
    """What the small patches make of the files of a release, as it is written down."""
    before = optimizer(release)
    states = {
        "test/test_optim.py": (OLD_TEST, NEW_TEST),
        "torch/optim/adam.py": (ADAM, PATCHED_ADAM),
        "torch/optim/optimizer.py": (before, patched(before)),
    }
    return "".join(
        f"{git.blob(old.encode())} {git.blob(new.encode())}  {path}\n"
        for path, (old, new) in states.items()
    )


def repository(folder):
    """A repository like this one, with a series that fits the small torch."""
    shutil.copytree(
        layout.ROOT / "tools",
        folder / "tools",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("setup.py", "pyproject.toml"):
        shutil.copyfile(layout.ROOT / name, folder / name)
    return write_series(folder)


def label(folder):
    """The label of the wheels that are built with the series in a folder."""
    return Series("2.13.0", folder / "patches", folder / "torch_overlay").label


def tree(folder):
    """What the files of a folder hold, by their path in it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def contents(path):
    """What an archive holds, each entry's CRC-32 checked."""
    with zipfile.ZipFile(path) as archive:
        assert len(set(archive.namelist())) == len(archive.namelist())
        return {n: archive.read(n) for n in archive.namelist()}


def check_record(path):
    """Each file of a wheel, or a folder, is as RECORD says, and in RECORD."""
    found = tree(path) if path.is_dir() else contents(path)
    held = {n: c for n, c in found.items() if not n.endswith("/")}
    (own,) = [n for n in held if n.endswith(".dist-info/RECORD")]
    others = {n: c for n, c in held.items() if n != own}
    rows = [tuple(row) for row in csv.reader(io.StringIO(held[own].decode()))]
    expected = csv.reader(io.StringIO(record(others, own).decode()))
    assert sorted(rows) == sorted(map(tuple, expected))
    return held
