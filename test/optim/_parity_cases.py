"""What optimizers without names do, case by case, in any torch.

So that two interpreters can be compared. See test_unnamed_parity.py.
"""

import copy
import pickle
import pickletools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from _common import (
    all_inputs,
    build,
    in_groups,
    make_params,
    params_for,
    train,
    without_names,
)
from _describe import describe
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    OptimizerInput,
    optim_db,
)


#: What happens in each case, by the case's name.
Results = dict[str, Any]


def results() -> Results:
    """Run all cases.

    Returns:
        dict: a description of what each case returned or raised, by the case's
        name, which begins with that of its optimizer.
    """
    found = {}
    for info in optim_db:
        for name, case in _cases(info):
            key = f"{info.name}: {name}"
            if key in found:
                raise AssertionError(f"two cases are named {key!r}")
            found[key] = _outcome(case)
    return found


def _outcome(case: Callable[[], Any]) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = case()
            if isinstance(result, Iterator):
                result = list(map(describe, result))
            else:
                result = describe(result)
        except Exception as error:
            result = ("raised", type(error).__name__, str(error))
    # Without those of C++ code, which come once in the life of a process.
    warned = [(w.category.__name__, str(w.message)) for w in caught]
    return result, [pair for pair in warned if "Triggered internally" not in pair[1]]


def _cases(info: OptimizerInfo) -> Iterator[tuple[str, Callable[[], Any]]]:
    inputs = all_inputs(info, "cpu", torch.float32)
    lives = [(inputs[0], False)]
    if info.supports_param_groups:
        lives += [(optim_input, True) for optim_input in inputs]
    else:
        lives += [(optim_input, False) for optim_input in inputs[1:]]
    for optim_input, grouped in lives:
        where = f"{optim_input.desc}, {'groups' if grouped else 'one group'}"
        start = partial(_start, info, optim_input, grouped)
        yield f"life, {where}", partial(_life, info, start)
    yield "pickle", partial(_pickle, info, start)
    for name, given in _constructor_inputs(info):
        yield f"constructor, {name}", lambda g=given: build(info, g()).state_dict()
    for name, group in _added_groups():
        yield f"add_param_group, {name}", lambda g=group: _added(info, g())
    for name, change in _CHANGES.items():
        yield f"load, {name}", lambda c=change: _changed_load(info, c)
    for name, misuse in _MISUSES.items():
        yield f"misuse, {name}", lambda m=misuse: m(info)


def _start(
    info: OptimizerInfo, optim_input: OptimizerInput, grouped: bool
) -> tuple[Optimizer, dict[str, Parameter]]:
    params = params_for(info, optim_input, "cpu", torch.float32)
    if grouped:
        given = without_names(in_groups(info, params))
    else:
        given = iter(params.values())
    return build(info, given, optim_input), params


def _life(info: OptimizerInfo, start: Callable[[], Any]) -> Iterator[Any]:
    """From construction through steps, copies and loads."""
    optimizer, params = start()
    yield vars(optimizer), repr(optimizer), optimizer.state_dict()
    train(info, optimizer, params, range(2))
    state_dict = optimizer.state_dict()
    yield state_dict, list(params.values()), repr(optimizer)

    yield optimizer.__getstate__()
    for twin in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        twin.load_state_dict(state_dict)
        yield vars(twin)

    # As it comes from a file, since the optimizer goes on.
    state_dict = copy.deepcopy(state_dict)
    other, other_params = start()
    train(info, other, other_params, range(5, 6))
    other.load_state_dict(state_dict)
    yield other.state_dict(), other.param_groups
    train(info, other, other_params, range(2, 4))
    yield vars(other), state_dict

    names = iter(params)
    for group in state_dict["param_groups"]:
        own = [next(names) for _ in group["params"]]
        # Where releases since 2.6 have it.
        options = {k: v for k, v in group.items() if k != "params"}
        given = group["params"]
        group.clear()
        group.update({"param_names": own, **options, "params": given})
    optimizer.load_state_dict(state_dict)
    yield optimizer.param_groups, list(optimizer.state.values())
    optimizer.zero_grad()
    yield vars(optimizer)


def _pickle(info: OptimizerInfo, start: Callable[[], Any]) -> Any:
    """What is pickled, without the bytes of storages, which hold addresses."""
    optimizer, params = start()
    train(info, optimizer, params, range(2))
    return [
        (operation.name, argument)
        for operation, argument, _ in pickletools.genops(pickle.dumps(optimizer))
        if isinstance(argument, (str, int, float, type(None)))
    ]


def _param() -> Parameter:
    return Parameter(torch.ones(2, 3))


