"""Write small checkpoints of every optimizer with the torch that runs this.

    python test/compat/write_checkpoints.py [FOLDER]

makes ``FOLDER/<release>/unnamed.pt`` and, where optimizers take names,
``named.pt``. The folder is ``checkpoints`` beside this script by default. Each
file is a dict of plain values and tensors::

    {
        "torch": "2.6.0+cu124",  # what wrote it
        "cpu": "AVX512",  # the instruction set it computed with
        "cases": {
            "Adam, 2 groups": {
                "saved": {"encoder.weight": [...], ...},  # parameters, with ...
                "state_dict": {"state": ..., "param_groups": ...},
                "continued": {...},  # the parameters three steps later
            },
            ...
        },
    }
"""

import argparse
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tiny_training import (
    AFTER,
    BEFORE,
    build,
    Case,
    cases,
    cpu,
    get_values,
    make_groups,
    make_params,
    NAMES_SINCE,
    train,
    version,
)


HERE = Path(__file__).resolve().parent


def run(case: Case, named: bool) -> dict[str, Any]:
    """Train, take the checkpoint, and go on."""
    params = make_params(case)
    optimizer = build(case, make_groups(case, params, named))
    train(case, optimizer, params, BEFORE)
    checkpoint = {
        "saved": get_values(params),
        "state_dict": deepcopy(optimizer.state_dict()),
    }
    train(case, optimizer, params, AFTER)
    return {**checkpoint, "continued": get_values(params)}


def release() -> str:
    """The release of this torch; one with the series is called ``+named``."""
    plain = torch.__version__.partition("+")[0]
    patched = hasattr(torch.optim.Optimizer, "named_parameters")
    return f"{plain}+named" if patched else plain


def write(file: Path, named: bool) -> None:
    """Write all cases to a file, in one step."""
    content = {
        "torch": str(torch.__version__),
        "cpu": cpu(),
        "cases": {str(case): run(case, named) for case in cases(torch.__version__)},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    torch.save(content, unfinished)
    os.replace(unfinished, file)
    print(f"{file}: {len(content['cases'])} cases, {file.stat().st_size} bytes")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "checkpoints")
    folder = parser.parse_args().folder / release()
    write(folder / "unnamed.pt", named=False)
    if version(torch.__version__) >= NAMES_SINCE:
        write(folder / "named.pt", named=True)


if __name__ == "__main__":
    main()
