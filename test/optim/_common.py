"""Parameters with names, gradients for them, and optimizers in any order."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from _guard import require_patched_torch


require_patched_torch()

from _describe import describe, difference

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import (
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
    OptimizerInfo,
    OptimizerInput,
)
from torch.testing._internal.common_utils import TestCase


# The tensors are small, and other tests may run beside these.
torch.set_num_threads(1)

#: For :func:`instantiate_device_type_tests`.
DEVICE_TYPES = ("cpu", "cuda")

#: Optimizers that take matrices only.
MATRICES_ONLY = {
    "Muon": "orthogonalizes matrices",
    "SparseAdam": "has sparse gradients, whose rows are those of a matrix",
}

#: Optimizers whose results depend on the order of their parameters.
ROUNDS_BY_ORDER = {"LBFGS": "sums over all parameters, in their order"}

#: Optimizers that take no step after deepcopy or unpickling, on any release.
NO_STEP_AFTER_COPY = {"LBFGS": "does not copy its private attributes"}

# So that a step does not reach the minimum.
_FEW_STEPS = {"LBFGS": {"max_iter": 3}}

#: Options without which an optimizer has no state.
STATEFUL = {"SGD": {"momentum": 0.9}}

#: Optimizers that can have several param groups.
GROUPED = [info for info in optim_db if info.supports_param_groups]

# Some of them alike, so that nothing but its name says what belongs to which.
_MATRICES = {
    "embed.weight": (4, 3),
    "conv.weight": (4, 3),
    "fc.weight": (2, 4),
    "head.weight": (2, 4),
}

#: The names that every optimizer can take.
MATRICES = tuple(_MATRICES)

_OTHERS = {"conv.bias": (4,), "fc.bias": (4,), "scale": ()}

# The first param group, where there are two. Each has parameters that are alike.
_FIRST = {"embed.weight", "conv.weight", "conv.bias", "scale"}


def make_params(
    info: OptimizerInfo,
    device: Any = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    order: Iterable[str] | None = None,
    requires_grad: bool = True,
) -> dict[str, Parameter]:
    """Make parameters that an optimizer can take.

    Args:
        info (OptimizerInfo): the optimizer.
        device, dtype: of the parameters.
        order (iterable of str, optional): the names to take, in this order; all
            of them by default.
        requires_grad (bool): whether they do. A differentiable optimizer cannot
            change leaves that do.

    Returns:
        dict: the parameters by name. A name always gets the same values.
    """
    shapes = dict(_MATRICES)
    if info.name not in MATRICES_ONLY:
        shapes.update(_OTHERS)
    return {
        name: Parameter(
            _values(name, -1, shapes[name], dtype).to(device, copy=True), requires_grad
        )
        for name in (shapes if order is None else order)
    }


def params_for(
    info: OptimizerInfo,
    optim_input: OptimizerInput,
    device: Any,
    dtype: torch.dtype,
    order: Iterable[str] | None = None,
) -> dict[str, Parameter]:
    """Make parameters for an optimizer with these inputs."""
    differentiable = bool(optim_input.kwargs.get("differentiable"))
    return make_params(
        info, device, dtype, order=order, requires_grad=not differentiable
    )


def all_inputs(
    info: OptimizerInfo, device: Any, dtype: torch.dtype
) -> list[OptimizerInput]:
    """All inputs of an optimizer, with foreach, fused and differentiable."""
    return _get_optim_inputs_including_global_cliquey_kwargs(device, dtype, info)


def build(
    info: OptimizerInfo,
    params: Any,
    optim_input: OptimizerInput | None = None,
    **kwargs: Any,
) -> Optimizer:
    """Build an optimizer, with a copy of the options, which may be tensors.

    Without an input, it has options with which it has state.
    """
    given = STATEFUL.get(info.name, {}) if optim_input is None else optim_input.kwargs
    options = {**_FEW_STEPS.get(info.name, {}), **given, **kwargs}
    return info.optim_cls(params, **deepcopy(options))


def optimizer_of(
    cls: type[Optimizer], *groups: str, steps: int = 1, **options: Any
) -> Any:
    """An optimizer with a group for each string, of a parameter for each letter."""
    made: Any = cls(
        [{"params": [(name, Parameter(torch.ones(2))) for name in g]} for g in groups],
        **options,
    )
    for _ in range(steps):
        for group in made.param_groups:
            for name, param in zip(group["param_names"], group["params"]):
                param.grad = torch.full((2,), float(ord(name)))
        made.step()
    return made


def drop_names(optimizer: Any) -> Any:
    """The optimizer, whose param groups have no names any more."""
    for group in optimizer.param_groups:
        del group["param_names"]
    return optimizer


def in_groups(
    info: OptimizerInfo, params: Mapping[str, Parameter]
) -> list[dict[str, Any]]:
    """Put named parameters in two groups with options of their own.

    The name of a parameter decides in which group it is.

    Returns:
        list of dict: param groups; only one if the optimizer can have no more.
    """
    if not info.supports_param_groups:
        return [{"params": dict(params)}]
    first = {name: p for name, p in params.items() if name in _FIRST}
    second = {name: p for name, p in params.items() if name not in _FIRST}
    return [{"params": first, "lr": 0.02}, {"params": second, "lr": 0.003}]


def without_names(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same param groups without names."""
    return [{**group, "params": list(group["params"].values())} for group in groups]


