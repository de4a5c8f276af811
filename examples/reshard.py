"""Save over four processes, continue over two and over one.

Two models are trained over four processes (on gloo, on the CPU):

* a network that FSDP2 shards, each parameter over all processes;
* embedding tables, each of which lives whole on one process, with an optimizer
  of its own kind and learning rate.

Halfway they are saved. Then everything is arranged anew: fewer processes; the
layers and param groups of the network in alphabetical order, in one optimizer or
in two; the tables on other processes. No table says which parameter was where. The
state dicts have names, so that those of several optimizers are joined by plain dict
union, and each optimizer takes its part out of the whole.

Every process gets the whole batch, gradients are computed in float32 and summed in
float64. So their averages are exact, and all runs should end with the same
parameters, bit for bit, as the run that never stopped. The exit status is 0 if they
do, and 1 if not.
"""

import copy
import os
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional
from torch.optim import SGD, Adagrad, AdamW, Optimizer


#: The steps before saving, and those after.
BEFORE, AFTER = range(8), range(8, 16)

StateDict = dict[str, Any]

#: Values by the names of parameters.
Values = dict[str, Tensor]


# ---- Names do it all ---------------------------------------------------------


def merge(state_dicts: Iterable[Mapping[str, Any]]) -> StateDict:
    """Join the state dicts of optimizers over different parameters.

    Param groups become a tuple: a distributed checkpoint takes a list of them apart
    by position, and then finds only as many as there were, but stores a tuple as it
    is.
    """
    state: dict[Any, Any] = {}
    groups: tuple[Any, ...] = ()
    for part in state_dicts:
        state |= part["state"]
        groups += tuple(part["param_groups"])
    return {"state": state, "param_groups": groups}


def target(model: nn.Module, optimizers: Sequence[Optimizer]) -> StateDict:
    """Make what a distributed checkpoint is read into.

    It is a copy, so that the optimizers stay as they are if the checkpoint turns out
    to be damaged.
    """
    # An optimizer has no state before its first step; this call creates it.
    get_optimizer_state_dict(model, optimizers)
    own = merge(optimizer.state_dict() for optimizer in optimizers)
    return copy.deepcopy({"model": model.state_dict(), "optimizer": own})


def load(model: nn.Module, optimizers: Sequence[Optimizer], checkpoint: Path) -> None:
    """Load a model, and into each of its optimizers what is its own."""
    saved = target(model, optimizers)
    dcp.load(saved, checkpoint_id=checkpoint)
    model.load_state_dict(saved["model"])
    # Of what several optimizers share, each takes what it has.
    how = {"strict": False} if len(optimizers) > 1 else {}
    for optimizer in optimizers:
        optimizer.load_state_dict(saved["optimizer"], **how)


# ---- A network that is sharded -----------------------------------------------


class Network(nn.Module):
    """Two gates between two layers.

    Args:
        layers (sequence of str): the order in which the inner layers are
            registered. It makes no difference to what is computed.
    """

    def __init__(self, layers: Sequence[str] = ("query", "key", "value")) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        for layer in layers:
            self.add_module(layer, nn.Linear(16, 16))
        self.head = nn.Linear(16, 1)
        fill(self)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs of shape (N, 8) to outputs of shape (N, 1)."""
        x = torch.tanh(self.stem(x))
        gates = torch.sigmoid(self.query(x)) * torch.tanh(self.key(x))
        return self.head(gates * self.value(x))


def fill(model: nn.Module) -> None:
    """Give each parameter values that depend on its name only."""
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.copy_(numbers(name, param.shape) / 3)


def numbers(key: str, shape: Iterable[int]) -> Tensor:
    """Random numbers that are the same on each process."""
    return torch.randn(tuple(shape), generator=generator(key))


def generator(key: str) -> torch.Generator:
    """Make a generator that is the same on each process."""
    return torch.Generator().manual_seed(zlib.crc32(key.encode()))


def shard(model: nn.Module) -> nn.Module:
    """Shard a model over all processes."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    exact = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float64)
    return fully_shard(model.double(), mesh=mesh, mp_policy=exact)


