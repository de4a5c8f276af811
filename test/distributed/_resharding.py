"""Train sharded, save, and go on over another number of processes.

The same functions run here and, without names, in the unpatched release.

Every rank gets the whole batch, gradients are computed in float32 and summed in
float64. So their averages are exact, and a run is the same, bit for bit, over 1,
2 and 4 processes.
"""

import copy
import itertools
import tempfile
import warnings
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple


from _distributed import in_processes  # usort: skip

import torch
import torch.distributed.checkpoint as dcp
from torch import nn, Tensor
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer


#: Steps before saving and after.
BEFORE, AFTER = range(3), range(3, 6)


# ---- A model that is sharded ---------------------------------------------------


class Net(nn.Module):
    """A network whose layers can be registered in any order.

    ``head.bias`` has fewer rows than there are processes, and the two ``mix`` are
    alike, so that nothing but a name tells them apart.
    """

    LAYERS = ("embed", "mix1", "mix2", "norm", "head")

    def __init__(self, order: Iterable[str] = LAYERS) -> None:
        super().__init__()
        layers = {
            "embed": nn.Linear(6, 10),
            "mix1": nn.Linear(10, 10),
            "mix2": nn.Linear(10, 10),
            "norm": nn.LayerNorm(10),
            "head": nn.Linear(10, 3),
        }
        for name in order:
            self.add_module(name, layers[name])
        with torch.no_grad():
            for name, param in self.named_parameters():
                param.copy_(_values(name, param.shape) / 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.mix1(self.embed(x)))
        return self.head(self.norm(torch.sigmoid(self.mix2(x))))


def _values(key: str, shape: Iterable[int]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    return torch.randn(tuple(shape), generator=generator)


def sharded(order: Iterable[str], world_size: int) -> Net:
    """Make the model in float64, and shard it over all processes."""
    model = Net(order).double()
    how: dict[str, Any] = {
        "mesh": init_device_mesh("cpu", (world_size,)),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=torch.float32, reduce_dtype=torch.float64
        ),
    }
    for name in ("mix1", "mix2"):
        fully_shard(getattr(model, name), **how)
    return fully_shard(model, **how)


def train(model: nn.Module, optimizers: Iterable[Optimizer], steps: range) -> None:
    """Take steps with the batch of each step."""
    for step in steps:
        x = _values(f"x{step}", (8, 6))
        goal = _values(f"y{step}", (8, 3))
        ((model(x) - goal) ** 2).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


# ---- Ways to arrange its parameters ----------------------------------------------

#: For each optimizer, its groups; for each group, the names of its parameters.
Layout = list[list[list[str]]]


def layout(kind: str) -> Layout:
    """Say which parameters are in which groups of which optimizers.

    Args:
        kind (str): "same" is two groups, weights and the others; "reordered" has
            them and their parameters in another order; "regrouped" has those of
            each layer in groups of their own; "split" has two optimizers.
    """
    names = [name for name, _ in Net().named_parameters()]
    if kind == "reordered":
        names.reverse()
    weights = [name for name in names if _decays(name)]
    others = [name for name in names if not _decays(name)]
    if kind == "same":
        return [[weights, others]]
    if kind == "reordered":
        return [[others, weights]]
    if kind == "regrouped":

        def layer(name: str) -> str:
            return name.partition(".")[0]

        return [
            [
                list(group)
                for part in (others, weights)
                for _, group in itertools.groupby(part, layer)
            ]
        ]
    if kind == "split":

        def of(part: list[str], *layers: str) -> list[str]:
            return [name for name in part if name.startswith(layers)]

        first, second = ("norm", "mix1"), ("embed", "mix2", "head")
        return [
            [of(others, *second), of(weights, *second)],
            [of(weights, *first), of(others, *first)],
        ]
    raise ValueError(f"There is no layout {kind!r}.")


def _decays(name: str) -> bool:
    return name.endswith("weight") and not name.startswith("norm")


