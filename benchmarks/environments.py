"""The two torches that are compared: the release, and the release with the series.

Both are views (see :mod:`tools.view`) over the installed torch in
``build/bench``, so that all their files but the patched ones are the same files.
The patched one is made from ``patches/`` and ``torch_overlay/`` as they are at the
start; edits of ``build/tree`` during a run play no part.
"""

import os
import sys
from pathlib import Path
from typing import Literal, TypeAlias, get_args


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import files, git, layout, series, tree, view


Kind: TypeAlias = Literal["stock", "patched"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WORK = layout.BUILD / "bench"

_NO_BYTECODE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


def make(work: Path = WORK) -> dict[Kind, dict[str, str]]:
    """Make both environments.

    Args:
        work (Path): the folder for them.

    Returns:
        dict[str, dict[str, str]]: for ``"stock"`` and ``"patched"``, the
        environment variables of a process that is to import it.

    Raises:
        ToolError: if the installed torch is not the base release, with or
            without the series, or if a patch does not apply.
    """
    stock = view.build("stock", work / "stock")
    patches = series.patches()
    sources = {
        path: content
        for path in series.touched_files(patches)
        if (content := files.content(stock / path)) is not None
    }
    # The tree is this module's own: there is no work in it to lose.
    unix = {path: files.with_unix_lines(content) for path, content in sources.items()}
    tree.materialize(unix, work / "tree", force=True)
    patched = view.build("patched", work / "patched", tree=work / "tree")
    return {"stock": _alone(stock), "patched": _alone(patched)}


def series_id() -> str:
    """What says which series was measured.

    Returns:
        str: the commit of this repository, with a ``+`` if the patches or the
        overlay hold what is not in it.
    """
    root = layout.ROOT
    commit = git.output(root, "rev-parse", "--short=12", "HEAD").strip()
    changed = git.output(
        root, "status", "--porcelain", "--", "patches", "torch_overlay"
    )
    return commit + ("+" if changed.strip() else "")


def _alone(folder: Path) -> dict[str, str]:
    """The environment of a process with nothing but this torch and one thread."""
    # Without bytecode, an import would compile what the series changes each time.
    variables = {k: v for k, v in os.environ.items() if k not in _NO_BYTECODE}
    return {
        **variables,
        "PYTHONPATH": str(folder),
        # Some tools start "python" from there.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
