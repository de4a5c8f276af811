"""Find saved state that an optimizer can take without casting it.

That is most of what is loaded: it has the dtype and the device of its parameter
already. To find that out, one value after the other, takes most of the time of a
load, so here one entry of many parameters' state is looked at with each call.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.plain import TENSORS


__all__ = ["all_stay", "casts_step"]

_DICT = frozenset([dict])
#: What is no tensor and is never cast.
_SCALARS = frozenset([bool, int, float, type(None)])
_NONE = frozenset([type(None)])
_SWITCH = frozenset([bool, type(None)])

_dtype, _device, _is_cpu, _shape = map(
    attrgetter, ("dtype", "device", "is_cpu", "shape")
)


def casts_step(groups: Iterable[Any]) -> bool | None:
    """Whether a param group has an option for which ``step`` is cast.

    Args:
        groups (iterable of dict): the param groups whose options decide.

    Returns:
        bool or None: None if an option is not what it usually is.
    """
    options = [
        group.get(option) if type(group) is dict else group
        for group in groups
        for option in ("fused", "capturable")
    ]
    if not _SWITCH.issuperset(map(type, options)):
        return None
    return any(options)


def all_stay(
    states: Sequence[Any],
    params: Sequence[Any],
    *,
    param_shaped: Collection[str] = (),
    step_cast: bool,
) -> bool:
    """Whether the saved state of some parameters needs nothing but a copy.

    Then that is what ``Optimizer.load_state_dict`` would make of each, with
    ``Optimizer._process_value_according_to_param_policy`` for the tensors.

    Args:
        states (sequence): the state of each parameter; at least one.
        params (sequence of Tensor): the parameters, or None in the place of one.
        param_shaped (collection of str): the entries of a parameter's state
            that must have the parameter's shape.
        step_cast (bool): whether the entry ``step`` may be cast.

    Returns:
        bool: False if some state has to be cast, has a wrong shape, or has to
        be looked at more closely to find out.
    """
    if set(map(type, states)) != _DICT or not TENSORS.issuperset(map(type, params)):
        return False
    columns = _columns(states)
    if columns is not None:
        return _columns_stay(columns, params, param_shaped, step_cast)
    alike: dict[tuple[Any, ...], tuple[list[Any], list[Any]]] = {}
    for state, param in zip(states, params):
        own_states, own_params = alike.setdefault(tuple(state), ([], []))
        own_states.append(state)
        own_params.append(param)
    return all(
        _columns_stay(
            {key: [state[key] for state in own_states] for key in keys},
            own_params,
            param_shaped,
            step_cast,
        )
        for keys, (own_states, own_params) in alike.items()
    )


def _columns(states: Sequence[dict[Any, Any]]) -> dict[Any, list[Any]] | None:
    """The values of each entry; None if the states have different entries."""
    if len(set(map(len, states))) != 1:
        return None
    try:
        return {key: list(map(itemgetter(key), states)) for key in states[0]}
    except KeyError:
        return None


def _columns_stay(
    columns: dict[Any, list[Any]],
    params: Sequence[Tensor],
    param_shaped: Collection[str],
    step_cast: bool,
) -> bool:
    """As :func:`all_stay`."""
    dtypes = list(map(_dtype, params))
    # Most of the time, and faster to find out.
    on_cpu = all(map(_is_cpu, params))
    devices = [] if on_cpu else list(map(_device, params))
    shapes: list[Any] = []
    for key, column in columns.items():
        kinds = set(map(type, column))
        if kinds <= _SCALARS:
            if key in param_shaped and kinds != _NONE:
                return False
            continue
        if not kinds <= TENSORS:
            return False
        if key in param_shaped:
            shapes = shapes or list(map(_shape, params))
            if list(map(_shape, column)) != shapes:
                return False
        if key == "step":
            if not step_cast:
                continue
            if {torch.float32} != set(map(_dtype, column)):
                return False
        elif list(map(_dtype, column)) != dtypes:
            return False
        if on_cpu:
            if not all(map(_is_cpu, column)):
                return False
        elif list(map(_device, column)) != devices:
            return False
    return True