def build(
    model: nn.Module, kind: str, *, named: bool = True, fresh: bool = False
) -> list[Optimizer]:
    """Build the optimizers of a layout.

    Args:
        model (Module): the model.
        kind (str): the layout.
        named (bool): whether the optimizers have names.
        fresh (bool): whether the options are not those of the run, but others that
            are to be replaced by what is loaded.
    """
    params = dict(model.named_parameters())

    def group(names: list[str]) -> dict[str, Any]:
        options = {"lr": 0.02, "weight_decay": 0.1}
        if not _decays(names[0]):
            options = {"lr": 0.005, "weight_decay": 0.0}
        if fresh:
            options = {"lr": 0.9, "weight_decay": 0.9}
        pairs = [(name, params[name]) for name in names]
        return {"params": pairs if named else [p for _, p in pairs], **options}

    return [AdamW([group(names) for names in groups]) for groups in layout(kind)]


# ---- Ways to save and load ---------------------------------------------------------


class Way(NamedTuple):
    """How optimizers get into a checkpoint and out of it."""

    #: Whether by ``optimizer.state_dict()``, instead of DCP's functions.
    plain: bool = False
    #: Whether DCP flattens.
    flattened: bool = False
    #: Whether plain param groups are one object in the checkpoint.
    whole_groups: bool = False


WAYS = {
    "dcp": Way(),
    "flattened": Way(flattened=True),
    "plain": Way(plain=True, whole_groups=True),
    "plain-list": Way(plain=True),
}


def _options(way: Way) -> StateDictOptions:
    return StateDictOptions(flatten_optimizer_state_dict=way.flattened)


def state_of(model: nn.Module, optimizers: list[Optimizer], way: Way) -> dict[str, Any]:
    """What is saved of optimizers, and what is loaded into.

    With the plain ways, the state dicts of several optimizers are merged.
    """
    # It also gives the optimizers state, so that there is something to load into.
    by_dcp = get_optimizer_state_dict(model, optimizers, options=_options(way))
    if not way.plain:
        return by_dcp
    return merged([o.state_dict() for o in optimizers], whole_groups=way.whole_groups)


def merged(
    state_dicts: Iterable[Mapping[str, Any]], *, whole_groups: bool = False
) -> dict[str, Any]:
    """Join state dicts by plain dict union.

    Args:
        state_dicts (iterable of Mapping): of optimizers over different parameters.
        whole_groups (bool): whether the groups are to be one object in a
            checkpoint: DCP takes a list apart, but a tuple as it is.
    """
    state: dict[Any, Any] = {}
    groups: list[Any] = []
    for state_dict in state_dicts:
        state |= state_dict["state"]
        groups += state_dict["param_groups"]
    return {"state": state, "param_groups": tuple(groups) if whole_groups else groups}


def save(model: nn.Module, optimizers: list[Optimizer], way: Way, where: str) -> None:
    """Save model and optimizers."""
    state = state_of(model, optimizers, way)
    dcp.save({"model": model.state_dict(), "optimizer": state}, checkpoint_id=where)


def load(
    model: nn.Module,
    optimizers: list[Optimizer],
    way: Way,
    where: str,
    **how: bool,
) -> None:
    """Load model and optimizers, the optimizers by way of a copy."""
    target = copy.deepcopy(
        {"model": model.state_dict(), "optimizer": state_of(model, optimizers, way)}
    )
    dcp.load(target, checkpoint_id=where)
    model.load_state_dict(target["model"])
    if way.plain:
        for optimizer in optimizers:
            optimizer.load_state_dict(target["optimizer"], **how)
    else:
        set_optimizer_state_dict(
            model, optimizers, target["optimizer"], options=_options(way)
        )


# ---- What there is to be compared --------------------------------------------------


def whole(value: Any) -> Any:
    """Copy something with its sharded tensors put together."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value


def outcome(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Any]:
    """Parameters, state and options by the model's names, whatever the order."""
    names = {param: name for name, param in model.named_parameters()}
    found: dict[str, Any] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            options = {
                key: value
                for key, value in sorted(group.items())
                if key not in ("params", "param_names")
            }
            for param in group["params"]:
                state = optimizer.state[param]
                found[names[param]] = {
                    "value": whole(param),
                    "state": whole(dict(sorted(state.items()))),
                    "options": options,
                }
    return dict(sorted(found.items()))


# ---- The runs ----------------------------------------------------------------------


