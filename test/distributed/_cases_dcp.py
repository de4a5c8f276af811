"""Optimizers saved and loaded through ``torch.distributed.checkpoint.state_dict``.

Each case trains a model on two ranks, gets the optimizers' state dict, sets it in
optimizers over another copy of the model, and trains on. It runs without names,
for comparison with the release, and with names.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn, Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
)
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer, SGD
from torch.utils._pytree import tree_map_only


WORLD_SIZE = 2

#: What :class:`StateDictOptions` can be asked for.
OPTIONS: dict[str, dict[str, bool]] = {
    "plain": {},
    "flattened": {"flatten_optimizer_state_dict": True},
    "full": {"full_state_dict": True},
    "offloaded": {"cpu_offload": True},
    "full and offloaded": {"full_state_dict": True, "cpu_offload": True},
    "broadcast": {"full_state_dict": True, "broadcast_from_rank0": True},
    "not strict": {"strict": False},
    "full and flattened": {
        "full_state_dict": True,
        "flatten_optimizer_state_dict": True,
    },
    "broadcast and flattened": {
        "full_state_dict": True,
        "broadcast_from_rank0": True,
        "flatten_optimizer_state_dict": True,
    },
}

#: Those that take ways of their own through the code.
MAIN_OPTIONS = ("plain", "flattened", "full", "broadcast", "full and flattened")


class Block(nn.Sequential):
    """Two layers of different shapes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.Linear(6, 4, bias=False))


class Net(nn.Module):
    """Layers that have shapes in common and others that have not."""

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.block = Block()
        self.head = nn.Linear(4, 4, bias=False)
        if shared:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).relu())


def plain(model: nn.Module) -> nn.Module:
    return model


def ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def checkpointed(model: Net) -> nn.Module:
    model.block = checkpoint_wrapper(model.block)
    return model


def sharded(model: Net) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


#: What may wrap a model. All but the first and the last add a prefix to names.
WRAPPERS: dict[str, Callable[[Any], nn.Module]] = {
    "plain": plain,
    "DDP": ddp,
    "compiled": compiled,
    "checkpointed": checkpointed,
    "FSDP2": sharded,
}

Group = dict[str, Tensor]


def one_group(model: nn.Module) -> list[list[Group]]:
    return [[dict(model.named_parameters())]]


def two_groups(model: nn.Module) -> list[list[Group]]:
    params = dict(model.named_parameters())
    biases = {n: p for n, p in params.items() if n.endswith("bias")}
    return [[{n: p for n, p in params.items() if n not in biases}, biases]]


def two_optimizers(model: nn.Module) -> list[list[Group]]:
    (groups,) = two_groups(model)
    return [[group] for group in groups]


def empty_group(model: nn.Module, index: int) -> list[list[Group]]:
    (groups,) = two_groups(model)
    groups.insert(index, {})
    return [groups]


def a_part(model: nn.Module) -> list[list[Group]]:
    (groups,) = two_groups(model)
    return [groups[:1]]


class Layout(NamedTuple):
    """Which parameters are trained, and how they are given to optimizers."""

    #: The param groups of each optimizer.
    groups: Callable[[nn.Module], list[list[Group]]] = two_groups
    #: Whether two layers have one weight.
    shared: bool = False
    #: Whether a layer does not train.
    frozen: bool = False
    #: The class of each optimizer.
    kinds: tuple[Callable[..., Optimizer], ...] = (AdamW, AdamW)


_momentum = partial(SGD, momentum=0.9)

LAYOUTS = {
    "one group": Layout(one_group),
    "two groups": Layout(),
    "two optimizers": Layout(two_optimizers, kinds=(AdamW, _momentum)),
    "empty first group": Layout(partial(empty_group, index=0)),
    "empty last group": Layout(partial(empty_group, index=2)),
    "shared": Layout(shared=True),
    "frozen": Layout(frozen=True),
    "a part": Layout(a_part),
    "no state": Layout(kinds=(SGD,)),
}


def build(
    layout: Layout, wrapper: str, *, named: bool, lr: float, backwards: bool = False
) -> tuple[nn.Module, list[Optimizer]]:
    """Build a model, always with the same values, and optimizers for it.

    Args:
        layout (Layout): what is trained.
        wrapper (str): what wraps the model.
        named (bool): whether the optimizers have names: those of the wrapped
            model, which may have prefixes.
        lr (float): the learning rate of the first group; others have less.
        backwards (bool): whether parameters in a group and groups in an
            optimizer come in the opposite order. The learning rates do not.

    Returns:
        the wrapped model, and the optimizers.
    """
    torch.manual_seed(0)
    model = Net(shared=layout.shared)
    if layout.frozen:
        model.block[0].weight.requires_grad_(False)
    model = WRAPPERS[wrapper](model)
    step = -1 if backwards else 1
    optimizers = []
    for kind, groups in zip(layout.kinds, layout.groups(model)):
        given = [
            list(group.items())[::step] if named else list(group.values())[::step]
            for group in groups[::step]
        ]
        # An empty list does not say whether the group is named.
        given = [params or ({} if named else []) for params in given]
        rates = [lr / (index + 1) for index in range(len(given))]
        optimizers.append(
            kind([{"params": p, "lr": r} for p, r in zip(given, rates)], lr=lr)
        )
    return model, optimizers


