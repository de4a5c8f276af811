"""What is measured, as calls that a worker process makes.

Parameters are tiny, so that next to nothing but bookkeeping takes time. Optimizers
with state are AdamW, as most are in practice; those that are only constructed are
SGD, which does least beside.
"""

import importlib
import importlib.util
import io
import random
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer


Call: TypeAlias = Callable[[], object]


class UnavailableError(Exception):
    """This torch does not have what a workload needs."""


class Subject:
    """Parameters, optimizers and state dicts of one size, made when first needed.

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
        """The parameters as they are given to an optimizer, with or without names."""
        return list(self.params.items() if named else self.params.values())

    @cached_property
    def states(self) -> dict[str, dict[str, torch.Tensor]]:
        """The state of AdamW for each parameter, by name."""
        return {
            name: {
                "step": torch.tensor(1.0),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
            for name, param in self.params.items()
        }

    def adamw(self, named: bool) -> Optimizer:
        """A new AdamW, without state."""
        return AdamW(self.given(named), lr=1e-3)

    def with_state(self, optimizer: Optimizer) -> Optimizer:
        """Give an AdamW state; no call that is measured changes these tensors."""
        names = {param: name for name, param in self.params.items()}
        for group in optimizer.param_groups:
            for param in group["params"]:
                optimizer.state[param] = dict(self.states[names[param]])
        return optimizer

    @cached_property
    def unnamed(self) -> Optimizer:
        """An AdamW with state, built from tensors."""
        return self.with_state(self.adamw(False))

    @cached_property
    def named(self) -> Optimizer:
        """An AdamW with state, built from names and tensors."""
        return self.with_state(self.adamw(True))

    def saved_shuffled(self) -> dict[str, Any]:
        """What the named optimizer saves if its parameters come in another order."""
        pairs = self.given(True)
        random.Random(0).shuffle(pairs)
        return self.with_state(AdamW(pairs, lr=1e-3)).state_dict()

    def without_grads(self) -> None:
        """Remove what steps have left; DCP does not prepare state beside it."""
        for param in self.params.values():
            param.grad = None

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


def _construct(subject: Subject, *, named: bool) -> Call:
    params = subject.given(named)
    return lambda: SGD(params, lr=0.1, momentum=0.9)


def _construct_groups(subject: Subject, *, named: bool) -> Call:
    params = subject.given(named)
    return lambda: SGD([{"params": [p]} for p in params], lr=0.1, momentum=0.9)


def _add_groups(subject: Subject, *, named: bool) -> Call:
    first, *others = subject.given(named)

    def call() -> None:
        optimizer = SGD([first], lr=0.1, momentum=0.9)
        for param in others:
            optimizer.add_param_group({"params": [param]})

    return call


def _state_dict(subject: Subject, *, named: bool) -> Call:
    return (subject.named if named else subject.unnamed).state_dict


def _load(subject: Subject, *, named: bool, shuffled: bool = False) -> Call:
    # Not one that others use: its state comes to lie as it is in the file.
    optimizer = subject.with_state(subject.adamw(named))
    saved = subject.saved_shuffled() if shuffled else optimizer.state_dict()
    return partial(optimizer.load_state_dict, _as_from_file(saved))


def _as_from_file(saved: dict[str, Any]) -> dict[str, Any]:
    """The same state dict in memory of its own, laid out in its own order.

    What is loaded comes from a file, as a rule, and shares neither names nor tensors
    with the optimizer. To write that file would take minutes.
    """
    groups = []
    ids: dict[Any, Any] = {}
    for group in saved["param_groups"]:
        ids.update((i, _anew(i)) for i in group["params"])
        groups.append({**group, "params": [ids[i] for i in group["params"]]})
        if "param_names" in group:
            # A name is one string in a file, wherever it stands.
            names = [ids.get(name) or _anew(name) for name in group["param_names"]]
            groups[-1]["param_names"] = names
    state = {
        ids[key]: {entry: value.clone() for entry, value in entries.items()}
        for key, entries in saved["state"].items()
    }
    return {"state": state, "param_groups": groups}


def _anew(param_id: Any) -> Any:
    return param_id.encode().decode() if isinstance(param_id, str) else param_id


def _match(subject: Subject) -> Call:
    try:
        from torch.optim._param_names import entries_of, match_state_dict
    except ImportError as error:
        raise UnavailableError("this torch does not match names") from error
    return partial(
        match_state_dict,
        subject.named.param_groups,
        _as_from_file(subject.named.state_dict()),
        entries=entries_of(type(subject.named)),
    )


def _distributed() -> None:
    if not torch.distributed.is_available():
        raise UnavailableError("this torch is built without torch.distributed")


def _dcp() -> Any:
    _distributed()
    from torch.distributed.checkpoint import state_dict

    return state_dict


def _dcp_get(subject: Subject) -> Call:
    get = _dcp().get_optimizer_state_dict
    return partial(get, subject.module, subject.unnamed)


def _dcp_set(subject: Subject) -> Call:
    dcp, module, optimizer = _dcp(), subject.module, subject.unnamed
    saved = dcp.get_optimizer_state_dict(module, optimizer)
    return partial(dcp.set_optimizer_state_dict, module, optimizer, saved)


def _dcp_resume(subject: Subject) -> Call:
    dcp, module = _dcp(), subject.module
    saved = dcp.get_optimizer_state_dict(module, subject.unnamed)
    subject.without_grads()
    return lambda: dcp.set_optimizer_state_dict(module, subject.adamw(False), saved)


def _named_resume(subject: Subject) -> Call:
    saved = _as_from_file(subject.named.state_dict())
    subject.without_grads()
    return lambda: subject.adamw(True).load_state_dict(saved)


def _named_optimizer(subject: Subject) -> Any:
    _distributed()
    from torch.distributed.optim import named_optimizer

    # Its annotations are not those of what it takes.
    construct: Any = named_optimizer._NamedOptimizer
    return construct(subject.given(True), AdamW, None, subject.module, lr=1e-3)


def _keyed_optimizer(subject: Subject) -> Any:
    keyed = _from_torchrec("optim.keyed")
    _from_torchrec("distributed.shards_wrapper")  # imported by its loads
    wrapper = keyed.KeyedOptimizerWrapper(subject.params, partial(AdamW, lr=1e-3))
    wrapper.save_param_groups(True)
    return wrapper


def _from_torchrec(name: str) -> ModuleType:
    """Import one module of torchrec, and not what torchrec's packages import.

    Those need compiled operators for the GPU; these modules need torch only.
    """
    parts = ["torchrec", *name.split(".")[:-1]]
    for end in range(1, len(parts) + 1):
        package = ".".join(parts[:end])
        if package in sys.modules:
            continue
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise UnavailableError("torchrec is not installed")
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"torchrec.{name}")
    except ImportError as error:
        raise UnavailableError(f"torchrec cannot be imported ({error})") from error


#: Makes an optimizer that wraps an AdamW and keys its state by name.
_Wrapper: TypeAlias = Callable[[Subject], Any]


def _wrapper_with_state(subject: Subject, wrap: _Wrapper) -> Any:
    wrapper = wrap(subject)
    subject.with_state(wrapper._optimizer)
    return wrapper


def _wrapper_get(subject: Subject, *, wrap: _Wrapper) -> Call:
    return _wrapper_with_state(subject, wrap).state_dict  # type: ignore[no-any-return]


def _wrapper_set(subject: Subject, *, wrap: _Wrapper) -> Call:
    wrapper = _wrapper_with_state(subject, wrap)
    return partial(wrapper.load_state_dict, wrapper.state_dict())


def _wrapper_resume(subject: Subject, *, wrap: _Wrapper) -> Call:
    saved = _wrapper_with_state(subject, wrap).state_dict()

    def call() -> None:
        wrapper = wrap(subject)
        wrapper.init_state()  # without it, they refuse to load
        wrapper.load_state_dict(saved)

    return call


def _step(
    subject: Subject, kind: Callable[..., Optimizer], *, named: bool, **options: Any
) -> Call:
    params = subject.given(named)
    for param in subject.params.values():
        param.grad = torch.ones_like(param)
    optimizer = kind(params, **options)
    for _ in range(3):
        optimizer.step()
    return optimizer.step


#: Arguments of the optimizers whose loads are compared, beyond the parameters.
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "Adadelta": {},
    "Adafactor": {},
    "Adagrad": {},
    "Adam": {},
    "AdamW": {"amsgrad": True},
    "Adamax": {},
    "ASGD": {},
    "LBFGS": {},
    "Muon": {},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "Rprop": {},
    "SGD": {"momentum": 0.9},
    "SparseAdam": {},
}


def _load_of(subject: Subject, *, kind: str, named: bool) -> Call:
    """Load what the optimizer itself saves after a step."""
    shape = (2, 2) if kind == "Muon" else (2,)
    params = {name: nn.Parameter(torch.ones(shape)) for name in subject.params}
    given = list(params.items() if named else params.values())
    optimizer = getattr(torch.optim, kind)(given, lr=1e-3, **OPTIMIZERS[kind])

    def closure() -> float:
        for param in params.values():
            grad = torch.ones_like(param)
            param.grad = grad.to_sparse() if kind == "SparseAdam" else grad
        return 0.0

    optimizer.step(closure)
    return partial(optimizer.load_state_dict, optimizer.state_dict())


_SGD = partial(_step, kind=SGD, lr=1e-3, momentum=0.9)
_ADAM = partial(_step, kind=Adam, lr=1e-3)
_ADAMW = partial(_step, kind=AdamW, lr=1e-3)

#: Makes the call that is measured, by the name of the workload.
WORKLOADS: Mapping[str, Callable[[Subject], Call]] = {
    "construct unnamed": partial(_construct, named=False),
    "construct named": partial(_construct, named=True),
    "construct groups unnamed": partial(_construct_groups, named=False),
    "construct groups named": partial(_construct_groups, named=True),
    "add groups unnamed": partial(_add_groups, named=False),
    "add groups named": partial(_add_groups, named=True),
    "state_dict unnamed": partial(_state_dict, named=False),
    "state_dict named": partial(_state_dict, named=True),
    "load unnamed": partial(_load, named=False),
    "load named": partial(_load, named=True),
    "load shuffled": partial(_load, named=True, shuffled=True),
    "match": _match,
    "dcp get": _dcp_get,
    "dcp set": _dcp_set,
    "dcp resume": _dcp_resume,
    "resume by name": _named_resume,
    **{
        f"{name} {doing}": partial(way, wrap=wrap)
        for name, wrap in (
            ("_NamedOptimizer", _named_optimizer),
            ("torchrec", _keyed_optimizer),
        )
        for doing, way in (
            ("get", _wrapper_get),
            ("set", _wrapper_set),
            ("resume", _wrapper_resume),
        )
    },
    "sgd step unnamed": partial(_SGD, named=False),
    "sgd step named": partial(_SGD, named=True),
    "adam step unnamed": partial(_ADAM, named=False),
    "adam step named": partial(_ADAM, named=True),
    "adamw step unnamed": partial(_ADAMW, named=False),
    "adamw step named": partial(_ADAMW, named=True),
    **{
        f"load {kind} {'named' if named else 'unnamed'}": partial(
            _load_of, kind=kind, named=named
        )
        for kind in OPTIMIZERS
        for named in (False, True)
    },
}


def load_memory(subject: Subject, workload: str) -> dict[str, float]:
    """Memory that Python allocates during a load, from :mod:`tracemalloc`.

    Args:
        subject (Subject): the parameters.
        workload (str): the name of the load.

    Returns:
        dict[str, float]: in bytes per parameter, ``"peak"``, ``"kept"`` (the new
        state and param groups; meanwhile the old ones are there, too, but not
        counted), and ``"extra"``, which is what is beyond them at the peak.
    """
    call = WORKLOADS[workload](subject)
    call()  # what is allocated once
    tracemalloc.start()
    try:
        call()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    per_param = {"peak": peak, "kept": kept, "extra": peak - kept}
    return {key: value / subject.size for key, value in per_param.items()}


def file_size(subject: Subject, *, named: bool) -> int:
    """The bytes of a file with the optimizer's state dict.

    Args:
        subject (Subject): the parameters.
        named (bool): whether the optimizer has names.

    Returns:
        int: the size of what :func:`torch.save` writes.
    """
    optimizer = subject.named if named else subject.unnamed
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    return file.tell()


def name_bytes(subject: Subject) -> float:
    """The mean length of a parameter's name, in bytes."""
    return sum(len(name.encode()) for name in subject.params) / subject.size