def _constructor_inputs(
    info: OptimizerInfo,
) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "a tensor", _param
    yield "nothing", list
    yield "a generator", lambda: (p for p in [_param(), _param()])
    yield "a dict view", lambda: {"a": _param()}.values()
    yield "a tuple", lambda: (_param(), _param())
    yield "numbers", lambda: [1, 2]
    yield "a tensor and a number", lambda: [_param(), 3]
    yield "strings", lambda: ["a", "b"]
    yield "a string", lambda: "ab"
    yield "None", lambda: None
    yield "a number", lambda: 3
    yield "a non-leaf", lambda: [_param() * 2]
    yield "a set in a group", lambda: [{"params": {_param()}}]
    yield "a tensor in a group", lambda: [{"params": _param()}]
    yield "a number in a group", lambda: [{"params": 3}]
    yield "numbers in a group", lambda: [{"params": [1]}]
    yield "None in a group", lambda: [{"params": None}]
    yield "no params in a group", lambda: [{"lr": 0.1}]
    yield "an empty group", lambda: [{"params": []}]
    yield "empty groups", lambda: [{"params": []}, {"params": [_param()]}]
    yield "a group, then a tensor", lambda: [{"params": [_param()]}, _param()]
    yield "a tensor, then a group", lambda: [_param(), {"params": [_param()]}]
    yield "unknown options", lambda: [{"params": [_param()], "mine": [1, 2]}]
    yield "one that needs no gradient", lambda: [torch.ones(2, 3)]

    def twice() -> Any:
        param = _param()
        return [param, param]

    def in_two_groups() -> Any:
        param = _param()
        return [{"params": [param]}, {"params": [_param(), param]}]

    yield "a parameter twice", twice
    yield "a parameter in two groups", in_two_groups
    count: Counter[str] = Counter()
    for error_input in info.optim_error_inputs_func("cpu", torch.float32):
        optim_input = error_input.optimizer_error_input
        count[optim_input.desc] += 1
        yield (
            f"error input, {optim_input.desc} {count[optim_input.desc]}",
            lambda given=optim_input: (
                info.optim_cls(
                    given.params if given.params is not None else [_param()],
                    **given.kwargs,
                ).param_groups
            ),
        )


def _added_groups() -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "a tensor", lambda: {"params": _param()}
    yield "a list", lambda: {"params": [_param(), _param()], "lr": 0.3}
    yield "a generator", lambda: {"params": (p for p in [_param()])}
    yield "nothing", lambda: {"params": []}
    yield "a list for a dict", lambda: [_param()]
    yield "None", lambda: None
    yield "no params", lambda: {"lr": 0.1}
    yield "a set", lambda: {"params": {_param()}}
    yield "a number", lambda: {"params": [3]}
    yield "a non-leaf", lambda: {"params": [_param() * 2]}
    yield "names", lambda: {"params": [("a", _param())]}
    yield "some names", lambda: {"params": [("a", _param()), _param()]}


def _added(info: OptimizerInfo, group: Any) -> Any:
    optimizer = build(info, [_param(), _param()])
    optimizer.add_param_group(group)
    return optimizer.param_groups, optimizer.state_dict(), vars(optimizer)


def _less_groups(state_dict: Any) -> None:
    state_dict["param_groups"].pop()


def _more_groups(state_dict: Any) -> None:
    state_dict["param_groups"].append({"params": []})


def _less_params(state_dict: Any) -> None:
    state_dict["param_groups"][-1]["params"].pop()


def _more_params(state_dict: Any) -> None:
    state_dict["param_groups"][0]["params"].append(99)


def _other_ids(state_dict: Any) -> None:
    moved = {}
    for group in state_dict["param_groups"]:
        group["params"] = [100 - 3 * i for i in group["params"]]
    for key, value in state_dict["state"].items():
        moved[100 - 3 * key] = value
    state_dict["state"] = moved


def _one_id_twice(state_dict: Any) -> None:
    group = state_dict["param_groups"][0]
    group["params"] = [group["params"][0]] * len(group["params"])


def _other_entries(state_dict: Any) -> None:
    state_dict["state"].update({"mine": torch.ones(2), 77: {"x": 1}, ("a", 0): None})


def _other_shape(state_dict: Any) -> None:
    for state in state_dict["state"].values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                state[key] = torch.ones(5, 7)


def _other_type(state_dict: Any) -> None:
    for state in state_dict["state"].values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                state[key] = value.to(torch.float64)


def _nested(state_dict: Any) -> None:
    for state in state_dict["state"].values():
        state["nested"] = {"a": [torch.ones(2, dtype=torch.float64), (1, None)]}


def _one_id_in_two_groups(state_dict: Any) -> None:
    """The options of the first decide whether a step is cast."""
    groups = state_dict["param_groups"]
    groups[-1]["params"][-1] = groups[0]["params"][0]
    groups[-1]["capturable"] = True
    _other_type(state_dict)


def _number_as_state(state_dict: Any) -> None:
    for key in state_dict["state"]:
        state_dict["state"][key] = 3


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(state_dict: Any) -> None:
        place = state_dict
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def _delete(*path: Any) -> Callable[[Any], None]:
    def change(state_dict: Any) -> None:
        place = state_dict
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


