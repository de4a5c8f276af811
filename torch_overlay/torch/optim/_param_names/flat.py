"""Bring state that spans all parameters into the optimizer's order.

LBFGS keeps vectors that concatenate the elements of all its parameters, in
their order, and keeps them under the first parameter.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor


__all__ = ["align_flat_state"]


def align_flat_state(
    state: Mapping[Any, Any],
    saved_groups: Sequence[dict[str, Any]],
    saved_params: Mapping[Hashable, Tensor],
    params: Sequence[Tensor],
    flat: Collection[str],
) -> dict[Any, Any]:
    """Permute flat vectors, and move them to the parameter that is first now.

    Args:
        state (Mapping): ``state`` of a state dict, not changed.
        saved_groups (sequence of dict): ``param_groups`` of the state dict.
        saved_params (Mapping): the parameter of each saved id.
        params (sequence of Tensor): the optimizer's parameters.
        flat (collection of str): the entries that are flat vectors, or lists
            of them, of shape :math:`(N)` for :math:`N` elements in all. A
            complex element counts as two.

    Returns:
        dict: the state, with the entry of the parameter that was first under
        the id of the one that is first now.

    Raises:
        ValueError: if both sides do not have the same parameters, each once;
            if a vector does not have their length; or if there is a vector of
            this length under an entry that is not one of ``flat``.
    """
    saved_order = list(chain.from_iterable(g["params"] for g in saved_groups))
    saved_ids = {param: param_id for param_id, param in saved_params.items()}
    order = [saved_ids.get(param) for param in params]
    if order == saved_order:
        return dict(state)
    if len(set(saved_order)) != len(saved_order) or set(saved_order) != set(order):
        raise ValueError(
            "the saved state spans all parameters, so that it cannot be loaded by name "
            "unless the optimizer has the same parameters, each of them once"
        )
    sizes = [
        saved_params[i].numel() * (2 if saved_params[i].is_complex() else 1)
        for i in saved_order
    ]
    total = sum(sizes)

    def permute(key: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(permute(key, item) for item in value)
        if not isinstance(value, Tensor):
            return value
        if key not in flat and value.numel() == total > 1:
            raise ValueError(
                f'the saved state "{key}" may depend on the order of the parameters, '
                "which is another one in the optimizer. Please construct it with the "
                "parameters in the saved order"
            )
        if key not in flat:
            return value
        if value.shape != (total,):
            raise ValueError(
                f'the saved state "{key}" has shape {tuple(value.shape)}, but the '
                f"parameters have {total} elements in all"
            )
        parts = dict(zip(saved_order, torch.split(value, sizes)))
        return torch.cat([parts[i] for i in order])

    aligned = dict(state)
    first = aligned.pop(saved_order[0], None)
    if isinstance(first, Mapping):
        aligned[order[0]] = {key: permute(key, value) for key, value in first.items()}
    return aligned
