"""What one interpreter's torch does with one package's optimizer classes.

    python worker.py PACKAGE FILE

runs every check on every class of a package and writes the results, as plain
values that an interpreter with another torch can read, to a file.
"""

import io
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "optim"))

import torch
from _describe import describe, difference
from catalog import cases, version
from training import AFTER, BEFORE, Case, Form, Run, resume, start, state_dicts


def check(case: Case, patched: bool) -> dict[str, Any]:
    """Run all checks on a class.

    Args:
        case (Case): the class.
        patched (bool): whether torch reads names from a mapping, too.

    Returns:
        dict: by the name of the check, a pair of whether it could be run, and the
        result or the text of the error. See the functions for the results.
    """
    results = {
        "unnamed": _attempt(_unnamed, case),
        "round trip": _attempt(_round_trip, case, "tensors", False),
        "order": _attempt(_other_order, case),
    }
    forms: list[Form] = ["pairs", "mapping"] if patched else ["pairs"]
    for form in forms:
        results[f"{form}: keys"] = _attempt(_keys, case, form)
        results[f"{form}: same order"] = _attempt(_round_trip, case, form, False)
        if patched:
            results[f"{form}: shuffled"] = _attempt(_round_trip, case, form, True)
            results[f"{form}: aligned"] = _attempt(_round_trip, case, form, True, True)
            results[f"{form}: assigned"] = _attempt(_assigned, case, form)
    return results


def _attempt(check: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
    torch.manual_seed(0)
    try:
        return True, check(*args)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, {last.name}"
        return False, f"{type(error).__name__}: {error} ({where})"


def _unnamed(case: Case) -> Any:
    """What an unnamed optimizer computes and saves, described exactly."""
    run = start(case, "tensors")
    run.train(BEFORE)
    saved = describe(_opened(run.optimizer.state_dict()))
    run.train(AFTER)
    return describe(run.values()), saved, describe(_opened(run.optimizer.state_dict()))


def _other_order(case: Case) -> str | None:
    """What is different if the parameters come in another order; None if nothing."""
    shuffled = start(case, "tensors", shuffled=True)
    return _apart(_trained(start(case, "tensors")), _trained(shuffled))


def _trained(run: Run) -> dict[str, torch.Tensor]:
    run.train(BEFORE)
    run.train(AFTER)
    return run.values()


def _keys(case: Case, form: Form) -> dict[str, Any]:
    """How a named optimizer's state dict is keyed, and whether it computes alike."""
    run, plain = start(case, form), start(case, "tensors")
    for each in (run, plain):
        each.train(BEFORE)
    names = dict(run.model.named_parameters())
    # Some have more than one, and some of these are for tensors of their own.
    found = [
        state_dict
        for state_dict in state_dicts(run.optimizer.state_dict())
        if names.keys() & set(_listed(state_dict))
    ]
    keys = {key for state_dict in found for key in state_dict["state"]}
    return {
        "named": bool(found)
        and all(isinstance(p, str) for each in found for p in _listed(each))
        and not any(isinstance(key, int) for key in keys),
        "stateless": not keys & names.keys(),
        "computes": _apart(run.values(), plain.values()),
    }


def _listed(state_dict: Mapping[str, Any]) -> list[Any]:
    return [param for group in state_dict["param_groups"] for param in group["params"]]


def _round_trip(
    case: Case, form: Form, shuffled: bool, aligned: bool = False
) -> str | None:
    """How a resumed run ends apart from one that goes on; None if it does not."""
    run = start(case, form)
    run.train(BEFORE)
    checkpoint = run.checkpoint()
    run.train(AFTER)
    resumed = resume(case, form, checkpoint, shuffled=shuffled, aligned=aligned)
    resumed.train(AFTER)
    return _apart(run.values(), resumed.values())


def _assigned(case: Case, form: Form) -> str | None:
    """How what was loaded in another order differs, by name, from what was saved."""
    run = start(case, form)
    run.train(BEFORE)
    file = io.BytesIO(run.checkpoint())
    saved = torch.load(file, weights_only=False)[1]
    loaded = resume(case, form, run.checkpoint(), shuffled=True).optimizer.state_dict()
    return difference(describe(_by_name(saved)), describe(_by_name(loaded)))


def _apart(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]
) -> str | None:
    """How far values are apart; None if every bit is the same."""
    different = [n for n in first if describe(first[n]) != describe(second[n])]
    if not different:
        return None
    scale = max(float(value.abs().max()) for value in first.values())
    distance = max(float((first[n] - second[n]).abs().max()) for n in different)
    return f"{distance / scale:.0e} in {len(different)} of {len(first)} parameters"


def _by_name(value: Any) -> Any:
    """A state dict without the order of parameters in what is keyed by name."""
    value = _opened(value)
    for state_dict in state_dicts(value):
        state_dict["state"] = dict(sorted(state_dict["state"].items(), key=repr))
        for group in state_dict["param_groups"]:
            for key in ("params", "param_names"):
                if key in group:
                    group[key] = sorted(group[key], key=str)
    return value


def _opened(value: Any) -> Any:
    """A value in which objects of other packages are replaced by what they hold."""
    if isinstance(value, torch.Tensor):
        if not hasattr(value, "__tensor_flatten__"):
            return value
        names, context = value.__tensor_flatten__()
        inner = {name: _opened(getattr(value, name)) for name in names}
        return {"type": type(value).__name__, **inner, "context": repr(context)}
    if isinstance(value, Mapping):
        return {_opened_key(key): _opened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_opened(item) for item in value]
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return {"type": type(value).__name__, **_opened(vars(value))}
    return value


def _opened_key(key: Any) -> Any:
    # Keys have to stay hashable.
    return f"tensor of {tuple(key.shape)}" if isinstance(key, torch.Tensor) else key


def main(package: str, file: str) -> None:
    """Run a package's checks and write the results."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    patched = hasattr(torch.optim, "rename_parameters")
    results = {
        "torch": str(torch.__version__),
        "patched": patched,
        "version": version(package),
        "classes": {case.name: check(case, patched) for case in cases(package)},
    }
    Path(file).write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