def network_optimizers(network: nn.Module, number: int = 1) -> list[Optimizer]:
    """One optimizer with two param groups, or two with one each."""
    fast = [(n, p) for n, p in network.named_parameters() if n[0] in "qk"]
    slow = [(n, p) for n, p in network.named_parameters() if n[0] not in "qk"]
    groups = [{"params": fast, "lr": 3e-2}, {"params": slow, "lr": 5e-3}]
    if number == 1:
        return [AdamW(groups)]
    return [AdamW([group]) for group in groups]


def train_network(
    network: nn.Module, optimizers: Sequence[Optimizer], steps: range
) -> None:
    """Take steps with the batch of each step."""
    for step in steps:
        x = numbers(f"x {step}", (32, 8))
        loss = ((network(x) - torch.sin(x.sum(1, keepdim=True))) ** 2).mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def network_values(network: nn.Module) -> Values:
    """The parameters, put together from all processes."""
    return {name: p.full_tensor() for name, p in network.named_parameters()}  # type: ignore[operator]


# ---- Tables, each on one process ---------------------------------------------

#: The optimizer of each table, and its learning rate.
TABLES: dict[str, tuple[type[Optimizer], float]] = {
    "ad": (Adagrad, 0.1),
    "city": (Adagrad, 0.02),
    "item": (SGD, 0.05),
    "query": (Adagrad, 0.1),
    "user": (SGD, 0.01),
}

#: The tables of each process, by the number of processes.
PLACEMENTS = {
    4: [["user", "city"], ["item"], ["ad"], ["query"]],
    2: [["query", "item"], ["city", "ad", "user"]],
    1: [["item", "ad", "user", "query", "city"]],
}


class Tables(nn.ModuleDict):
    """The tables of this process. A prediction is the sum over all tables."""

    def __init__(self) -> None:
        own = PLACEMENTS[dist.get_world_size()][dist.get_rank()]
        super().__init__({name: nn.Embedding(10, 4) for name in own})
        fill(self)

    def forward(self, ids: Mapping[str, Tensor]) -> Tensor:
        """Ids of shape (N,) for each table to predictions of shape (N,)."""
        rows = {name: table(ids[name]) for name, table in self.items()}
        others = gather({name: row.detach() for name, row in rows.items()})
        rows = {**{n: row for part in others for n, row in part.items()}, **rows}
        return torch.stack([rows[name].sum(1) for name in TABLES]).sum(0)


