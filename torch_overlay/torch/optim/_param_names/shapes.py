"""Check that saved state has the shape of the parameter it is for."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.keys import param_keys


__all__ = ["fits", "unfit_state"]

#: How many entries of state that do not fit an error describes.
MAX_UNFIT = 10


def fits(state: Any, param: Tensor, param_shaped: Collection[str]) -> bool:
    """Whether the saved state of one parameter can belong to it.

    Args:
        state: the state of the parameter.
        param (Tensor): the parameter.
        param_shaped (collection of str): the entries of a parameter's state
            that have the parameter's shape.
    """
    # Whether something is a Mapping takes long to find out.
    if type(state) is not dict and not isinstance(state, Mapping):
        return False
    shape, get = param.shape, state.get
    for key in param_shaped:
        value = get(key)
        if value is not None and (
            not isinstance(value, Tensor) or value.shape != shape
        ):
            return False
    return True


def unfit_state(
    groups: Sequence[dict[str, Any]],
    params: Mapping[Hashable, Tensor],
    saved_state: Mapping[Any, Any],
    param_shaped: Collection[str],
) -> list[str]:
    """Say which saved state cannot belong to its parameter.

    Args:
        groups (sequence of dict): param groups with names.
        params (Mapping): the parameter of each saved id.
        saved_state (Mapping): ``state`` of the state dict.
        param_shaped (collection of str): as for :func:`fits`.

    Returns:
        list of str: a full sentence each; empty if there is none.
    """
    unfit: list[tuple[Tensor, str]] = []
    for param_id, state in saved_state.items() if param_shaped else ():
        param = params.get(param_id)
        if param is not None:
            unfit.extend((param, r) for r in _reasons(state, param, param_shaped))
    if not unfit:
        return []
    names = param_keys(groups)
    more = len(unfit) - MAX_UNFIT
    return [
        f'The state of "{names[id(param)]}" {reason}.'
        for param, reason in unfit[:MAX_UNFIT]
    ] + ([f"{more} more entries of state do not fit."] if more > 0 else [])


def _reasons(state: Any, param: Tensor, param_shaped: Collection[str]) -> Iterator[str]:
    if not isinstance(state, Mapping):
        yield f"should be a dict, but is {torch.typename(state)}"
        return
    for key in param_shaped:
        value = state.get(key)
        if isinstance(value, Tensor):
            if value.shape != param.shape:
                yield (
                    f'has a size mismatch: "{key}" has shape {tuple(value.shape)} '
                    "in the state_dict, but the parameter has shape "
                    f"{tuple(param.shape)}"
                )
        elif value is not None:
            kind = torch.typename(value)
            yield f'should have a Tensor as "{key}", but has {kind}'
