"""Schedulers with a value of its own for each param group, in any torch."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler as s, Optimizer, SGD
from torch.optim.swa_utils import SWALR


Groups = Sequence[tuple[str, Sequence[str]]]

#: The kind of each param group, and its parameters.
GROUPS: Groups = [("encoder", ["encoder.a", "encoder.b"]), ("head", ["head.w"])]

_LRS = {"encoder": 0.1, "head": 0.4, "new": 0.7}


class Power:
    """A callable object: schedulers save its attributes."""

    def __init__(self, base: float) -> None:
        self.base = base

    def __call__(self, epoch: float) -> float:
        return self.base**epoch


def _each(optimizer: Optimizer, encoder: Any, head: Any) -> list[Any]:
    """A list with a value for each param group, by its kind."""
    values = {"encoder": encoder, "head": head, "new": head}
    return [values[group["kind"]] for group in optimizer.param_groups]


def _linear(o: Optimizer) -> s.LRScheduler:
    return s.LinearLR(o, 0.5, total_iters=2)


def _constant(o: Optimizer) -> s.LRScheduler:
    return s.ConstantLR(o, 0.5, total_iters=6)


def _restarts(o: Optimizer) -> s.LRScheduler:
    return s.CosineAnnealingWarmRestarts(o, 4)


def _powers(o: Optimizer) -> s.LRScheduler:
    return s.LambdaLR(o, _each(o, Power(0.5), Power(0.9)))


def _cyclic(o: Optimizer, **options: Any) -> s.LRScheduler:
    return s.CyclicLR(
        o,
        _each(o, 0.01, 0.02),
        _each(o, 0.1, 0.3),
        step_size_up=3,
        base_momentum=_each(o, 0.5, 0.6),
        max_momentum=_each(o, 0.8, 0.9),
        **options,
    )


def _sequential(o: Optimizer) -> s.LRScheduler:
    return s.SequentialLR(o, [_linear(o), _restarts(o)], [2])


def _chained(o: Optimizer) -> s.LRScheduler:
    return s.ChainedScheduler([_constant(o), s.ExponentialLR(o, 0.7)])


SETUPS: dict[str, Callable[[Optimizer], Any]] = {
    "LambdaLR": lambda o: s.LambdaLR(
        o, _each(o, lambda epoch: 0.5**epoch, lambda epoch: 0.9**epoch)
    ),
    "LambdaLR with objects": _powers,
    "MultiplicativeLR": lambda o: s.MultiplicativeLR(
        o, _each(o, lambda epoch: 0.5, lambda epoch: 0.9)
    ),
    "MultiplicativeLR with objects": lambda o: s.MultiplicativeLR(
        o, _each(o, Power(0.9), Power(0.95))
    ),
    "StepLR": lambda o: s.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: s.MultiStepLR(o, [2, 6], 0.5),
    "ConstantLR": _constant,
    "LinearLR": lambda o: s.LinearLR(o, 0.5, total_iters=7),
    "ExponentialLR": lambda o: s.ExponentialLR(o, 0.7),
    "PolynomialLR": lambda o: s.PolynomialLR(o, 12),
    # Beyond T_max it reads base_lrs.
    "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, 5, 0.01),
    "CosineAnnealingWarmRestarts": _restarts,
    "CyclicLR": _cyclic,
    "CyclicLR with an object": lambda o: _cyclic(
        o, scale_fn=Power(0.9), scale_mode="iterations"
    ),
    "OneCycleLR": lambda o: s.OneCycleLR(
        o,
        _each(o, 0.5, 0.9),
        total_steps=12,
        base_momentum=_each(o, 0.5, 0.6),
        max_momentum=_each(o, 0.8, 0.9),
    ),
    "ReduceLROnPlateau": lambda o: s.ReduceLROnPlateau(
        o, patience=0, factor=0.5, min_lr=0.01
    ),
    "ReduceLROnPlateau with min_lrs": lambda o: s.ReduceLROnPlateau(
        o, patience=0, factor=0.5, min_lr=_each(o, 0.01, 0.002)
    ),
    "SWALR": lambda o: SWALR(o, _each(o, 0.02, 0.05), anneal_epochs=7),
    "SequentialLR": _sequential,
    "SequentialLR with objects": lambda o: s.SequentialLR(
        o, [_linear(o), _powers(o)], [5]
    ),
    # Its base_lrs are not the initial_lr of the groups.
    "SequentialLR with CyclicLR": lambda o: s.SequentialLR(
        o, [_linear(o), _cyclic(o)], [5]
    ),
    "SequentialLR with SWALR": lambda o: s.SequentialLR(
        o, [_linear(o), SWALR(o, _each(o, 0.02, 0.05), anneal_epochs=5)], [3]
    ),
    "SequentialLR of SequentialLR": lambda o: s.SequentialLR(
        o, [_sequential(o), _powers(o)], [6]
    ),
    "SequentialLR of ChainedScheduler": lambda o: s.SequentialLR(
        o, [_ConstantAndPowers([_constant(o), _powers(o)]), _restarts(o)], [6]
    ),
    "ChainedScheduler": _chained,
    "ChainedScheduler of SequentialLR": lambda o: s.ChainedScheduler(
        [_sequential(o), s.ExponentialLR(o, 0.9)]
    ),
    "ChainedScheduler of ChainedScheduler": lambda o: s.ChainedScheduler(
        [_chained(o), s.MultiplicativeLR(o, _each(o, Power(0.9), Power(0.95)))]
    ),
}


class _ConstantAndPowers(s.ChainedScheduler):
    """A chain that can be in a SequentialLR, which needs these two methods."""

    def _initial_step(self) -> None:
        for scheduler in self._schedulers:
            scheduler._initial_step()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _update_lr(self, epoch: int | None = None) -> None:
        for scheduler in self._schedulers:
            scheduler._update_lr(epoch)


def build(
    make: Callable[[Optimizer], Any], groups: Groups = GROUPS, named: bool = True
) -> tuple[Optimizer, Any]:
    """Build an optimizer with these groups, and its scheduler."""
    given = []
    for kind, names in groups:
        pairs = [(name, torch.nn.Parameter(torch.ones(2))) for name in names]
        params = pairs if named else [param for _, param in pairs]
        given.append({"params": params, "lr": _LRS[kind], "kind": kind})
    optimizer = SGD(given, momentum=0.9)
    return optimizer, make(optimizer)


def run(optimizer: Optimizer, scheduler: Any, steps: int) -> None:
    """Take steps."""
    for _ in range(steps):
        optimizer.step()
        if isinstance(scheduler, s.ReduceLROnPlateau):
            scheduler.step(1.0)
        else:
            scheduler.step()


def rates(optimizer: Optimizer) -> dict[str, tuple[float, Any]]:
    """The learning rate and the momentum of each parameter, by name."""
    return {
        name: (float(group["lr"]), group.get("momentum"))
        for group in optimizer.param_groups
        for name in group["param_names"]
    }


def unnamed_pickles() -> dict[str, list[str]]:
    """Digests of pickled state dicts of schedulers over unnamed optimizers.

    After some steps, and after a load.
    """
    digests = {}
    for name, make in SETUPS.items():
        optimizer, scheduler = build(make, named=False)
        run(optimizer, scheduler, 3)
        _, other = build(make, GROUPS[::-1], named=False)
        saved = pickle.dumps(scheduler.state_dict())
        other.load_state_dict(pickle.loads(saved))
        digests[name] = [
            hashlib.sha256(data).hexdigest()
            for data in (saved, pickle.dumps(other.state_dict()))
        ]
    return digests


def continue_runs(file: str, steps: int) -> None:
    """Load what is in a file, take steps, and write it again."""
    runs = torch.load(file, weights_only=True)
    for name, saved in runs.items():
        parts = build(SETUPS[name])
        for part, state_dict in zip(parts, saved):
            part.load_state_dict(state_dict)
        run(*parts, steps)
        runs[name] = [part.state_dict() for part in parts]
    torch.save(runs, file)
