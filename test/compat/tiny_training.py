"""The same short trainings in every release of torch from 1.13.1 on.

Parameters and gradients are fractions with small powers of two below the line,
made without random numbers, so that all releases and machines make the same.
Nothing here needs names: what a release cannot do, its scripts leave out.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch


#: The steps before a checkpoint, and those after it.
BEFORE, AFTER = range(3), range(3, 6)

#: Options with which an optimizer has all kinds of its state.
OPTIONS: dict[str, dict[str, Any]] = {
    "Adadelta": {"lr": 0.5},
    "Adafactor": {"lr": 0.05},
    "Adagrad": {"lr": 0.05, "lr_decay": 0.01},
    "Adam": {"lr": 0.05, "weight_decay": 0.01},
    "Adamax": {"lr": 0.05},
    "AdamW": {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True},
    "ASGD": {"lr": 0.05, "lambd": 0.1, "alpha": 0.9, "t0": 2},
    "LBFGS": {"lr": 0.1, "max_iter": 2, "history_size": 4},
    "Muon": {"lr": 0.05},
    "NAdam": {"lr": 0.05},
    "RAdam": {"lr": 0.05},
    "RMSprop": {"lr": 0.05, "momentum": 0.9, "centered": True},
    "Rprop": {"lr": 0.05},
    "SGD": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    "SparseAdam": {"lr": 0.05},
}

#: Optimizers that do not go on with the same bits in double precision, not even
#: in the release that wrote the file: NAdam's ``mu_product`` is a float32, and
#: loading casts it to the type of the parameter.
SINGLE = {"NAdam"}

#: The first releases with the optimizers that are newer than 1.13.
SINCE = {"Adafactor": (2, 5), "Muon": (2, 9)}

#: The first release in which optimizers take names.
NAMES_SINCE = (2, 6)

# Alike in pairs, so that nothing but its place or name says what belongs to which.
_PARAMS = {
    "encoder.weight": (3, 2),
    "encoder.bias": (3,),
    "decoder.weight": (3, 2),
    "decoder.bias": (3,),
}
_MATRICES = {
    "encoder.weight": (3, 2),
    "decoder.weight": (3, 2),
    "head.weight": (3, 2),
}

# Parameters come in another order than the alphabet's.
_SALTS = {
    name: salt
    for salt, name in enumerate(
        (*_PARAMS, *(name for name in _MATRICES if name not in _PARAMS)), start=1
    )
}


class Case(NamedTuple):
    """An optimizer, and how many param groups it has."""

    optimizer: str
    groups: int

    def __str__(self) -> str:
        return f"{self.optimizer}, {self.groups} group{'s' * (self.groups > 1)}"

    @staticmethod
    def parse(text: str) -> "Case":
        """The case that is written so."""
        optimizer, groups, _ = text.replace(",", "").split()
        return Case(optimizer, int(groups))


def version(release: str) -> tuple[int, int]:
    """The first two numbers of a release."""
    major, minor = re.findall(r"\d+", release)[:2]
    return int(major), int(minor)


def cases(release: str) -> list[Case]:
    """All cases that there are in a release."""
    return [
        Case(name, groups)
        for name in OPTIONS
        if version(release) >= SINCE.get(name, (0, 0))
        for groups in ((1,) if name == "LBFGS" else (1, 2))
    ]


def make_params(case: Case) -> dict[str, torch.nn.Parameter]:
    """The parameters of a case by name, as they are before the first step."""
    shapes = _MATRICES if case.optimizer in ("Muon", "SparseAdam") else _PARAMS
    dtype = torch.float32 if case.optimizer in SINGLE else torch.float64
    return {
        name: torch.nn.Parameter(_values(name, 0, shape).to(dtype))
        for name, shape in shapes.items()
    }


def make_groups(
    case: Case, params: dict[str, torch.nn.Parameter], named: bool
) -> list[dict[str, Any]]:
    """Put the parameters in the groups of a case.

    Args:
        case (Case): the case.
        params (dict): its parameters by name.
        named (bool): whether the groups have pairs of a name and a parameter.

    Returns:
        list of dict: param groups; the second one with a learning rate of its own.
    """
    pairs = list(params.items())
    parts = [pairs] if case.groups == 1 else [pairs[::2], pairs[1::2]]
    groups: list[dict[str, Any]] = [
        {"params": part if named else [param for _, param in part]} for part in parts
    ]
    for group in groups[1:]:
        group["lr"] = OPTIONS[case.optimizer]["lr"] / 2
    return groups


def build(case: Case, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer of a case."""
    return getattr(torch.optim, case.optimizer)(groups, **OPTIONS[case.optimizer])


def train(
    case: Case,
    optimizer: torch.optim.Optimizer,
    params: dict[str, torch.nn.Parameter],
    steps: Iterable[int],
) -> None:
    """Take steps; what they do depends on names and values, not on order."""
    for step in steps:
        if case.optimizer == "LBFGS":
            optimizer.step(lambda: _loss(optimizer, params))
            continue
        for name, param in params.items():
            noise = _values(name, step + 1, param.shape).to(param.dtype)
            grad = param.detach() / 8 + noise
            sparse = case.optimizer == "SparseAdam"
            param.grad = _two_rows(grad, step) if sparse else grad
        optimizer.step()


def get_values(params: dict[str, torch.nn.Parameter]) -> dict[str, list[Any]]:
    """The values of parameters as lists, which need less space than tensors."""
    return {name: param.detach().tolist() for name, param in params.items()}


def set_values(
    params: dict[str, torch.nn.Parameter], values: dict[str, list[Any]]
) -> None:
    """Give parameters their values back."""
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(torch.tensor(values[name], dtype=param.dtype))


def difference(
    params: dict[str, torch.nn.Parameter], expected: dict[str, list[Any]]
) -> float:
    """How far parameters are from what is expected.

    Returns:
        float: the largest difference, relative to the largest element of its
        parameter; 0 if and only if all are equal.
    """
    largest = 0.0
    for name, param in params.items():
        goal = torch.tensor(expected[name], dtype=param.dtype)
        off = (param.detach() - goal).abs().max() / goal.abs().max()
        # Not a number, too, is a difference.
        largest = max(largest, off.item() if off == off else float("inf"))
    return largest


def cpu() -> str:
    """The instruction set that torch computes with on this machine."""
    found = re.search(r"CPU capability usage: (\S+)", torch.__config__.show())
    return found.group(1) if found else "unknown"


def _values(name: str, step: int, shape: Iterable[int]) -> torch.Tensor:
    shape = tuple(shape)
    start = 17 * _SALTS[name] + 29 * step + 5
    # Cubes modulo a prime follow no line, so that no two elements move alike.
    cubes = [(start + 13 * i) ** 3 % 101 for i in range(torch.Size(shape).numel())]
    flat = [(cube - 50.5) / 64 for cube in cubes]
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def _two_rows(grad: torch.Tensor, step: int) -> torch.Tensor:
    grad = grad.clone()
    grad[step % len(grad)] = 0
    return grad.to_sparse(1)


def _loss(
    optimizer: torch.optim.Optimizer, params: dict[str, torch.nn.Parameter]
) -> torch.Tensor:
    optimizer.zero_grad()
    terms = []
    for name in sorted(params):
        away = params[name] - _values(name, 1, params[name].shape)
        terms.append((away**2).sum() * _SALTS[name] + (away**4).sum())
    loss = torch.stack(terms).sum()
    loss.backward()
    return loss
