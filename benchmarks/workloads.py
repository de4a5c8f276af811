"""What is measured: calls that are timed, and numbers that are counted.

Parameters have two elements, so that next to nothing but bookkeeping takes time.
Optimizers with state are AdamW, as most are in practice; those that are only
constructed are SGD, which does least beside.
"""

import logging
import pickle
import random
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import SGD, AdamW, Optimizer


Call: TypeAlias = Callable[[], object]


class Subject:
    """Parameters and state of one size, made when first needed.

    Args:
        size (int): the number of parameters.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @cached_property
    def params(self) -> dict[str, nn.Parameter]:
        """Parameters, named as those of a mixture of experts."""
        return {
            f"layers.{i // 64}.experts.{i % 64}.weight": nn.Parameter(torch.zeros(2))
            for i in range(self.size)
        }

    def given(self, named: bool) -> list[Any]:
        """The parameters as they are given to an optimizer."""
        return list(self.params.items() if named else self.params.values())

    def adamw(self, pairs: list[tuple[str, nn.Parameter]], named: bool) -> Optimizer:
        """An AdamW with state.

        Args:
            pairs (list): names and parameters, in the order of the optimizer.
            named (bool): whether the optimizer is given the names.

        Returns:
            Optimizer: the optimizer. No call that is measured changes the
            tensors of its state.
        """
        optimizer = AdamW(pairs if named else [param for _, param in pairs], lr=1e-3)
        for _, param in pairs:
            optimizer.state[param] = {
                "step": torch.tensor(1.0),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
        return optimizer

    @cached_property
    def module(self) -> nn.Module:
        """A module whose parameters these are, by these names."""
        root = nn.Module()
        for name, param in self.params.items():
            *path, last = name.split(".")
            module = root
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, param)
        return root


def _construct(subject: Subject) -> Call:
    params = subject.given(True)
    return lambda: SGD(params, lr=0.1, momentum=0.9)


def _groups(subject: Subject, *, named: bool) -> Call:
    params = subject.given(named)
    return lambda: SGD([{"params": [p]} for p in params], lr=0.1, momentum=0.9)


def _state_dict(subject: Subject, *, named: bool) -> Call:
    return subject.adamw(subject.given(True), named).state_dict


def _load(subject: Subject, *, named: bool, shuffled: bool = False) -> Call:
    # It comes to have state in the first load, and to lie in memory as in the file.
    optimizer = AdamW(subject.given(named), lr=1e-3)
    pairs = subject.given(True)
    if shuffled:
        pairs = random.Random(0).sample(pairs, len(pairs))
    saved = _as_from_file(subject.adamw(pairs, named).state_dict())
    return partial(optimizer.load_state_dict, saved)


def _as_from_file(saved: dict[str, Any]) -> dict[str, Any]:
    """The state dict with names of its own, as a file has them."""
    content = pickle.dumps((saved["param_groups"], list(saved["state"])))
    groups, keys = pickle.loads(content)
    return {"state": dict(zip(keys, saved["state"].values())), "param_groups": groups}


def _dcp_get(subject: Subject) -> Call:
    optimizer = subject.adamw(subject.given(True), True)
    return partial(get_optimizer_state_dict, subject.module, optimizer)


def _dcp_set(subject: Subject) -> Call:
    optimizer = subject.adamw(subject.given(True), True)
    saved = get_optimizer_state_dict(subject.module, optimizer)
    return partial(set_optimizer_state_dict, subject.module, optimizer, saved)


def _flattened_bytes(subject: Subject) -> float:
    """The size per parameter of the flattened form, beside the tensors."""
    optimizer = subject.adamw(subject.given(True), True)
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    flat = get_optimizer_state_dict(subject.module, optimizer, options=options)
    plain = {k: 0 if torch.is_tensor(v) else v for k, v in flat.items()}
    # Without the pickler's memory: a checkpoint writes each value on its own.
    return sum(len(pickle.dumps(item)) for item in plain.items()) / subject.size


def _guards(subject: Subject, *, kind: Callable[..., Optimizer], named: bool) -> float:
    """The number of guards of all that is compiled for three steps."""
    found: list[int] = []

    def count(entries: list[Any]) -> list[bool]:
        found.append(len(entries))
        return [True] * len(entries)

    for param in subject.params.values():
        param.grad = torch.ones_like(param)
    step = kind(subject.given(named), lr=1e-3).step
    logging.disable(logging.WARNING)
    torch._dynamo.reset()
    compiled = torch.compile(step, backend="eager", options={"guard_filter_fn": count})
    for _ in range(3):
        compiled()
    return sum(found)


#: Makes the call that is timed, by the name of the workload.
TIMED: Mapping[str, Callable[[Subject], Call]] = {
    "construct name": _construct,
    "groups index": partial(_groups, named=False),
    "groups name": partial(_groups, named=True),
    "state_dict index": partial(_state_dict, named=False),
    "state_dict name": partial(_state_dict, named=True),
    "load index": partial(_load, named=False),
    "load name": partial(_load, named=True),
    "load shuffled": partial(_load, named=True, shuffled=True),
    "dcp get": _dcp_get,
    "dcp set": _dcp_set,
}

#: Returns the number, by the name of the workload.
COUNTED: Mapping[str, Callable[[Subject], float]] = {
    "flattened bytes": _flattened_bytes,
    **{
        f"guards {kind.__name__} {way}": partial(_guards, kind=kind, named=named)
        for kind in (SGD, AdamW)
        for way, named in (("index", False), ("name", True))
    },
}
