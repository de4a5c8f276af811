"""Cases in which optimizers have no names: FSDP, ``fully_shard`` and DDP."""

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel as FSDP,
    OptimStateKeyType,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictType,
    fully_shard,
)
from torch.distributed.optim import _NamedOptimizer
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils._pytree import tree_map


WORLD_SIZE = 2


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.inner = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.first(x).tanh()).tanh())


def wrap(use_orig_params: bool, mesh: bool = False) -> FSDP:
    model = Model()
    kwargs: dict[str, Any] = {"use_orig_params": use_orig_params}
    kwargs["device_id"] = torch.device("cpu")
    if mesh:
        kwargs["device_mesh"] = init_device_mesh("cpu", (WORLD_SIZE,))
    model.inner = FSDP(model.inner, **kwargs)
    return FSDP(model, **kwargs)


def make_groups(model: nn.Module, flip: bool = False) -> list[dict[str, Any]]:
    pairs = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in pairs if "inner" in n], "lr": 0.1},
        {"params": [p for n, p in pairs if "inner" not in n], "lr": 0.2},
    ]
    if flip:
        groups = [{**g, "params": g["params"][::-1]} for g in groups]
    return groups


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(2):
        model.zero_grad()
        x = torch.arange(15.0).reshape(5, 3) / 7 + dist.get_rank() + step
        model(x).square().sum().backward()
        optimizer.step()


def trained(model: nn.Module, cls: type = torch.optim.Adam) -> torch.optim.Optimizer:
    kwargs = {"momentum": 0.9} if cls is torch.optim.SGD else {}
    optimizer = cls(make_groups(model), foreach=False, **kwargs)
    train(model, optimizer)
    return optimizer


def local(values: Any) -> Any:
    """What this rank holds of the tensors.

    The states of one parameter are sorted, since FSDP looks through a set of
    them, whose order differs from one process to the next.
    """

    def shard(value: Any) -> Any:
        if isinstance(value, ShardedTensor):
            shards = [(s.metadata, s.tensor) for s in value.local_shards()]
            return [(repr(metadata), tensor.clone()) for metadata, tensor in shards]
        if isinstance(value, DTensor):
            return str(value.placements), value.to_local().clone()
        return value.clone() if isinstance(value, torch.Tensor) else value

    return sort_states(tree_map(shard, values))


def sort_states(values: Any) -> Any:
    if isinstance(values, list):
        return [sort_states(value) for value in values]
    if isinstance(values, dict) and "state" in values:
        state = {k: dict(sorted(v.items())) for k, v in values["state"].items()}
        return {**values, "state": state}
    return values


def set_type(model: nn.Module, kind: str, rank0_only: bool = False) -> None:
    if kind == "full":
        FSDP.set_state_dict_type(
            model,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(),
            FullOptimStateDictConfig(rank0_only=rank0_only, offload_to_cpu=False),
        )
    else:
        FSDP.set_state_dict_type(
            model,
            StateDictType.SHARDED_STATE_DICT,
            ShardedStateDictConfig(),
            ShardedOptimStateDictConfig(),
        )


def round_trip(
    use_orig_params: bool,
    kind: str,
    *,
    mesh: bool = False,
    flip: bool = False,
    rank0_only: bool = False,
    cls: type = torch.optim.Adam,
) -> Any:
    """Save, load into another optimizer and go on."""
    model = wrap(use_orig_params, mesh)
    optimizer = trained(model, cls)
    set_type(model, kind, rank0_only)
    saved = FSDP.optim_state_dict(model, optimizer)
    seen = [local(saved)]
    other = cls(make_groups(model, flip), lr=0.9)
    to_load = FSDP.optim_state_dict_to_load(model, other, saved)
    seen.append(local(to_load))
    other.load_state_dict(to_load)
    train(model, other)
    seen.append(local(other.state_dict()))
    return seen


def without_groups() -> Any:
    model = wrap(True)
    optimizer = trained(model)
    set_type(model, "full")
    passed = {"state": optimizer.state_dict()["state"]}
    saved = FSDP.optim_state_dict(model, optimizer, passed)
    return local([saved, FSDP.optim_state_dict_to_load(model, optimizer, saved)])


def entry_of_the_user() -> Any:
    model = wrap(False)
    optimizer = trained(model)
    optimizer.state["epoch"] = {"number": 3}
    set_type(model, "full")
    saved = FSDP.optim_state_dict(model, optimizer)
    return local([saved, FSDP.optim_state_dict_to_load(model, optimizer, saved)])


def no_state(use_orig_params: bool) -> Any:
    model = wrap(use_orig_params)
    optimizer = torch.optim.Adam(make_groups(model))
    set_type(model, "full")
    saved = FSDP.optim_state_dict(model, optimizer)
    return saved, FSDP.optim_state_dict_to_load(model, optimizer, saved)


def older_functions(use_orig_params: bool) -> Any:
    model = wrap(use_orig_params)
    optimizer = trained(model)
    groups = make_groups(model)
    set_type(model, "full")
    seen = [
        FSDP.full_optim_state_dict(model, optimizer, rank0_only=False),
        FSDP.full_optim_state_dict(model, optimizer, groups, rank0_only=False),
        FSDP.full_optim_state_dict(model, optimizer),
        FSDP.sharded_optim_state_dict(model, optimizer),
    ]
    first, _, on_rank_0, sharded = seen
    seen += [
        FSDP.shard_full_optim_state_dict(first, model, optim=optimizer),
        FSDP.shard_full_optim_state_dict(first, model, groups),
        FSDP.scatter_full_optim_state_dict(
            on_rank_0 if dist.get_rank() == 0 else None, model, optim=optimizer
        ),
        FSDP.flatten_sharded_optim_state_dict(sharded, model, optimizer),
    ]
    return local(seen)


