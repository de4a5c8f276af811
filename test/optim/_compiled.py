"""Optimizers with compiled steps, and the guards of what was compiled."""

import copy
import re
from collections.abc import Callable
from typing import Any

from _common import (
    build,
    in_groups,
    make_params,
    MATRICES,
    state_by_name,
    train,
    values,
    without_names,
)

import torch
import torch._dynamo
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import optim_db


#: The name of a guard's source, and its kind.
Guard = tuple[str, str]

# The compiler numbers its own globals, by their ids and by what it compiled before.
_NUMBER = re.compile(r"_c?\d+\b|_\d+(?=_)")


class Compiled:
    """A function that is compiled, and all guards that this installed.

    Args:
        function (Callable): the function.
        backend (str): the compiler's backend.

    Attributes:
        guards (list): those of each piece of code that was compiled, in order;
            it grows whenever something is compiled.
    """

    def __init__(self, function: Callable[..., Any], backend: str = "eager") -> None:
        self.guards: list[list[Guard]] = []
        self._function = torch.compile(
            function, backend=backend, options={"guard_filter_fn": self._record}
        )

    def _record(self, entries: list[Any]) -> list[bool]:
        self.guards.append(
            sorted((_NUMBER.sub("_", e.name), e.guard_type) for e in entries)
        )
        return [True] * len(entries)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    @property
    def counts(self) -> list[int]:
        """The number of guards of each piece of code that was compiled."""
        return list(map(len, self.guards))

    @property
    def about_names(self) -> list[str]:
        """The guarded sources that are names of parameters."""
        return [
            source
            for guards in self.guards
            for source, _ in guards
            if "param_names" in source
        ]


class CompiledOptimizer:
    """An optimizer whose ``step`` is compiled; all else is the optimizer's.

    Args:
        optimizer (Optimizer): the optimizer.
        backend (str): the compiler's backend.
    """

    def __init__(self, optimizer: Optimizer, backend: str = "eager") -> None:
        self.optimizer = optimizer
        self.step = Compiled(optimizer.step, backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)


def three_steps(name: str, device: str, named: bool) -> tuple[Any, list[list[Guard]]]:
    """Take compiled steps, in any torch.

    Args:
        name (str): the optimizer's in ``optim_db``.
        device (str): of its parameters.
        named (bool): whether they have names.

    Returns:
        tuple: the values and the state of the parameters after each step, and the
        guards.
    """
    (info,) = (info for info in optim_db if info.name == name)
    torch._dynamo.reset()
    params = make_params(info, device, order=MATRICES)
    groups = in_groups(info, params)
    optimizer = CompiledOptimizer(
        build(info, groups if named else without_names(groups))
    )
    # One of them is as fast as can be.
    for group, best in zip(optimizer.param_groups, (False, True)):
        if "fused" in info.supported_impls:
            group["fused"], group["foreach"] = best, False
        elif "foreach" in info.supported_impls:
            group["foreach"] = best
    found = []
    # The state is made in the first.
    for number in range(3):
        train(info, optimizer, params, [number])
        found.append((values(params), state_by_name(optimizer, params)))
    return copy.deepcopy(found), optimizer.step.guards
