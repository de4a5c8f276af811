"""Sharded and wrapping optimizers without names, to compare with the release."""

import pickle
import tempfile
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import _distributed  # noqa: F401

# isort: split
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _common import (
    GROUPED,
    STATEFUL,
    build,
    in_groups,
    make_params,
    set_values,
    train,
    values,
    without_names,
)
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharded_optim import (
    ShardedOptimizer,
    named_params_with_sharded_tensor,
)
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from torch.distributed.algorithms.model_averaging.averagers import (
    PeriodicModelAverager,
)
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.optim import (
    PostLocalSGDOptimizer,
    ZeroRedundancyOptimizer,
    _apply_optimizer_in_backward,
    _get_in_backward_optimizers,
)
from torch.distributed.optim.named_optimizer import _NamedOptimizer
from torch.nn import Linear, Module, Parameter, Sequential
from torch.optim import Adam, AdamW, SGD
from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db


WORLD_SIZE = 2

INFOS = {info.name: info for info in optim_db}
ADAM = INFOS["Adam"]


def zero(info: OptimizerInfo, params: Any, **kwargs: Any) -> ZeroRedundancyOptimizer:
    options = {**STATEFUL.get(info.name, {}), **kwargs}
    return ZeroRedundancyOptimizer(params, info.optim_cls, **options)


def consolidated(optimizer: ZeroRedundancyOptimizer) -> Any:
    """The state dict, on the first rank."""
    optimizer.consolidate_state_dict()
    return optimizer.state_dict() if dist.get_rank() == 0 else None


def on_all_ranks(value: Any) -> Any:
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def inside(optimizer: ZeroRedundancyOptimizer) -> Any:
    """What a sharded optimizer holds, its tensors as values."""
    return [
        (o.param_groups, list(o.state.items()), repr(o))
        for o in (optimizer, optimizer.optim)
    ]


def _zero_life(info: OptimizerInfo, **options: Any) -> Any:
    params = make_params(info)
    optimizer = zero(info, without_names(in_groups(info, params)), **options)
    train(info, optimizer, params, range(3))
    saved = consolidated(optimizer)
    given = on_all_ranks(saved)
    there = make_params(info)
    set_values(there, values(params))
    first, *rest = without_names(in_groups(info, there))
    loaded = zero(info, [{**first, "lr": 0.9}], **options)
    for group in rest:
        loaded.add_param_group(group)
    loaded.load_state_dict(given)
    train(info, loaded, there, range(3, 6))
    return saved, given, inside(optimizer), inside(loaded), rest, values(there)


def _zero_reload(info: OptimizerInfo) -> Any:
    params = make_params(info)
    optimizer = zero(info, without_names(in_groups(info, params)))
    train(info, optimizer, params, range(2))
    given = on_all_ranks(consolidated(optimizer))
    train(info, optimizer, params, range(2, 4))
    optimizer.load_state_dict(given)
    after = inside(optimizer), pickle.dumps(optimizer.__getstate__()["defaults"])
    train(info, optimizer, params, range(4, 6))
    return after, given, consolidated(optimizer), values(params), optimizer.state


def _zero_from_plain() -> Any:
    params, plain_params = make_params(ADAM), make_params(ADAM)
    plain = build(ADAM, list(plain_params.values()))
    train(ADAM, plain, plain_params, range(2))
    optimizer = zero(ADAM, list(params.values()))
    optimizer.load_state_dict(plain.state_dict())
    return inside(optimizer), consolidated(optimizer)


def _constructor(make: Callable[[Parameter], Any]) -> Callable[[], Any]:
    def case() -> Any:
        optimizer = ZeroRedundancyOptimizer(make(Parameter(torch.ones(2, 2))), SGD)
        return inside(optimizer), optimizer._all_params

    return case


def _added(make: Callable[[Parameter], Any]) -> Callable[[], Any]:
    def case() -> Any:
        param = Parameter(torch.ones(2, 2))
        optimizer = ZeroRedundancyOptimizer([param], SGD, lr=0.1)
        optimizer.add_param_group(make(param))
        return inside(optimizer)

    return case


def _changed_load(change: Callable[[Any], Any]) -> Callable[[], Any]:
    def case() -> Any:
        params = make_params(ADAM)
        optimizer = zero(ADAM, list(params.values()))
        train(ADAM, optimizer, params, range(2))
        given = on_all_ranks(consolidated(optimizer))
        changed = change(given)
        optimizer.load_state_dict(given if changed is None else changed)
        return inside(optimizer)

    return case


def _not_consolidated() -> Any:
    return zero(ADAM, list(make_params(ADAM).values())).state_dict()


def _overlap() -> Any:
    params, plain_params = make_params(ADAM), make_params(ADAM)
    plain = build(ADAM, list(plain_params.values()))
    train(ADAM, plain, plain_params, range(2))
    optimizer = zero(ADAM, list(params.values()), overlap_with_ddp=True, lr=0.1)
    found = [optimizer.param_groups]
    optimizer._overlap_info.params_per_bucket = [
        list(params.values())[::2],
        list(params.values())[1::2],
    ]
    optimizer._init_zero_for_overlap()
    optimizer.load_state_dict(plain.state_dict())
    found += [optimizer.param_groups, optimizer.optim.param_groups]
    return found, list(optimizer.optim.state.items())


