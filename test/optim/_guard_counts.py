"""How many guards compiled steps have, in any torch.

Run as a script, it prints the counts as JSON, so that two interpreters can be
compared. See test_named_compile.py.
"""

import json
from typing import Any

import torch
import torch._dynamo
from _compiled import Compiled
from torch.nn import Parameter
from torch.optim import Adam, Optimizer, SGD


OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "Adam": (Adam, {}),
    "SGD": (SGD, {"momentum": 0.9}),
}

#: Of parameters.
NUMBERS = (2, 10)


def guard_counts(numbers: tuple[int, ...] = NUMBERS) -> dict[str, list[int]]:
    """Count the guards of two compiled steps.

    Args:
        numbers (tuple of int): of parameters.

    Returns:
        dict: by optimizer, number of parameters, and whether they have names,
        the number of guards of each piece of code that was compiled.
    """
    return {
        f"{name}, {number} parameters {'with' if named else 'without'} names": (
            _count(*optimizer, number, named)
        )
        for name, optimizer in OPTIMIZERS.items()
        for number in numbers
        for named in (False, True)
    }


def _count(
    cls: type[Optimizer], options: dict[str, Any], number: int, named: bool
) -> list[int]:
    torch._dynamo.reset()
    params = {f"layer.{i}": Parameter(torch.zeros(2)) for i in range(number)}
    # As pairs, which the release takes, too.
    optimizer = cls(list(params.items()) if named else list(params.values()), **options)
    for param in params.values():
        param.grad = torch.ones_like(param)
    step = Compiled(optimizer.step)
    step()
    step()
    return step.counts


if __name__ == "__main__":
    print(json.dumps(guard_counts()))
