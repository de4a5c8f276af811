"""Lay the series of patches and the overlay over a PyTorch release.

One module, one concept:

* :mod:`tools.layout`: where things are in this repository;
* :mod:`tools.errors`: the errors that a command reports to its user;
* :mod:`tools.releases`: the releases that the series is for;
* :mod:`tools.base`: the official wheel to start from, found or downloaded;
* :mod:`tools.fetch`: the Python files of any supported release;
* :mod:`tools.series`: the patches, in order, and how they are applied;
* :mod:`tools.stack`: its sections, each with the modules that it uses;
* :mod:`tools.archive`: a zip file, copied without unpacking it;
* :mod:`tools.record`: RECORD, in which a wheel lists its files;
* :mod:`tools.patched`: what the series makes of the files of a torch;
* :mod:`tools.wheel`: a patched wheel from an official one;
* :mod:`tools.source`: a patched wheel from a source checkout;
* :mod:`tools.backend`: the hooks that ``pip`` calls;
* :mod:`tools.tree`: the series as commits, to work on it;
* :mod:`tools.export`: the commits as a series again;
* :mod:`tools.variants`: what ``patches/`` holds for each release;
* :mod:`tools.port`: the series on a release that it is not made for;
* :mod:`tools.branch`: the series as a branch in a checkout of PyTorch;
* :mod:`tools.view`: an importable torch without building a wheel;
* :mod:`tools.installed`: the torch that is installed, and what the series made of it;
* :mod:`tools.apply`: the series over that torch, in place, and off again;
* :mod:`tools.status`: the same in words;
* :mod:`tools.check`: what must hold for every series;
* :mod:`tools.names`: names that sources use and nothing provides;
* :mod:`tools.relied_on`: functions of PyTorch that the series relies on;
* :mod:`tools.git`, :mod:`tools.files`, :mod:`tools.progress`: what they share.
"""

import sys


# An older interpreter would fail at the syntax of the modules, so this file is
# written in what all of them read.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "error: Python %d.%d is too old; run this with Python 3.10 or later."  # noqa: UP031
        % sys.version_info[:2]
    )