def _averager() -> PeriodicModelAverager:
    return PeriodicModelAverager(period=2, warmup_steps=1)


def _post_local_sgd() -> Any:
    params = make_params(ADAM)
    groups = without_names(in_groups(ADAM, params))
    optimizer = PostLocalSGDOptimizer(build(ADAM, groups[:1]), _averager())
    optimizer.add_param_group(groups[1])
    train(ADAM, optimizer, params, range(3))
    saved = deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    train(ADAM, optimizer, params, range(3, 6))
    optimizer.zero_grad()
    return saved, optimizer.state_dict(), values(params), repr(optimizer)


def _post_local_sgd_without_step() -> Any:
    params = make_params(ADAM)
    optimizer = PostLocalSGDOptimizer(build(ADAM, params.values()), _averager())
    saved = optimizer.state_dict()
    del saved["step"]
    optimizer.load_state_dict(saved)
    return optimizer.averager.step


def _model() -> Module:
    torch.manual_seed(0)
    return Sequential(Linear(3, 4), Linear(4, 2))


def _backward(model: Module, steps: range) -> None:
    for step in steps:
        model(torch.full((2, 3), 0.1 * (step + 1))).square().sum().backward()


def _named_optimizer() -> Any:
    model, groups = _model(), None
    optimizer = _NamedOptimizer(dict(model.named_parameters()), AdamW, groups, lr=0.1)
    _backward(model, range(2))
    optimizer.step()
    saved = deepcopy(optimizer.state_dict())
    _backward(model, range(2))
    optimizer.step()
    optimizer.load_state_dict(saved)
    _backward(model, range(2))
    optimizer.step()
    return saved, optimizer.state_dict(), list(model.parameters())


def _named_optimizer_groups() -> Any:
    model = _model()
    params = dict(model.named_parameters())
    groups = [{"params": [params["1.weight"], params["0.bias"]], "lr": 0.3}]
    optimizer = _NamedOptimizer(params, AdamW, groups, None, lr=0.1)
    optimizer.add_param_group({"params": params["0.weight"], "lr": 0.2})
    optimizer.init_state()
    return optimizer.state_dict(), optimizer.ordered_param_keys


def _named_optimizer_loads(change: Callable[[Any], Any]) -> Callable[[], Any]:
    def case() -> Any:
        model = _model()
        optimizer = _NamedOptimizer(dict(model.named_parameters()), AdamW, lr=0.1)
        optimizer.init_state()
        saved = deepcopy(optimizer.state_dict())
        change(saved)
        optimizer.load_state_dict(saved)

    return case


def _named_optimizer_adds(make: Callable[[Parameter], Any]) -> Callable[[], Any]:
    def case() -> Any:
        model = _model()
        optimizer = _NamedOptimizer(dict(model.named_parameters()), AdamW, lr=0.1)
        optimizer.add_param_group(make(model[0].weight))

    return case


def _in_backward() -> Any:
    model = _model()
    _apply_optimizer_in_backward(SGD, [model[0].weight], {"lr": 0.2})
    _apply_optimizer_in_backward(Adam, model[1].parameters(), {"lr": 0.1})
    _apply_optimizer_in_backward(
        SGD, iter([model[0].weight]), {"lr": 0.3, "momentum": 0.9}
    )
    _backward(model, range(3))
    optimizers = _get_in_backward_optimizers(model)
    return (
        [(type(o), o.param_groups, o.state_dict()) for o in optimizers],
        list(model.parameters()),
        model[0].weight._optimizer_kwargs,
    )


def _in_backward_of(params: Any) -> Callable[[], Any]:
    return lambda: _apply_optimizer_in_backward(SGD, params, {"lr": 0.1})


def _sharded_optimizer() -> Any:
    spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu", "rank:1/cpu"])
    model = _model()
    model[0].table = sharded_tensor.ones(spec, 4, 2)
    model[0].table.local_shards()[0].tensor.requires_grad_()
    params = dict(named_params_with_sharded_tensor(model))
    optimizer = ShardedOptimizer(params, AdamW, lr=0.1)
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.ones_like(param)
    optimizer.step()
    optimizer.zero_grad()
    return list(params), optimizer.param_groups[0]["params"], list(optimizer.state)