def gather(value: Any) -> list[Any]:
    """The values of all processes, on each of them."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def table_optimizers(tables: Tables) -> list[Optimizer]:
    """One optimizer of each kind that the tables of this process need."""
    optimizers: list[Optimizer] = []
    for kind, options in ((Adagrad, {}), (SGD, {"momentum": 0.9})):
        groups = [
            {"params": table.named_parameters(prefix=name), "lr": TABLES[name][1]}
            for name, table in tables.items()
            if TABLES[name][0] is kind
        ]
        if groups:
            optimizers.append(kind(groups, **options))
    return optimizers


def train_tables(tables: Tables, optimizers: Sequence[Optimizer], steps: range) -> None:
    """Take steps with the batch of each step."""
    for step in steps:
        batch = generator(f"batch {step}")
        ids = {name: torch.randint(10, (32,), generator=batch) for name in TABLES}
        clicked = torch.randint(2, (32,), generator=batch).float()
        functional.binary_cross_entropy_with_logits(tables(ids), clicked).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def table_values(tables: Tables) -> Values:
    """The parameters of all processes."""
    return {n: v for part in gather(tables.state_dict()) for n, v in part.items()}


# ---- What each process does --------------------------------------------------


def train_and_save(folder: Path) -> dict[str, Any]:
    """Train both models, save them, and go on."""
    network = shard(Network())
    optimizers = network_optimizers(network)
    train_network(network, optimizers, BEFORE)
    saved = {"model": network.state_dict()}
    saved["optimizer"] = merge(optimizer.state_dict() for optimizer in optimizers)
    dcp.save(saved, checkpoint_id=folder / "network")
    train_network(network, optimizers, AFTER)

    tables = Tables()
    optimizers = table_optimizers(tables)
    train_tables(tables, optimizers, BEFORE)
    own = [optimizer.state_dict() for optimizer in optimizers]
    everything = merge(part for parts in gather(own) for part in parts)
    values = table_values(tables)
    if dist.get_rank() == 0:
        torch.save({"model": values, "optimizer": everything}, folder / "tables.pt")
    # All processes are done with what is referred to.
    dist.barrier()
    train_tables(tables, optimizers, AFTER)
    return {
        "network": network_values(network),
        "tables": table_values(tables),
        "merged": len(everything["state"]),
    }


def load_and_continue(folder: Path) -> dict[str, Any]:
    """Load both models, arranged otherwise, and go on.

    Returns:
        dict: for each model, the values at the end, or why it could not be loaded.
    """

    def result(run: Callable[[], Values]) -> Values | str:
        try:
            return run()
        # The error of a distributed checkpoint is no Exception.
        except BaseException as error:
            return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"

    def continue_network() -> Values:
        network = shard(Network(layers=("key", "query", "value")))
        # Two optimizers on one process, one on two.
        number = 3 - dist.get_world_size()
        optimizers = network_optimizers(network, number)
        load(network, optimizers, folder / "network")
        train_network(network, optimizers, AFTER)
        return network_values(network)

    def continue_tables() -> Values:
        tables = Tables()
        optimizers = table_optimizers(tables)
        saved = torch.load(folder / "tables.pt", weights_only=True)
        tables.load_state_dict(
            {name: saved["model"][name] for name in tables.state_dict()}
        )
        for optimizer in optimizers:
            optimizer.load_state_dict(saved["optimizer"], strict=False)
        train_tables(tables, optimizers, AFTER)
        return table_values(tables)

    return {"network": result(continue_network), "tables": result(continue_tables)}


def in_processes(
    number: int, body: Callable[[Path], dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Run a function in several processes that form a group.

    Returns:
        dict: what it returned on the first of them.
    """
    torch.multiprocessing.spawn(_run, (number, body, folder), nprocs=number)
    return torch.load(folder / f"{body.__name__}-{number}.pt", weights_only=True)


def _run(
    rank: int, number: int, body: Callable[[Path], dict[str, Any]], folder: Path
) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store-{number}",
        rank=rank,
        world_size=number,
        timeout=timedelta(seconds=60),
    )
    found = body(folder)
    if rank == 0:
        torch.save(found, folder / f"{body.__name__}-{number}.pt")
    dist.barrier()
    dist.destroy_process_group()
    # While the interpreter shuts down, threads of gloo may still drop tensors, which
    # now and then ends the process by SIGABRT.
    os._exit(0)


# ---- What came of it ---------------------------------------------------------


def verdict(straight: Values, found: Values | str) -> str | None:
    """Say what is wrong with a run; None if nothing is."""
    if isinstance(found, str):
        return f"NOT LOADED: {found}"
    different = [n for n, value in straight.items() if not torch.equal(value, found[n])]
    if not different:
        return None
    return f"{len(different)} of {len(straight)} parameters DIFFER"


def main() -> int:
    """Run the experiment.

    Returns:
        int: the exit status.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"torch {torch.__version__}: training over 4 processes, and saving")
        straight = in_processes(4, train_and_save, folder)
        tables = len(TABLES)
        merged = f"{straight['merged']} of {tables} parameters"
        print(f"tables: the merged state dict has the state of {merged}")
        failures = int(straight["merged"] != tables)
        arranged = {
            2: "layers and groups in another order",
            1: "and one optimizer split into two",
        }
        for number, how in arranged.items():
            found = in_processes(number, load_and_continue, folder)
            for model, what in (("network", how), ("tables", "placed otherwise")):
                problem = verdict(straight[model], found[model])
                failures += problem is not None
                processes = f"{number} process{'es' if number > 1 else ''}"
                print(f"{model} over {processes}, {what}:")
                print(f"    {problem or 'ends equal, bit for bit'}")
    print("SOME RUNS DID NOT RESUME" if failures else "All runs resumed.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
