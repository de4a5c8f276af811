"""The two torches that are compared: the release, and the release with the series.

Both are views (see :mod:`tools.view`) over the installed torch in ``build/bench``, so
that all their files but the patched ones are the same files. The patched one is made
from ``patches/`` and ``torch_overlay/`` as they are at the start.
"""

import os
from pathlib import Path

from plan import Kind

from tools import files, git, installed, layout, series, tree, view


WORK = layout.BUILD / "bench"

_NO_BYTECODE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


def make() -> dict[Kind, dict[str, str]]:
    """Make both.

    Returns:
        dict[str, dict[str, str]]: for ``"stock"`` and ``"patched"``, the
        environment variables of a process that is to import it.

    Raises:
        ToolError: if the installed torch is of no supported release, with or
            without the series, or if a patch does not apply.
    """
    stock = view.build("stock", WORK / "stock")
    release = installed.look(installed.installed_torch()).release
    sources = {
        path: files.with_unix_lines(content)
        for path in series.touched_files(series.patches(release))
        if (content := files.content(stock / path)) is not None
    }
    # The tree is this module's own: there is no work in it to lose.
    tree.materialize(sources, WORK / "tree", release=release, force=True)
    patched = view.build("patched", WORK / "patched", tree=WORK / "tree")
    return {"stock": _alone(stock), "patched": _alone(patched)}


def series_id() -> str:
    """What says which series was measured.

    Returns:
        str: the last commit that changed it, with a ``+`` if there are changes
        that were not committed.
    """
    paths = ("--", "patches", "torch_overlay")
    commit = git.output(layout.ROOT, "log", "-1", "--format=%h", *paths).strip()
    changed = git.output(layout.ROOT, "status", "--porcelain", *paths).strip()
    return commit + ("+" if changed else "")


def _alone(folder: Path) -> dict[str, str]:
    """The environment of a process with nothing but this torch and one thread."""
    # Without bytecode, an import would compile what the series changes each time.
    variables = {k: v for k, v in os.environ.items() if k not in _NO_BYTECODE}
    return {
        **variables,
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