def shuffled(names: Iterable[str]) -> list[str]:
    """Another order of names, between and within param groups."""
    names = list(names)
    return names[1::2][::-1] + names[::2][::-1]


def swapped(names: Iterable[str]) -> list[str]:
    """Another order in which each place has a parameter of the same shape."""
    partners = {
        "embed.weight": "conv.weight",
        "conv.weight": "embed.weight",
        "fc.weight": "head.weight",
        "head.weight": "fc.weight",
    }
    return [partners.get(name, name) for name in names]


def train(
    info: OptimizerInfo,
    optimizer: Optimizer,
    params: Mapping[str, Parameter],
    steps: Iterable[int],
) -> None:
    """Take steps with gradients that depend on name, step and value only.

    Args:
        info (OptimizerInfo): the optimizer's.
        optimizer (Optimizer): takes the steps.
        params (Mapping): its parameters by name.
        steps (iterable of int): the numbers of the steps.
    """
    for step in steps:
        if info.step_requires_closure:
            optimizer.step(_closure(optimizer, params))
            continue
        for name, param in params.items():
            noise = _values(name, step, param.shape, param.dtype).to(param.device)
            grad = param.detach() * 0.1 + noise
            param.grad = grad.to_sparse() if info.only_supports_sparse_grads else grad
        optimizer.step()


def trained(
    info: OptimizerInfo,
    device: str,
    dtype: torch.dtype,
    optim_input: OptimizerInput | None = None,
    steps: int = 2,
) -> tuple[Optimizer, dict[str, Parameter]]:
    """A named optimizer that took steps, and its parameters by name."""
    if optim_input is None:
        params = make_params(info, device, dtype)
    else:
        params = params_for(info, optim_input, device, dtype)
    optimizer = build(info, in_groups(info, params), optim_input)
    train(info, optimizer, params, range(steps))
    return optimizer, params


def _closure(optimizer: Optimizer, params: Mapping[str, Parameter]) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        # In the order of names, so that the loss is the same in any order.
        terms = []
        for name, param in sorted(params.items()):
            goal = _values(name, 0, param.shape, param.dtype).to(param.device)
            distance = (param - goal).abs()
            terms.append((distance**2).sum() * len(name) + (distance**4).sum())
        loss = torch.stack(terms).sum()
        loss.backward()
        return loss

    return closure


