"""State dicts of every optimizer, damaged in random but reproducible ways."""

import math
import random
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _describe import describe
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import optim_db, OptimizerInfo


KINDS = ("named", "annotated", "indexed")

_SHAPES = {"fc.weight": (3, 2), "head.weight": (3, 2), "out.weight": (2, 3)}


def make_optimizer(info: OptimizerInfo, *, named: bool, groups: int = 1) -> Optimizer:
    """An optimizer of three matrices in one or two groups, after two steps."""
    params = {
        name: Parameter(torch.arange(6.0).reshape(shape) / 7 - len(name) / 20)
        for name, shape in _SHAPES.items()
    }
    items = list(params.items()) if named else list(params.values())
    parts = [items] if groups == 1 else [items[:2], items[2:]]
    options = {"momentum": 0.9} if info.name == "SGD" else {}
    if info.name == "LBFGS":
        options = {"max_iter": 2, "history_size": 3}
    optimizer = info.optim_cls([{"params": part} for part in parts], **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.stack([(p**2).sum() for p in params.values()]).sum()
        loss.backward()
        return loss

    for _ in range(2):
        if info.step_requires_closure:
            optimizer.step(closure)
            continue
        for param in params.values():
            grad = param.detach() * 0.3 + 0.1
            param.grad = grad.to_sparse() if info.only_supports_sparse_grads else grad
        optimizer.step()
    return optimizer


def as_kind(state_dict: dict[str, Any], kind: str) -> dict[str, Any]:
    """A state dict with names as one of another kind."""
    if kind == "named":
        return state_dict
    names = [name for group in state_dict["param_groups"] for name in group["params"]]
    groups = []
    for group in state_dict["param_groups"]:
        group = {**group, "params": [names.index(name) for name in group["params"]]}
        if kind == "indexed":
            del group["param_names"]
        groups.append(group)
    state = {names.index(name): s for name, s in state_dict["state"].items()}
    return {"state": state, "param_groups": groups}


def cases(
    seed: int, number: int, *, named: bool
) -> Iterator[tuple[Optimizer, dict[str, Any], str]]:
    """Optimizers, and damaged state dicts for them.

    Args:
        seed (int): each one gives other cases.
        number (int): how many.
        named (bool): whether the optimizers have names.

    Yields:
        tuple: an optimizer, which is used for several cases; a state dict; and
        what was done to it.
    """
    rng = random.Random(seed)
    pool = []
    for info in optim_db:
        for groups in (1, 2) if info.supports_param_groups else (1,):
            if named:
                optimizer = make_optimizer(info, named=True, groups=groups)
                files = {kind: as_kind(optimizer.state_dict(), kind) for kind in KINDS}
            else:
                optimizer = make_optimizer(info, named=False, groups=groups)
                files = {"indexed": optimizer.state_dict()}
            pool += [(info, optimizer, kind, file) for kind, file in files.items()]
    for _ in range(number):
        info, optimizer, kind, file = rng.choice(pool)
        damaged = _copy(file)
        done = [_damage(rng, damaged) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if rng.random() < 0.01:
            damaged = rng.choice((None, 3, "state", [], {}, {"state": {}}))
            done = [f"is {damaged!r}"]
        yield optimizer, damaged, f"{info.name}, {kind}: {'; '.join(done)}"


def _copy(value: Any) -> Any:
    """A copy of the containers; what is in them may be shared."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value


def _place(rng: random.Random, file: Any) -> tuple[Any, Any, list[Any]]:
    """A random item of a random container: the container, the key, the path to it."""
    holder, path = file, []
    for _ in range(rng.randint(1, 5)):
        inside = holder[path[-1]] if path else file
        if type(inside) not in (dict, list) or not inside:
            break
        holder = inside
        path.append(
            rng.choice([*inside] if type(inside) is dict else range(len(inside)))
        )
    return holder, path[-1], path


def _damage(rng: random.Random, file: dict[str, Any]) -> str:
    """Damage one place of a state dict, and say how."""
    if not file:
        return "has nothing left to damage"
    holder, key, path = _place(rng, file)
    how = rng.choice(
        (
            "delete",
            "replace",
            "replace",
            "replace",
            "rename",
            "truncate",
            "duplicate",
            "collide",
            "nest",
            "cycle",
        )
    )
    where = "/".join(map(str, path))
    value = holder[key]
    if how == "delete":
        del holder[key]
    elif how == "replace":
        holder[key], what = _replacement(rng, value)
        return f"{where} is {what}"
    elif how == "rename" and isinstance(holder, dict):
        new = rng.choice((7, "other", None, (1, 2), "fc.weight", "params", 1.5, b"x"))
        holder[new] = holder.pop(key)
        return f"{where} is under {new!r}"
    elif how == "truncate" and isinstance(value, (list, dict)) and value:
        holder[key] = value[:-1] if isinstance(value, list) else {}
    elif how == "duplicate" and type(holder) is list:
        holder.append(value)
    elif how == "collide" and isinstance(file.get("state"), dict):
        name = rng.choice([*_SHAPES, 0, 1, "custom"])
        file["state"].setdefault(name, {"step": 1})
        return f"state has an entry {name!r}"
    elif how == "nest":
        deep: Any = value
        # Mostly not beyond what can be copied, since that takes long.
        for _ in range(rng.choice((3, 3, 3, 1200))):
            deep = {"x": deep} if rng.random() < 0.5 else [deep]
        holder[key] = deep
        return f"{where} is nested deeply"
    elif how == "cycle" and isinstance(value, (list, dict)):
        holder[key] = file
        return f"{where} is the whole state dict"
    else:
        holder[key], what = _replacement(rng, value)
        return f"{where} is {what}"
    return f"{where}: {how}"


def _replacement(rng: random.Random, value: Any) -> tuple[Any, str]:
    more = _TENSORS if isinstance(value, torch.Tensor) else []
    make, what = rng.choice(_VALUES + _TENSORS + more)
    return make(), what


_VALUES: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "None"),
    (lambda: 3, "3"),
    (lambda: -1.5, "-1.5"),
    (lambda: math.nan, "nan"),
    (lambda: math.inf, "inf"),
    (lambda: "text", "a str"),
    (lambda: b"bytes", "bytes"),
    (list, "an empty list"),
    (dict, "an empty dict"),
    (tuple, "an empty tuple"),
    (lambda: [[]], "a list with a list"),
    (lambda: True, "True"),
    (lambda: 2**70, "a huge int"),
    (lambda: {1, 2}, "a set"),
    (lambda: object, "a type"),
]

_TENSORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: torch.ones(3, 2), "a Tensor"),
    (lambda: torch.ones(5), "a Tensor of another shape"),
    (lambda: torch.ones(()), "a Tensor without dimensions"),
    (lambda: torch.empty(0), "an empty Tensor"),
    (lambda: torch.ones(3, 2, dtype=torch.int64), "a Tensor of int64"),
    (lambda: torch.ones(3, 2, dtype=torch.bool), "a Tensor of bool"),
    (lambda: torch.ones(3, 2, dtype=torch.complex64), "a complex Tensor"),
    (lambda: torch.ones(3, 2, device="meta"), "a meta Tensor"),
    (lambda: torch.eye(3, 2).to_sparse(), "a sparse Tensor"),
    (lambda: torch.full((3, 2), math.nan), "a Tensor of nan"),
]


def answers(seed: int, number: int) -> list[tuple[str, str]]:
    """What unnamed optimizers answer to damaged state dicts.

    Returns:
        list of tuple: what was done to the state dict; and the type of the error, or a
        digest of what the optimizer holds afterwards.
    """
    found = []
    for optimizer, file, done in cases(seed, number, named=False):
        before = vars(optimizer).copy()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer.load_state_dict(file)
        except Exception as error:
            answer = type(error).__name__
        else:
            try:
                held = repr(describe([optimizer.state, optimizer.param_groups]))
                # The release makes a str in state the repr() of a generator.
                held = re.sub(r"0x[0-9a-f]+", "", held)
                answer = str(zlib.crc32(held.encode()))
            except RecursionError:
                answer = "loaded what nests too deeply to be described"
        vars(optimizer).clear()
        vars(optimizer).update(before)
        found.append((done, answer))
    return found
