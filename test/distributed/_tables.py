"""Embedding tables of which each rank owns some, with optimizers of its own.

A small model as recommenders have it: each table lives on one rank, whole, and has
its own kind of optimizer and options. What is over the tables is on all ranks.
Every rank gets the whole batch and the rows that were looked up elsewhere, so that
a run is the same, bit for bit, wherever the tables are.
"""

import copy
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn, Tensor
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn import functional
from torch.optim import Adagrad, AdamW, Optimizer, SGD


#: Rows of each table. Several are alike, so that nothing but a name tells them apart.
TABLES = {"ad": 12, "city": 12, "item": 20, "query": 12, "user": 20}
WIDTH = 4

#: The optimizer of each table, and its options.
OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, float]]] = {
    "ad": (Adagrad, {"lr": 0.1}),
    "city": (Adagrad, {"lr": 0.02}),
    "item": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "query": (Adagrad, {"lr": 0.1}),
    "user": (SGD, {"lr": 0.01, "momentum": 0.5}),
}

#: Which tables each rank has, for each number of ranks.
PLACEMENTS: dict[int, list[list[str]]] = {
    3: [["user", "city"], ["item"], ["ad", "query"]],
    2: [["query", "item"], ["city", "ad", "user"]],
    1: [["item", "ad", "user", "query", "city"]],
}

#: Steps before saving and after.
BEFORE, AFTER = range(3), range(3, 6)


def _generator(key: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(key.encode()))


class Model(nn.Module):
    """The tables of one rank, and the layer over all tables.

    Args:
        own (sequence of str): the tables of this rank.
    """

    def __init__(self, own: Sequence[str]) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(TABLES[name], WIDTH) for name in own}
        )
        self.over = nn.Linear(WIDTH * len(TABLES), 1)
        with torch.no_grad():
            for name, param in self.named_parameters():
                param.copy_(torch.randn(param.shape, generator=_generator(name)))

    def forward(self, ids: Mapping[str, Tensor]) -> Tensor:
        """Ids of shape (N,) for each table to logits of shape (N,)."""
        rows = {name: table(ids[name]) for name, table in self.tables.items()}
        found = _gather({name: value.detach() for name, value in rows.items()})
        everything = {**_union(found), **rows}
        return self.over(torch.cat([everything[n] for n in sorted(TABLES)], 1))[:, 0]


