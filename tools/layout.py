"""Where things are in this repository."""

import os
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "patches"
OVERLAY = ROOT / "torch_overlay"

#: Everything that is generated goes here; git ignores it.
BUILD = ROOT / "build"


def cache() -> Path:
    """The folder that keeps downloaded wheels between builds.

    Returns:
        Path: ``$OPTIM_NAMES_CACHE`` if that is set, else ``build/cache``.
    """
    configured = os.environ.get("OPTIM_NAMES_CACHE")
    return Path(configured) if configured else BUILD / "cache"