def state_by_name(
    optimizer: Optimizer, params: Mapping[str, Parameter]
) -> dict[str, Any]:
    """The state of each parameter, found without the optimizer's own names."""
    return {
        name: optimizer.state[param]
        for name, param in params.items()
        if param in optimizer.state
    }


def options_by_name(
    optimizer: Optimizer, params: Mapping[str, Parameter]
) -> dict[str, Any]:
    """The options of each parameter, found without the optimizer's own names."""
    names = {id(param): name for name, param in params.items()}
    return {
        names[id(param)]: {
            key: value
            for key, value in group.items()
            if key not in ("params", "param_names")
        }
        for group in optimizer.param_groups
        for param in group["params"]
    }


def values(params: Mapping[str, Parameter]) -> dict[str, torch.Tensor]:
    """Copies of the parameters' values."""
    return {name: param.detach().clone() for name, param in params.items()}


def set_values(
    params: Mapping[str, Parameter], source: Mapping[str, torch.Tensor]
) -> None:
    """Give parameters the values of those of the same names."""
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(source[name])


class OptimTestCase(TestCase):
    """A test case that compares exactly what optimizers hold."""

    def assert_same(self, first: Any, second: Any, about: str = "") -> None:
        """Both have the same types, bits and order of keys."""
        found = difference(describe(first), describe(second))
        self.assertIsNone(found, f"{about}: {found}")

    def assert_still(self, value: Any, before: Any) -> None:
        """A value is as it was when ``before``, its description, was made."""
        found = difference(describe(value), before)
        self.assertIsNone(found, found)

    def assert_unchanged(self, optimizer: Optimizer, before: Any) -> None:
        """An optimizer is as it was when ``before``, a snapshot, was taken."""
        found = difference(snapshot(optimizer), before)
        self.assertIsNone(found, found)


def snapshot(optimizer: Optimizer) -> Any:
    """All that a failed call must leave as it was.

    Returns:
        the ids of the containers, and an exact description of what they hold.
    """
    holders = (
        optimizer.state,
        optimizer.param_groups,
        *optimizer.param_groups,
        *(group["params"] for group in optimizer.param_groups),
        *optimizer.state.values(),
    )
    return [id(holder) for holder in holders], describe(vars(optimizer))


def saved(optimizer: Optimizer) -> dict[str, Any]:
    """A copy of the state dict, as from a file, which takes ten times as long."""
    return deepcopy(optimizer.state_dict())


def indexed(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same state dict as an optimizer without names has it."""
    plain = annotated(state_dict)
    for group in plain["param_groups"]:
        del group["param_names"]
    return plain


def annotated(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same state dict as named optimizers of releases 2.6 to 2.15 have it."""
    names = [name for group in state_dict["param_groups"] for name in group["params"]]
    ids = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return {
        "state": {ids.get(key, key): v for key, v in state_dict["state"].items()},
        "param_groups": [
            {
                **group,
                "param_names": list(group.get("param_names", group["params"])),
                "params": [ids[name] for name in group["params"]],
            }
            for group in state_dict["param_groups"]
        ],
    }


def renamed(state_dict: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same named state dict with other names."""
    return {
        "state": {names.get(k, k): v for k, v in state_dict["state"].items()},
        "param_groups": [
            {
                **group,
                "params": [names.get(name, name) for name in group["params"]],
                "param_names": [names.get(name, name) for name in group["params"]],
            }
            for group in state_dict["param_groups"]
        ],
    }


def names_of(optimizer: Optimizer) -> list[Sequence[str] | None]:
    """The names in each param group; None for a group without."""
    return [group.get("param_names") for group in optimizer.param_groups]


@cache
def _values(
    name: str, step: int, shape: Sequence[int], dtype: torch.dtype
) -> torch.Tensor:
    """Values that nobody changes: a name and a step always have the same."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {step}".encode()))
    return torch.randn(tuple(shape), generator=generator, dtype=dtype)
