"""A made-up PyTorch of a few files, with a series, for the tests of the tools."""

import os
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tools import export, releases, series, tree


RELEASE = releases.Release(releases.DEFAULT, (3, 10))


ADAM = '''\
"""Adam."""


class Adam:
    """The optimizer."""

    def __init__(self, params):
        self.params = params

    @staticmethod
    def _fused_check(params):
        return bool(params)

    def step(self):
        return adam(self.params)


def adam(params):
    """Choose how to compute the step."""

    def _multi_tensor_inner(params):
        return params

    if not params:
        return None
    return _single_tensor_adam(_multi_tensor_inner(params))


def _compiled(function):
    return function


@_compiled
def _single_tensor_adam(params, lr=0.1):
    # The step itself.
    return [param - lr for param in params]


_fused_adam = _single_tensor_adam
'''

OPTIMIZER = "".join(f"line_{number} = {number}\n" for number in range(1, 61))

SOURCES: dict[str, bytes] = {
    "torch/__init__.py": b"from torch import optim\n",
    "torch/hub.py": b"hub = 1\n",
    "torch/optim/__init__.py": b"from torch.optim.adam import Adam\n",
    "torch/optim/adam.py": ADAM.encode(),
    "torch/optim/optimizer.py": OPTIMIZER.encode(),
    "torch/version.py": f"__version__ = '{releases.DEFAULT}+cpu'\n".encode(),
}

OVERLAY = {"torch/optim/_names/__init__.py": "names = 1\n"}


class Workplace:
    """A folder with patches, overlay and tree, as the repository has them.

    Args:
        root (Path): its folder; an empty one gets an overlay and no patches.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.patches = root / "patches"
        self.overlay = root / "torch_overlay"
        self.tree = root / "build" / "tree"
        if not self.patches.exists():
            write(self.overlay, OVERLAY)
            write(root, {"patches/series": "# The order.\n\n"})
            write(root, {"patches/releases": releases.listed([RELEASE])})

    def materialize(
        self, sources: Mapping[str, bytes] = SOURCES, **options: object
    ) -> list[series.Patch]:
        return tree.materialize(
            sources,
            self.tree,
            patches_root=self.patches,
            overlay_root=self.overlay,
            **options,  # type: ignore[arg-type]
        )

    def export(self, release: str | None = None, force: bool = False) -> list[Path]:
        return export.export(
            self.tree,
            release=release,
            force=force,
            patches_root=self.patches,
            overlay_root=self.overlay,
        )

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.tree / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def commit(self, message: str, *options: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message, *options)

    def git(self, *arguments: str) -> str:
        """Run git in the tree as a developer without configuration does."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.tree,
            env={**inherited, **own, "GIT_SEQUENCE_EDITOR": ":", "GIT_EDITOR": ":"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def written(self) -> dict[str, bytes]:
        """All that is exported, by path."""
        return {
            file.relative_to(self.root).as_posix(): file.read_bytes()
            for folder in (self.patches, self.overlay)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }


def with_series(root: Path) -> Workplace:
    """A workplace with two patches, exported; both touch adam.py.

    Args:
        root (Path): an empty folder.

    Returns:
        Workplace: its tree is as the series is.
    """
    workplace = Workplace(root)
    workplace.materialize()
    workplace.edit("torch/optim/optimizer.py", "line_5 =", "line_five = line_5 =")
    workplace.edit("torch/optim/adam.py", '"""Adam."""', '"""Adam, by name."""')
    workplace.commit("Name the first\n\nIt had no name.")
    workplace.edit("torch/optim/adam.py", "def step(self):", "def step(self, named=0):")
    workplace.edit("torch/optim/optimizer.py", "line_50 = 50", "line_50 = 'fifty'")
    workplace.commit("Name the second\n\nIt had none either.")
    workplace.export()
    return workplace


def write(root: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files below a folder.

    Args:
        root (Path): the folder.
        contents (Mapping[str, str or bytes]): POSIX path to content.
    """
    for path, content in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def write_wheel(
    folder: Path,
    version: str = f"{releases.DEFAULT}+cpu",
    sources: Mapping[str, bytes] = SOURCES,
) -> Path:
    """Write a wheel of the made-up PyTorch.

    Args:
        folder (Path): where to.
        version (str): its version.
        sources (Mapping[str, bytes]): its files.

    Returns:
        Path: the wheel.
    """
    wheel = folder / f"torch-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in sources.items():
            archive.writestr(name, content)
        archive.writestr("torch/lib/libtorch.so", b"\x7fELF")
        metadata = b"Name: torch\nRequires-Python: >=3.10\n"
        archive.writestr(f"torch-{version}.dist-info/METADATA", metadata)
    return wheel
