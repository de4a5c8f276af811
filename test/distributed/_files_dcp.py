"""Write optimizers to distributed checkpoints on two ranks, and read them on any number.

They are written here and in the unpatched release.
"""

from pathlib import Path
from typing import Any

from _distributed import in_processes

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _cases_dcp import build, LAYOUTS, train
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.optim import Optimizer


#: What is saved: state dicts with FQNs, flattened or not, or ``state_dict()`` itself.
FORMS = ("nested", "flattened", "raw")

#: What is read: the form, whether the optimizer that was saved has names, and whether
#: the one that loads has. It has another order, so that both need names to be matched
#: if FQNs were not saved.
READS = [
    (form, saved_named, named)
    for form in FORMS
    for saved_named in (True, False)
    for named in (True, False)
    if form != "raw" or (saved_named and named)
]

_FULL = StateDictOptions(full_state_dict=True)


def write_on_all_ranks(folder: str) -> None:
    """Write files for optimizers with names and without, in all forms."""
    in_processes(2, write, folder)


def write(rank: int, folder: str) -> None:
    for named in (True, False):
        target = Path(folder, str(named))
        model, (optimizer,) = build(LAYOUTS["two groups"], "FSDP2", named=named, lr=0.1)
        train(model, [optimizer], 3)
        for form in FORMS:
            saved = {"optimizer": _template(model, optimizer, form)}
            dcp.save(saved, checkpoint_id=target / form)
        weights = get_model_state_dict(model, options=_FULL)
        train(model, [optimizer], 2)
        expected = get_model_state_dict(model, options=_FULL)
        if rank == 0:
            rates = [group["lr"] for group in optimizer.param_groups]
            torch.save((weights, expected, rates), target / "run")


def read_all(rank: int, folders: dict[str, str]) -> dict[tuple, dict[str, Any]]:
    """Resume from all files, with optimizers in another order, and go on.

    Returns:
        dict: by writer, form, and whether the saved and the loading optimizer have
        names: what the parameters are some steps later, and what they should be.
    """
    found = {}
    for writer, folder in folders.items():
        for form, saved_named, named in READS:
            source = Path(folder, str(saved_named))
            found[writer, form, saved_named, named] = _read(source, form, writer, named)
    return found


def _read(source: Path, form: str, writer: str, named: bool) -> dict[str, Any]:
    wrapper = "FSDP2" if dist.get_world_size() > 1 else "plain"
    model, (optimizer,) = build(
        LAYOUTS["two groups"], wrapper, named=named, lr=0.7, backwards=True
    )
    weights, expected, rates = torch.load(source / "run")
    set_model_state_dict(model, weights, options=_FULL)
    path = source / form
    if form != "raw":
        template = _template(model, optimizer, form)
        dcp.load({"optimizer": template}, checkpoint_id=path)
        flattened = StateDictOptions(flatten_optimizer_state_dict=form == "flattened")
        set_optimizer_state_dict(model, optimizer, template, options=flattened)
    elif writer == "stock":
        load_annotated(model, optimizer, path)
    else:
        get_optimizer_state_dict(model, optimizer)
        template = optimizer.state_dict()
        dcp.load({"optimizer": template}, checkpoint_id=path)
        optimizer.load_state_dict(template)
    train(model, [optimizer], 2)
    return {
        "values": get_model_state_dict(model, options=_FULL),
        "expected": expected,
        "lr": [group["lr"] for group in optimizer.param_groups],
        "expected_lr": rates[::-1],
        "named": all("param_names" in group for group in optimizer.param_groups),
    }


def _template(model: nn.Module, optimizer: Optimizer, form: str) -> dict[str, Any]:
    if form == "raw":
        return optimizer.state_dict()
    flattened = StateDictOptions(flatten_optimizer_state_dict=form == "flattened")
    return get_optimizer_state_dict(model, optimizer, options=flattened)


def load_annotated(model: nn.Module, optimizer: Optimizer, path: Path) -> None:
    """Load what the release saved for a named optimizer, as the user guide says."""
    get_optimizer_state_dict(model, optimizer)  # which makes state where there is none
    own = optimizer.state_dict()
    groups = own["param_groups"]
    dcp.load({"optimizer": {"param_groups": groups}}, checkpoint_id=path)
    ids = {
        name: str(param_id)
        for group in groups
        for name, param_id in zip(group["param_names"], group["params"])
    }
    state = {ids[name]: entries for name, entries in own["state"].items()}
    dcp.load({"optimizer": {"state": state}}, checkpoint_id=path)
    state = {int(param_id): entries for param_id, entries in state.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
