"""Load checkpoints with the torch that runs this, and go on from them.

    python test/compat/read_checkpoints.py FILE... > RESULTS.json

Every case is loaded into an optimizer without names and, where this torch has
them, into one with names: in the order of the file, which is all that releases
without the series understand. Each then takes the steps that followed in the
run that wrote the file. The results are a list of dicts with

* ``written_by``, ``file``, ``read_by``, ``case``, ``named`` (the optimizer);
* ``difference``: how far its parameters end up from those of that run, relative
  to the largest element of each; 0 if all bits are the same;
* or ``error``: what was raised; or ``absent``: this torch has no such optimizer.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tiny_training import (
    AFTER,
    build,
    Case,
    cases,
    difference,
    make_groups,
    make_params,
    NAMES_SINCE,
    set_values,
    train,
    version,
)
from write_checkpoints import release


def resume(case: Case, checkpoint: dict[str, Any], named: bool) -> float:
    """Load a checkpoint, go on, and say how far that is from the run it is from."""
    params = make_params(case)
    optimizer = build(case, make_groups(case, params, named))
    set_values(params, checkpoint["saved"])
    optimizer.load_state_dict(checkpoint["state_dict"])
    train(case, optimizer, params, AFTER)
    return difference(params, checkpoint["continued"])


def results(file: Path, named: bool) -> Iterator[dict[str, Any]]:
    """Read all cases of a file."""
    # Afresh for each kind of optimizer, since loading does not copy tensors. In
    # 1.13, weights_only stops at the first float of any file, its own ones too.
    safe = version(torch.__version__) >= (2, 0)
    content = torch.load(file, weights_only=safe)
    existing = cases(torch.__version__)
    for name, checkpoint in content["cases"].items():
        case = Case.parse(name)
        result: dict[str, Any] = {
            "written_by": file.parent.name,
            "file": file.stem,
            "read_by": release(),
            "case": name,
            "named": named,
        }
        if case not in existing:
            result["absent"] = True
        else:
            try:
                result["difference"] = resume(case, checkpoint, named)
            except Exception as error:
                result["error"] = f"{type(error).__name__}: {error}"
        yield result


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
    kinds = [False, True] if version(torch.__version__) >= NAMES_SINCE else [False]
    found = [
        result
        for file in parser.parse_args().files
        for named in kinds
        for result in results(file, named)
    ]
    json.dump(found, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