def rekey() -> Any:
    model = wrap(False)
    set_type(model, "full")
    saved = FSDP.optim_state_dict(model, trained(model))
    plain = Model()
    optimizer = torch.optim.Adam(make_groups(plain, flip=True))
    ids, names = OptimStateKeyType.PARAM_ID, OptimStateKeyType.PARAM_NAME
    by_id = FSDP.rekey_optim_state_dict(saved, ids, plain, optim=optimizer)
    seen = [copy.deepcopy(by_id)]
    optimizer.load_state_dict(by_id)
    own = optimizer.state_dict()
    seen.append(FSDP.rekey_optim_state_dict(own, names, plain, optim=optimizer))
    seen.append(FSDP.rekey_optim_state_dict(own, names, plain, make_groups(plain)))
    seen.append(FSDP.rekey_optim_state_dict(own, ids, plain, optim=optimizer))
    seen.append(FSDP.rekey_optim_state_dict(saved, ids, plain))
    empty = {**own, "state": {}}
    seen.append(FSDP.rekey_optim_state_dict(empty, names, plain, optim=optimizer))
    return local(seen)


def mixed_keys() -> Any:
    plain = Model()
    optimizer = torch.optim.Adam(plain.parameters())
    passed = {**optimizer.state_dict(), "state": {0: {}, "epoch": 3}}
    names = OptimStateKeyType.PARAM_NAME
    return FSDP.rekey_optim_state_dict(passed, names, plain, optim=optimizer)


def unknown_parameter() -> Any:
    model = wrap(True)
    optimizer = trained(model)
    set_type(model, "full")
    saved = FSDP.optim_state_dict(model, optimizer)
    saved["param_groups"][0]["params"].append("new")
    return FSDP.optim_state_dict_to_load(model, optimizer, saved)


def named_optimizer(use_orig_params: bool) -> Any:
    model = wrap(use_orig_params)
    optimizer = _NamedOptimizer(
        model.named_parameters(),
        torch.optim.Adam,
        make_groups(model),
        foreach=False,
    )
    train(model, optimizer)
    set_type(model, "full")
    saved = FSDP.optim_state_dict(model, optimizer)
    seen = [local(saved)]
    to_load = FSDP.optim_state_dict_to_load(
        model, optimizer, saved, is_named_optimizer=True
    )
    seen.append(local(to_load))
    optimizer.load_state_dict(to_load)
    train(model, optimizer)
    seen.append(local(optimizer.state_dict()))
    return seen


def sharded_by_fully_shard(foreach: bool) -> Any:
    model = Model()
    fully_shard(model.inner, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    fully_shard(model, mesh=init_device_mesh("cpu", (WORLD_SIZE,)))
    optimizer = torch.optim.Adam(make_groups(model), foreach=foreach)
    train(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    other = torch.optim.Adam(make_groups(model), foreach=foreach)
    other.load_state_dict(saved)
    train(model, other)
    return local([saved, other.state_dict(), list(model.parameters())])


def replicated_by_ddp() -> Any:
    model = DDP(Model())
    optimizer = torch.optim.Adam(make_groups(model))
    train(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    other = torch.optim.Adam(make_groups(model))
    other.load_state_dict(saved)
    train(model, other)
    return local([saved, other.state_dict(), list(model.parameters())])


def quietly(case: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    @functools.wraps(case)
    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case(*args, **kwargs)

    return run


CASES: dict[str, Callable[[], Any]] = {
    "without_groups": quietly(without_groups),
    "entry_of_the_user": quietly(entry_of_the_user),
    "rekey": quietly(rekey),
    "fully_shard_foreach": quietly(sharded_by_fully_shard, True),
    "fully_shard_for_loop": quietly(sharded_by_fully_shard, False),
    "ddp": quietly(replicated_by_ddp),
}
for orig in (True, False):
    suffix = "orig_params" if orig else "flat_params"
    for kind in ("full", "sharded"):
        CASES[f"{kind}_{suffix}"] = quietly(round_trip, orig, kind)
        CASES[f"{kind}_reordered_{suffix}"] = quietly(round_trip, orig, kind, flip=True)
    CASES[f"mesh_{suffix}"] = quietly(round_trip, orig, "sharded", mesh=True)
    CASES[f"rank0_only_{suffix}"] = quietly(round_trip, orig, "full", rank0_only=True)
    CASES[f"sgd_{suffix}"] = quietly(round_trip, orig, "full", cls=torch.optim.SGD)
    CASES[f"no_state_{suffix}"] = quietly(no_state, orig)
    CASES[f"older_functions_{suffix}"] = quietly(older_functions, orig)
    CASES[f"named_optimizer_{suffix}"] = quietly(named_optimizer, orig)

#: Cases that raise an error.
ERRORS: dict[str, Callable[[], Any]] = {
    "mixed_keys": quietly(mixed_keys),
    "unknown_parameter": quietly(unknown_parameter),
}
CASES.update(ERRORS)
