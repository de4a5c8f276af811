"""Files of optimizers that this torch and the unpatched release exchange.

Each case saves an optimizer on two ranks, with names and without, and resumes from
what was saved, with the same program, which either torch runs.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from _distributed import in_processes

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from _cases_dcp import names_of, Net, train, WRAPPERS
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel as FSDP,
    StateDictType,
)
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import AdamW, Optimizer


PATCHED = hasattr(torch.optim, "_param_names")

_FULL = StateDictOptions(full_state_dict=True)


def with_indices(saved: dict[str, Any]) -> dict[str, Any]:
    """Do as the user guide does for releases without names."""
    ids = [param_id for group in saved["param_groups"] for param_id in group["params"]]
    index = {param_id: number for number, param_id in enumerate(ids)}
    return {
        "state": {index[key]: value for key, value in saved["state"].items()},
        "param_groups": [
            {**group, "params": [index[param_id] for param_id in group["params"]]}
            for group in saved["param_groups"]
        ],
    }


def _fsdp1(model: Net, use_orig_params: bool) -> nn.Module:
    kwargs = {"use_orig_params": use_orig_params, "device_id": torch.device("cpu")}
    model.block = FSDP(model.block, **kwargs)
    return FSDP(model, **kwargs)


_WRAPPERS: dict[str, Callable[[Any], nn.Module]] = {
    "plain": WRAPPERS["plain"],
    "DDP": WRAPPERS["DDP"],
    "FSDP2": WRAPPERS["FSDP2"],
    "FSDP1": lambda model: _fsdp1(model, True),
    "FSDP1_flat": lambda model: _fsdp1(model, False),
}


def build(wrapper: str, named: bool, lr: float) -> tuple[nn.Module, Optimizer]:
    """Build a model, always with the same values, and an optimizer with two groups."""
    torch.manual_seed(0)
    model = _WRAPPERS["DDP" if wrapper == "ZeRO" else wrapper](Net())
    pairs = list(model.named_parameters())
    first = [(name, param) for name, param in pairs if "block" in name]
    second = [(name, param) for name, param in pairs if "block" not in name]
    groups = [
        {"params": group if named else [param for _, param in group], "lr": rate}
        for group, rate in ((first, lr), (second, lr / 2))
    ]
    if wrapper == "ZeRO":
        return model, ZeroRedundancyOptimizer(groups, AdamW, lr=lr)
    return model, AdamW(groups, lr=lr)


# How an optimizer is saved, to a path, and how one is resumed from it.


def _dcp_template(model: nn.Module, optimizer: Optimizer, form: str) -> dict[str, Any]:
    options = StateDictOptions(
        flatten_optimizer_state_dict=form == "flattened", full_state_dict=form == "full"
    )
    return get_optimizer_state_dict(model, optimizer, options=options)


def _save_dcp(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    saved = _dcp_template(model, optimizer, form)
    if form == "full":
        _save_on_first_rank(saved, path)
    else:
        dcp.save({"optimizer": saved}, checkpoint_id=path)


def _load_dcp(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    if form == "full":
        saved, options = torch.load(path), _FULL
    else:
        saved = _dcp_template(model, optimizer, form)
        dcp.load({"optimizer": saved}, checkpoint_id=path)
        options = StateDictOptions(flatten_optimizer_state_dict=form == "flattened")
    set_optimizer_state_dict(model, optimizer, saved, options=options)


def _fsdp_template(model: nn.Module, optimizer: Optimizer, form: str) -> dict[str, Any]:
    if form == "full":
        FSDP.set_state_dict_type(
            model,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(),
            FullOptimStateDictConfig(rank0_only=False, offload_to_cpu=False),
        )
    else:
        FSDP.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT)
    return FSDP.optim_state_dict(model, optimizer)


def _save_fsdp(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    saved = _fsdp_template(model, optimizer, form)
    if form == "full":
        _save_on_first_rank(saved, path)
    else:
        dcp.save({"optimizer": saved}, checkpoint_id=path)


def _load_fsdp(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    get_optimizer_state_dict(model, optimizer)  # which makes state
    saved = _fsdp_template(model, optimizer, form)
    if form == "full":
        saved = torch.load(path)
    else:
        dcp.load({"optimizer": saved}, checkpoint_id=path)
    to_load = FSDP.optim_state_dict_to_load(model, optimizer, saved)
    optimizer.load_state_dict(to_load)


def _save_zero(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    optimizer.consolidate_state_dict(to=0)
    if dist.get_rank() == 0:
        saved = optimizer.state_dict()
        torch.save(with_indices(saved) if form == "indexed" else saved, path)
    dist.barrier()


def _load_zero(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    optimizer.load_state_dict(torch.load(path))


def _save_raw(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    saved = optimizer.state_dict()
    saved = with_indices(saved) if form == "indexed" else saved
    dcp.save({"optimizer": saved}, checkpoint_id=path)


def _load_raw(model: nn.Module, optimizer: Optimizer, form: str, path: Path) -> None:
    get_optimizer_state_dict(model, optimizer)  # which makes state
    saved = optimizer.state_dict()
    if form == "positions":
        saved = _load_by_position(with_indices(saved), path)
    else:
        saved = with_indices(saved) if form == "indexed" else saved
        dcp.load({"optimizer": saved}, checkpoint_id=path)
    optimizer.load_state_dict(saved)


def _load_by_position(own: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read what a named optimizer saved, on a release, as docs/compatibility.md says."""
    groups = own["param_groups"]
    dcp.load({"optimizer": {"param_groups": groups}}, checkpoint_id=path)
    names = [name for group in groups for name in group["params"]]
    state = {str(n): own["state"][i] for i, n in enumerate(names) if i in own["state"]}
    dcp.load({"optimizer": {"state": state}}, checkpoint_id=path)
    state = {name: state[str(name)] for name in names if str(name) in state}
    return {"state": state, "param_groups": groups}