class Case(NamedTuple):
    """A run that was saved, and how it is continued."""

    #: The layout in which it was trained.
    saved_as: str
    #: The layout in which it continues.
    continued_as: str
    way: str
    named: bool = True
    #: What a plain state dict is loaded with.
    strict: bool = True

    def __str__(self) -> str:
        names = "named" if self.named else "unnamed"
        to = self.continued_as
        if (self.saved_as, self.continued_as) == ("split", "same"):
            to = "merged"
        return f"{names}_{self.way}_{to}".replace("-", "_")


NAMED_CASES = [
    *(
        Case("same", to, way)
        for to in ("same", "reordered")
        for way in ("dcp", "flattened", "plain", "plain-list")
    ),
    Case("same", "regrouped", "flattened"),
    Case("same", "regrouped", "plain", strict=False),
    Case("same", "split", "flattened"),
    Case("same", "split", "plain", strict=False),
    Case("split", "same", "flattened"),
    Case("split", "same", "plain", strict=False),
]

#: DCP takes a list of groups apart by their position, so that it does not find those
#: of which there are more than saved.
REFUSED_CASES = [
    Case("same", "split", "dcp"),
    Case("same", "regrouped", "dcp"),
    Case("same", "regrouped", "plain-list", strict=False),
]

#: Without names, DCP's functions find parameters by those of the model, and a plain
#: state dict has to have the same order.
UNNAMED_CASES = [
    Case("same", "same", "dcp", named=False),
    Case("same", "same", "flattened", named=False),
    Case("same", "same", "plain-list", named=False),
    Case("same", "reordered", "dcp", named=False),
    Case("same", "reordered", "flattened", named=False),
    Case("same", "regrouped", "flattened", named=False),
    Case("same", "split", "flattened", named=False),
]


def _where(folder: str, case: Case) -> str:
    return f"{folder}/{case.saved_as}-{case.way}-{case.named}"


def train_and_save(
    rank: int, folder: str, world_size: int, cases: list[Case]
) -> dict[str, Any]:
    """Train, save for each case, go on without a stop.

    Returns:
        dict: the outcomes of the runs that never stopped, and what was saved.
    """
    found: dict[str, Any] = {}
    for saved_as, named in sorted({(case.saved_as, case.named) for case in cases}):
        model = sharded(Net.LAYERS, world_size)
        optimizers = build(model, saved_as, named=named)
        train(model, optimizers, BEFORE)
        done = set()
        for case in cases:
            where = _where(folder, case)
            if (case.saved_as, case.named) != (saved_as, named) or where in done:
                continue
            done.add(where)
            way = WAYS[case.way]
            save(model, optimizers, way, where)
            if not named:
                state = whole(state_of(model, optimizers, way))
                found[f"saved {case.way}"] = state
        train(model, optimizers, AFTER)
        found[f"{saved_as} {named}"] = outcome(model, optimizers)
    return found


def load_and_continue(
    rank: int, folder: str, world_size: int, cases: list[Case]
) -> dict[str, Any]:
    """Continue each case over another number of processes.

    Returns:
        dict: the outcome of each case, or the error, by its name.
    """
    found: dict[str, Any] = {}
    for case in cases:
        order = Net.LAYERS
        if case.continued_as != "same":
            order = order[::-1]
        model = sharded(order, world_size)
        optimizers = build(model, case.continued_as, named=case.named, fresh=True)
        how = {} if case.strict else {"strict": False}
        try:
            load(model, optimizers, WAYS[case.way], _where(folder, case), **how)
            train(model, optimizers, AFTER)
            found[str(case)] = outcome(model, optimizers)
        # An error of a checkpoint is no Exception.
        except BaseException as error:
            found[str(case)] = f"{type(error).__name__}: {error}"
    return found


class Runs(NamedTuple):
    """The outcomes on each rank."""

    #: The run that never stopped, and what was saved of it.
    saving: list[dict[str, Any]]
    #: Each case, by the number of processes that continued it.
    continuing: dict[int, list[dict[str, Any]]]


def runs(cases: list[Case], saving: int, continuing: Iterable[int]) -> Runs:
    """Train and save over one number of processes, continue over others."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        saved = in_processes(saving, train_and_save, folder, saving, cases)
        # Beside each other, since each waits for its processes to start.
        with ThreadPoolExecutor() as pool:
            jobs = {
                n: pool.submit(in_processes, n, load_and_continue, folder, n, cases)
                for n in continuing
            }
            return Runs(saved, {n: job.result() for n, job in jobs.items()})