_CHANGES: dict[str, Callable[[Any], None]] = {
    "as it is": lambda state_dict: None,
    "a group less": _less_groups,
    "a group more": _more_groups,
    "a parameter less": _less_params,
    "a parameter more": _more_params,
    "other ids": _other_ids,
    "one id twice": _one_id_twice,
    "one id in two groups": _one_id_in_two_groups,
    "other entries": _other_entries,
    "other shapes": _other_shape,
    "other types": _other_type,
    "nested state": _nested,
    "numbers as state": _number_as_state,
    "no state": _delete("state"),
    "no groups": _delete("param_groups"),
    "no params": _delete("param_groups", 0, "params"),
    "no lr": _delete("param_groups", 0, "lr"),
    "more options": _set("param_groups", 0, "mine", to=[1, {2: "x"}]),
    "more keys": _set("extra", to=1),
    "state is None": _set("state", to=None),
    "state is a list": _set("state", to=[1]),
    "groups are None": _set("param_groups", to=None),
    "groups are a dict": _set("param_groups", to={}),
    "groups are a tuple": lambda d: d.update(param_groups=tuple(d["param_groups"])),
    "a group is None": _set("param_groups", 0, to=None),
    "a group is a list": _set("param_groups", 0, to=["params"]),
    "params are a number": _set("param_groups", 0, "params", to=3),
    "params are None": _set("param_groups", 0, "params", to=None),
    "a list among params": _set("param_groups", 0, "params", 0, to=[0]),
    "a tuple as params": lambda d: d["param_groups"][0].update(
        params=tuple(d["param_groups"][0]["params"])
    ),
    "a string as params": lambda d: d["param_groups"][0].update(
        params="x" * len(d["param_groups"][0]["params"])
    ),
    "a name among params": _set("param_groups", 0, "params", 0, to="a"),
}


def _changed_load(info: OptimizerInfo, change: Callable[[Any], None]) -> Any:
    params = make_params(info)
    source = build(info, without_names(in_groups(info, params)))
    train(info, source, params, range(2))
    state_dict = copy.deepcopy(source.state_dict())
    change(state_dict)
    other_params = make_params(info)
    target = build(info, without_names(in_groups(info, other_params)))
    train(info, target, other_params, range(5, 6))
    target.load_state_dict(state_dict)
    return target.param_groups, dict(target.state)


def _stray_state(info: OptimizerInfo) -> Any:
    optimizer = build(info, [_param()])
    optimizer.state[_param()] = {}
    return optimizer.state_dict()


def _other_keys(info: OptimizerInfo) -> Any:
    optimizer = build(info, [_param()])
    optimizer.state["mine"] = torch.ones(2)
    optimizer.state[0] = "zero"
    return optimizer.state_dict()


def _sparse_gradient(info: OptimizerInfo) -> Any:
    param = _param()
    optimizer = build(info, [param])
    param.grad = torch.ones(2, 3).to_sparse()
    if info.only_supports_sparse_grads:
        param.grad = param.grad.to_dense()
    optimizer.step()
    return optimizer.state_dict()


def _edited_groups(info: OptimizerInfo) -> Any:
    optimizer = build(info, [_param(), _param()])
    group = optimizer.param_groups[0]
    optimizer.param_groups.append({**group, "params": [_param()]})
    group["params"] = group["params"][::-1]
    return optimizer.state_dict()


def _tied_groups(info: OptimizerInfo) -> Any:
    optimizer = build(info, [_param(), _param()])
    group = optimizer.param_groups[0]
    optimizer.param_groups.append({**group, "params": [*group["params"], _param()]})
    return optimizer.state_dict()


def _hooks(info: OptimizerInfo) -> Any:
    optimizer = build(info, [_param()])
    seen: list[Any] = []
    optimizer.register_state_dict_pre_hook(lambda *a: seen.append(len(a)))
    optimizer.register_state_dict_post_hook(lambda o, d: seen.append(d))
    optimizer.register_load_state_dict_pre_hook(lambda o, d: seen.append(d))
    optimizer.register_load_state_dict_post_hook(lambda *a: seen.append(len(a)))
    optimizer.load_state_dict(optimizer.state_dict())
    return seen


_MISUSES: dict[str, Callable[[OptimizerInfo], Any]] = {
    "state of a tensor in no group": _stray_state,
    "state under other keys": _other_keys,
    "a gradient of the wrong layout": _sparse_gradient,
    "groups edited by hand": _edited_groups,
    "a parameter in two groups by hand": _tied_groups,
    "hooks": _hooks,
    "no dict to load": lambda info: build(info, [_param()]).load_state_dict(3),
    "None to load": lambda info: build(info, [_param()]).load_state_dict(None),
    "an empty dict to load": lambda info: build(info, [_param()]).load_state_dict({}),
}