def train(model: nn.Module, optimizers: list[Optimizer], steps: int) -> None:
    # Calling it would compile it.
    call = getattr(model, "_orig_mod", model)
    for step in range(steps):
        x = torch.arange(8.0).reshape(2, 4).sin() + step
        call(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def copy_values(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for one, other in zip(source.parameters(), target.parameters(), strict=True):
            other.copy_(one)


def local(value: Any) -> Any:
    """Replace DTensors by their placements and the part on this rank."""

    def replace(tensor: DTensor) -> tuple[str, tuple[int, ...], Tensor]:
        return str(tensor.placements), tuple(tensor.shape), tensor.to_local()

    return tree_map_only(DTensor, replace, value)


def contents(optimizer: Optimizer) -> tuple[list[Any], list[Any]]:
    """State and groups by position, without names."""
    groups = [
        {k: v for k, v in group.items() if k not in ("params", "param_names")}
        for group in optimizer.param_groups
    ]
    state = [
        optimizer.state.get(param)
        for group in optimizer.param_groups
        for param in group["params"]
    ]
    return state, groups


def names_of(optimizer: Optimizer) -> list[Any]:
    return [group.get("param_names") for group in optimizer.param_groups]


def run(
    layout: str,
    wrapper: str,
    options: Mapping[str, bool],
    *,
    named: bool = False,
    loaded_named: bool | None = None,
    backwards: bool = False,
) -> dict[str, Any]:
    """Save, load and go on.

    Args:
        layout, wrapper (str): of :data:`LAYOUTS` and :data:`WRAPPERS`.
        options (Mapping): for :class:`StateDictOptions`.
        named (bool): whether the optimizers that are saved have names.
        loaded_named (bool, optional): whether those that load have names; by
            default as those that are saved.
        backwards (bool): whether those that load have another order.

    Returns:
        dict: what was saved; the loaded state and groups, and what they are
        some steps later; the values of the parameters then; the names in the
        optimizers before and after the load; how far from a run that was not
        interrupted.
    """
    options = StateDictOptions(**options)
    model, optimizers = build(LAYOUTS[layout], wrapper, named=named, lr=0.1)
    train(model, optimizers, 3)
    saved = get_optimizer_state_dict(model, optimizers, options=options)
    if options.broadcast_from_rank0 and dist.get_rank() != 0:
        saved = {}
    found = {"saved": deepcopy(local(saved))}

    loaded_named = named if loaded_named is None else loaded_named
    again, others = build(
        LAYOUTS[layout], wrapper, named=loaded_named, lr=0.7, backwards=backwards
    )
    copy_values(model, again)
    before = [names_of(other) for other in others]
    # Full state that is offloaded is on the first rank only.
    if options.full_state_dict and options.cpu_offload:
        options.broadcast_from_rank0 = True
    set_optimizer_state_dict(again, others, deepcopy(saved), options=options)
    found["names"] = before, [names_of(other) for other in others]
    found["loaded"] = deepcopy(local([contents(other) for other in others]))
    train(model, optimizers, 2)
    train(again, others, 2)
    found["trained"] = local([contents(other) for other in others])
    found["values"] = local(list(again.parameters()))
    found["uninterrupted"] = local(list(model.parameters()))
    return found


def comparable(found: dict[str, Any]) -> dict[str, Any]:
    """What must be the same with and without names."""
    saved = {k: v for k, v in found["saved"].items() if not k.endswith(".param_names")}
    if "param_groups" in saved:
        saved["param_groups"] = [
            {key: value for key, value in group.items() if key != "param_names"}
            for group in saved["param_groups"]
        ]
    return {**{k: v for k, v in found.items() if k != "names"}, "saved": saved}


#: Ends the name of a case that loads in another order.
BACKWARDS = ", backwards"

#: The arguments of :func:`run`, by the case's name. Not all of them with all.
ARGUMENTS: dict[str, tuple[str, str, str]] = {
    f"{layout}, {wrapper}, {option}": (layout, wrapper, option)
    for layout in LAYOUTS
    for wrapper in WRAPPERS
    for option in OPTIONS
    if (layout == "two groups" and wrapper in ("plain", "FSDP2"))
    or (layout == "two groups" and option in MAIN_OPTIONS)
    or (wrapper == "plain" and option in ("plain", "flattened"))
    or (wrapper == "FSDP2" and option in MAIN_OPTIONS)
}


def works_on_the_release(name: str) -> bool:
    """Whether the release can load, without damage, what is saved in a case."""
    layout, _, option = ARGUMENTS[name.removesuffix(BACKWARDS)]
    if layout == "no state":
        # Loads by position.
        backwards = name.endswith(BACKWARDS)
        return option == "flattened" or (option == "plain" and not backwards)
    if layout == "empty first group":
        return False
    if layout == "empty last group" and option == "flattened":
        return False
    return option not in ("full and flattened", "broadcast and flattened")


CASES = {
    name: partial(run, layout, wrapper, OPTIONS[option], backwards=bool(suffix))
    for case, (layout, wrapper, option) in ARGUMENTS.items()
    for suffix in ("", BACKWARDS)
    if works_on_the_release(name := case + suffix)
}
