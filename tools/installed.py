"""The torch that is installed, and what the series made of it.

Nothing here imports torch: files are compared with the hashes in ``patches/bases``,
and with what :mod:`tools.apply` put aside.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tools import files, git, layout, patched, record, releases, series
from tools.errors import ToolError


#: In the folder of the metadata: the files as they were before the series.
KEPT = "optim-names"

RECORD = "RECORD"

_NO_FILE = git.blob(None)


@dataclass(frozen=True)
class Torch:
    """A torch in a folder.

    Attributes:
        folder (Path): the folder that holds ``__init__.py``.
    """

    folder: Path

    @cached_property
    def info(self) -> Path | None:
        """The folder of its metadata; None if there is not one beside it."""
        found = list(self.folder.parent.glob("torch-*.dist-info"))
        return found[0] if len(found) == 1 else None

    @cached_property
    def version(self) -> str:
        """What its ``torch.__version__`` is."""
        source = files.content(self.folder.parent / patched.VERSION_FILE)
        return patched.version_of(source or b"") or "of unknown version"

    @cached_property
    def pip_version(self) -> str:
        """Its version as ``pip`` knows it, which may lack the variant."""
        if self.info is None:
            return self.version
        return importlib.metadata.Distribution.at(self.info).version

    def __str__(self) -> str:
        return f"torch {self.version} in {self.folder}"


def imported() -> Torch | None:
    """The torch that this interpreter would import, a view included."""
    spec = importlib.util.find_spec("torch")
    return None if spec is None or not spec.origin else Torch(Path(spec.origin).parent)


def installed_torch() -> Torch:
    """The torch that is installed for this interpreter, never a view.

    Returns:
        Torch: it.

    Raises:
        ToolError: if there is none.
    """
    try:
        distribution = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError(
            "torch is not installed for this Python. Install it: pip install ."
        ) from error
    # Beside its metadata; a view on PYTHONPATH has none. Only a torch installed
    # in place from a checkout has to be looked up by its name.
    folder = Path(str(distribution.locate_file("torch")))
    found = Torch(folder) if (folder / "__init__.py").is_file() else imported()
    if found is None:
        raise ToolError(
            "The metadata of torch are installed, but torch is not. Install it again: "
            "pip install --force-reinstall ."
        )
    return Torch(found.folder.resolve())


@dataclass(frozen=True)
class Originals:
    """The files of a torch as they were before the series.

    Attributes:
        site (Path): the folder that holds ``torch/``.
        kept (Mapping[str, bytes]): what ``apply`` put aside, by POSIX path; empty
            if it was not here.
        added (frozenset[str]): the files that ``apply`` added.
        departed (list[str]): those of both that someone else changed since.
        missing (list[str]): those of both that ``apply`` has yet to write, since it
            was killed on the way, or that ``revert`` wrote before it was.
    """

    site: Path
    kept: Mapping[str, bytes]
    added: frozenset[str]
    departed: list[str]
    missing: list[str]

    def read(self, path: str) -> bytes | None:
        """A file before the series; None if there was no such file.

        Args:
            path (str): its POSIX path, e.g. ``"torch/optim/adam.py"``.
        """
        if path in self.kept:
            return self.kept[path]
        return None if path in self.added else files.content(self.site / path)


def originals(torch: Torch) -> Originals:
    """The files of a torch as they were before ``apply``.

    RECORD says what ``apply`` made of them.

    Args:
        torch (Torch): the torch.

    Returns:
        Originals: those that were put aside, and whatever else is there.
    """
    site = torch.folder.parent
    if torch.info is None or not (torch.info / KEPT / RECORD).is_file():
        return Originals(site, {}, frozenset(), [], [])
    folder = torch.info / KEPT
    kept = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    del kept[RECORD]
    earlier, rows = listed(folder / RECORD), listed(torch.info / RECORD)
    own = f"{torch.info.name}/{KEPT}/"
    added = {path for path in rows.keys() - earlier.keys() if not path.startswith(own)}
    departed, missing = [], []
    for path in sorted({*kept, *added}):
        content = files.content(site / path)
        if content == kept.get(path):
            missing.append(path)
        elif content is None or record.row(content) != rows.get(path):
            departed.append(path)
    return Originals(site, kept, frozenset(added), departed, missing)


def listed(file: Path) -> dict[str, str]:
    """What a RECORD says, as :func:`tools.record.rows` gives it.

    Args:
        file (Path): the RECORD of an installed torch.

    Raises:
        ToolError: if it cannot be read.
    """
    try:
        return record.rows(file.read_bytes())
    except ValueError as error:
        raise ToolError(f"{file} is damaged ({error}). Install torch again.") from error


@dataclass(frozen=True)
class State:
    """What the series made of a torch.

    Attributes:
        torch (Torch): the torch.
        originals (Originals): its files before the series.
        release (str): the supported release that it comes closest to.
        differing (list[str]): files that are not as that release has them, even
            before the series.
        current (bool): whether all files are what this repository's series makes
            of them.
        here (str): the revision of the series in this repository.
    """

    torch: Torch
    originals: Originals
    release: str
    differing: list[str]
    current: bool
    here: str


def look(
    torch: Torch,
    patches_root: Path = layout.PATCHES,
    overlay_root: Path = layout.OVERLAY,
) -> State:
    """Compare the files of a torch with those of each supported release.

    Args:
        torch (Torch): the torch.
        patches_root (Path): the folder of the patches.
        overlay_root (Path): the folder of the overlay.

    Returns:
        State: what was found.

    Raises:
        ToolError: if the series itself is damaged.
    """
    before = originals(torch)
    overlay = series.overlay_files(overlay_root)
    new = dict.fromkeys(overlay, _NO_FILE)
    laid = {path: git.blob(file.read_bytes()) for path, file in overlay.items()}
    old_blob = cache(lambda path: _blob(before.read(path)))
    new_blob = cache(lambda path: _blob(files.content(before.site / path)))

    def compared(release: str) -> tuple[list[str], list[str]]:
        """The files that are not as published, and those not as patched."""
        promises = {
            path: blobs
            for path, blobs in series.promises(release, patches_root).items()
            if path.startswith("torch/")
        }
        stock = {path: blob for path, (blob, _) in promises.items()} | new
        ours = {path: blob for path, (_, blob) in promises.items()} | laid
        return (
            sorted(path for path, blob in stock.items() if old_blob(path) != blob),
            sorted(path for path, blob in ours.items() if new_blob(path) != blob),
        )

    found = {
        release.version: compared(release.version)
        for release in releases.supported(patches_root)
    }

    def distance(release: str) -> tuple[bool, bool, int]:
        number = min(map(len, found[release]))
        return number > 0, release != torch.version.partition("+")[0], number

    release = min(found, key=distance)
    differing, unlike_ours = found[release]
    here = patched.Series(release, patches_root, overlay_root).revision
    current = not unlike_ours and not before.missing
    return State(torch, before, release, differing, current, here)


def _blob(content: bytes | None) -> str:
    return git.blob(None if content is None else files.with_unix_lines(content))