def _sharded_load() -> Any:
    model = _model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    path = on_all_ranks(tempfile.mkdtemp())
    dcp.save({"optim": optimizer.state_dict()}, checkpoint_id=path)
    loaded = load_sharded_optimizer_state_dict(
        model.state_dict(), "optim", dcp.FileSystemReader(path)
    )
    state = loaded["optim"]["state"]
    for entries in state.values():
        for key, value in entries.items():
            if not isinstance(value, sharded_tensor.ShardedTensor):
                continue
            entries[key] = [
                (shard.metadata.shard_offsets, shard.tensor)
                for shard in value.local_shards()
            ]
    groups = [dict(sorted(group.items())) for group in loaded["optim"]["param_groups"]]
    return sorted(state.items()), groups


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(state_dict: Any) -> None:
        for key in path[:-1]:
            state_dict = state_dict[key]
        state_dict[path[-1]] = to

    return change


def _delete(*path: Any) -> Callable[[Any], None]:
    def change(state_dict: Any) -> None:
        for key in path[:-1]:
            state_dict = state_dict[key]
        del state_dict[path[-1]]

    return change


#: What each rank does; a case may return anything, also whether it fails.
CASES: dict[str, Callable[[], Any]] = {
    **{
        f"zero_life_{info.name}": (lambda info=info: _zero_life(info))
        for info in GROUPED
        if not info.only_supports_sparse_grads
    },
    "zero_life_as_view": lambda: _zero_life(ADAM, parameters_as_bucket_view=True),
    **{
        f"zero_reload_{name}": (lambda name=name: _zero_reload(INFOS[name]))
        for name in ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "LBFGS")
    },
    "zero_from_plain": _zero_from_plain,
    "zero_overlap": _overlap,
    **{
        f"zero_of_{name}": _constructor(make)
        for name, make in {
            "a_tensor_group": lambda p: [{"params": p}],
            "a_frozen_param": lambda p: [p, p.detach()],
            "an_iterator": lambda p: iter([p]),
            "a_generator_of_groups": lambda p: ({"params": [p]} for _ in range(1)),
            "a_tuple": lambda p: (p,),
            "a_set": lambda p: {p},
        }.items()
    },
    "post_local_sgd": _post_local_sgd,
    "post_local_sgd_without_step": _post_local_sgd_without_step,
    "named_optimizer": _named_optimizer,
    "named_optimizer_groups": _named_optimizer_groups,
    "in_backward": _in_backward,
    "sharded_optimizer": _sharded_optimizer,
    "sharded_load": _sharded_load,
}

#: Cases that raise an error, which has to be the release's.
ERRORS: dict[str, Callable[[], Any]] = {
    **{
        f"zero_of_{name}": _constructor(make)
        for name, make in {
            "nothing": lambda p: [],
            "one_tensor": lambda p: p,
            "a_number": lambda p: 1.5,
            "numbers": lambda p: [p, 42],
            "strings": lambda p: ["p"],
            "a_group_without_params": lambda p: [{"lr": 0.1}],
            "groups_and_tensors": lambda p: [{"params": [p]}, p],
            "a_set_in_a_group": lambda p: [{"params": {p}}],
            "numbers_in_a_group": lambda p: [{"params": [42]}],
            "one_param_in_two_groups": lambda p: [{"params": [p]}, {"params": [p]}],
            "types": lambda p: [p, torch.ones(2, dtype=torch.int)],
            "a_non_leaf": lambda p: [p * 2],
        }.items()
    },
    **{
        f"zero_adds_{name}": _added(make)
        for name, make in {
            "one_param_again": lambda p: {"params": [p]},
            "a_list": lambda p: [p],
            "a_number": lambda p: {"params": [1]},
            "a_group_without_params": lambda p: {"lr": 0.1},
            "names": lambda p: {"params": [("p", Parameter(torch.ones(1)))]},
        }.items()
    },
    **{
        f"zero_loads_{name}": _changed_load(change)
        for name, change in {
            "an_index_too_many": _set("state", 99, to={}),
            "a_group_less": _set("param_groups", to=[]),
            "a_param_less": _set("param_groups", 0, "params", to=[0]),
            "no_state": _delete("state"),
            "no_groups": _delete("param_groups"),
            "no_params": _delete("param_groups", 0, "params"),
            "a_number_as_groups": _set("param_groups", to=3),
            "a_key": _set("state", "key", to={}),
            "a_number": lambda state_dict: 3,
        }.items()
    },
    "zero_not_consolidated": _not_consolidated,
    **{
        f"named_optimizer_loads_{name}": _named_optimizer_loads(change)
        for name, change in {
            "an_option_less": _delete("param_groups", 0, "lr"),
            "another_option": _set("param_groups", 0, "more", to=1),
            "an_entry_less": _delete("state", "0.bias", "exp_avg"),
            "another_entry": _set("state", "0.bias", "more", to=1),
        }.items()
    },
    **{
        f"named_optimizer_adds_{name}": _named_optimizer_adds(make)
        for name, make in {
            "a_param_of_no_module": lambda p: {"params": [Parameter(torch.ones(1))]},
            "a_param_again": lambda p: {"params": p},
            "a_list": lambda p: [p],
        }.items()
    },
    "in_backward_of_a_number": _in_backward_of([1]),
    "in_backward_of_nothing_iterable": _in_backward_of(1),
}

CASES.update(ERRORS)

warnings.filterwarnings("ignore")