def _gather(value: Any) -> list[Any]:
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _union(parts: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    return {key: value for part in parts for key, value in part.items()}


def build(model: Model, *, fresh: bool = False) -> dict[str, Optimizer]:
    """Build one optimizer per kind for the tables, a group each, and one over them.

    Args:
        model (Model): of one rank.
        fresh (bool): whether their options are others, to be replaced by loading.

    Returns:
        dict: the optimizers, by what they are for.
    """

    def group(module: nn.Module, prefix: str, options: Mapping[str, float]) -> Any:
        if fresh:
            options = {**options, "lr": 0.9}
        return {"params": module.named_parameters(prefix=prefix), **options}

    optimizers: dict[str, Optimizer] = {}
    for kind in (SGD, Adagrad):
        groups = [
            group(table, f"tables.{name}", OPTIMIZERS[name][1])
            for name, table in model.tables.items()
            if OPTIMIZERS[name][0] is kind
        ]
        if groups:
            optimizers[kind.__name__] = kind(groups)
    optimizers["over"] = AdamW([group(model.over, "over", {"lr": 0.01})])
    return optimizers


def train(model: Model, optimizers: Mapping[str, Optimizer], steps: range) -> None:
    """Take steps with the batch of each step."""
    for step in steps:
        generator = _generator(f"step {step}")
        ids = {
            name: torch.randint(rows, (16,), generator=generator)
            for name, rows in TABLES.items()
        }
        clicked = torch.randint(2, (16,), generator=generator).float()
        loss = functional.binary_cross_entropy_with_logits(model(ids), clicked)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()


def own_state_dicts(optimizers: Mapping[str, Optimizer]) -> list[dict[str, Any]]:
    """The state dicts that this rank contributes: what all have, only rank 0 does."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    return [o.state_dict() for n, o in optimizers.items() if n != "over" or first]


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join state dicts by plain dict union, without any table of what is what."""
    return {
        "state": _union([part["state"] for part in parts]),
        "param_groups": [group for part in parts for group in part["param_groups"]],
    }


def gathered(parts: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The state dicts of all ranks, on each rank."""
    return [part for rank in _gather(parts) for part in rank]


def outcome(model: Model, optimizers: Mapping[str, Optimizer]) -> dict[str, Any]:
    """Values, state and options of all ranks' parameters, by name."""
    names = {param: name for name, param in model.named_parameters()}
    own = {
        names[param]: {
            "value": param.detach().clone(),
            "state": optimizer.state[param],
            "options": {k: v for k, v in group.items() if k[:5] != "param"},
        }
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for param in group["params"]
    }
    return dict(sorted(_union(_gather(own)).items()))


def train_and_save(rank: int, folder: str) -> dict[str, Any]:
    """Train, save the models and merged optimizers of all ranks, go on.

    They are saved twice: as one file, and as a distributed checkpoint, to which each
    rank adds its tables and the state of its optimizers.

    Returns:
        dict: the outcome of the run that never stopped.
    """
    model = Model(PLACEMENTS[dist.get_world_size()][rank])
    optimizers = build(model)
    train(model, optimizers, BEFORE)
    own = own_state_dicts(optimizers)
    everything = merged(gathered(own))
    saved = {"model": _union(_gather(model.state_dict())), "optimizer": everything}
    if rank == 0:
        torch.save(saved, f"{folder}/file")
    # DCP takes a list of groups apart, but a tuple as it is.
    groups = tuple(everything["param_groups"])
    state = {"state": merged(own)["state"], "param_groups": groups}
    saved = {"model": model.state_dict(), "optimizer": state}
    dcp.save(saved, checkpoint_id=f"{folder}/dcp")
    train(model, optimizers, AFTER)
    return outcome(model, optimizers)


def load_and_continue(rank: int, folder: str, way: str) -> dict[str, Any]:
    """Continue with the tables at another place.

    Args:
        rank (int): this one.
        folder (str): what :func:`train_and_save` got.
        way (str): "file" or "dcp".

    Returns:
        dict: the outcome, what each optimizer says of the merged state dict, and the
        state dicts as they are merged at the end.
    """
    own = PLACEMENTS[dist.get_world_size() if dist.is_initialized() else 1][rank]
    model = Model(own)
    optimizers = build(model, fresh=True)
    if way == "file":
        saved = torch.load(f"{folder}/file", weights_only=True)
    else:
        # It gives the optimizers state, so that there is something to load into.
        get_optimizer_state_dict(model, optimizers.values())
        parts = [optimizer.state_dict() for optimizer in optimizers.values()]
        state = {"state": merged(parts)["state"], "param_groups": ()}
        saved = copy.deepcopy({"model": model.state_dict(), "optimizer": state})
        dcp.load(saved, checkpoint_id=f"{folder}/dcp")
    # The tables of other ranks are in the file, too.
    model.load_state_dict({name: saved["model"][name] for name in model.state_dict()})
    said = {
        name: optimizer.load_state_dict(saved["optimizer"], strict=False)
        for name, optimizer in optimizers.items()
    }
    train(model, optimizers, AFTER)
    return {
        "outcome": outcome(model, optimizers),
        "said": {name: tuple(keys) for name, keys in said.items()},
        "again": merged(gathered(own_state_dicts(optimizers))),
    }


def continue_both_ways(rank: int, folder: str) -> dict[str, Any]:
    """What each way gives."""
    return {way: load_and_continue(rank, folder, way) for way in ("file", "dcp")}