def _save_on_first_rank(saved: dict[str, Any], path: Path) -> None:
    if dist.get_rank() == 0:
        torch.save(saved, path)
    dist.barrier()


class Case(NamedTuple):
    """An optimizer over a wrapped model that is saved and loaded in some way."""

    wrapper: str
    save: Callable[[nn.Module, Optimizer, str, Path], None]
    load: Callable[[nn.Module, Optimizer, str, Path], None]
    form: str


CASES: dict[str, Case] = {}
for _wrapper in _WRAPPERS:
    for _form in ("nested", "flattened", "full"):
        CASES[f"dcp_{_form}_{_wrapper}"] = Case(_wrapper, _save_dcp, _load_dcp, _form)
for _wrapper in ("FSDP1", "FSDP1_flat"):
    for _form in ("full", "sharded"):
        CASES[f"fsdp_{_form}_{_wrapper}"] = Case(
            _wrapper, _save_fsdp, _load_fsdp, _form
        )
for _form in ("own", "indexed"):
    CASES[f"zero_{_form}"] = Case("ZeRO", _save_zero, _load_zero, _form)
for _wrapper in ("plain", "FSDP2"):
    for _form in ("own", "indexed", "positions"):
        CASES[f"raw_{_form}_{_wrapper}"] = Case(_wrapper, _save_raw, _load_raw, _form)


def write(rank: int, folder: str) -> None:
    """Write the file of each case, with names and without."""
    for name, case in CASES.items():
        for named in (True, False):
            if not can_be_built(case, named):
                continue
            path = Path(folder, f"{name}_{named}")
            model, optimizer = build(case.wrapper, named, lr=0.1)
            train(model, [optimizer], 3)
            case.save(model, optimizer, case.form, path)
            weights = copy.deepcopy(get_model_state_dict(model, options=_FULL))
            train(model, [optimizer], 2)
            expected = get_model_state_dict(model, options=_FULL)
            if rank == 0:
                torch.save((weights, expected), f"{path}.run")
            dist.barrier()


#: What happened as a file was read: "resumed", with the rates and the names of the
#: optimizer; or "other values"; or the type and the message of an error.
Outcome = tuple[Any, ...]

#: By the writer, the case, and whether the saved and the loading optimizer have names.
Outcomes = dict[tuple[str, str, bool, bool], Outcome]


def read(rank: int, folders: dict[str, str]) -> Outcomes:
    """Resume from all files, and go on."""
    return {
        (writer, name, saved_named, named): _read(case, path, named)
        for writer, folder in folders.items()
        for name, case in CASES.items()
        for saved_named in (True, False)
        if (path := Path(folder, f"{name}_{saved_named}")).exists()
        for named in (True, False)
        if can_be_built(case, named)
    }


def can_be_built(case: Case, named: bool) -> bool:
    """Whether this torch takes names there: the release's ZeRO does not."""
    return PATCHED or not named or case.wrapper != "ZeRO"


def _read(case: Case, path: Path, named: bool) -> Outcome:
    model, optimizer = build(case.wrapper, named, lr=0.7)
    weights, expected = torch.load(f"{path}.run")
    set_model_state_dict(model, weights, options=_FULL)
    try:
        case.load(model, optimizer, case.form, path)
    except dcp.CheckpointException as failed:
        error, _ = failed.failures[0]
        return type(error).__name__, str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    rates = [group["lr"] for group in optimizer.param_groups]
    train(model, [optimizer], 2)
    values = get_model_state_dict(model, options=_FULL)
    if any(not torch.equal(values[name], expected[name]) for name in expected):
        return ("other values",)
    return "resumed", rates, names_of(optimizer)


def write_on_all_ranks(folder: str) -> None:
    """Write all files into a folder."""
    in_processes(2, write, folder)


def read_on_all_ranks(folders: dict[str, str]) -> list[Outcomes]:
    """Resume from all files in some folders."""
    return in_processes(2, read, folders)
