"""Bring state that spans all parameters into the optimizer's order.

LBFGS keeps vectors that concatenate the elements of all its parameters, in
their order, as the state of the first parameter.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.matching import Match
from torch.optim._param_names.messages import load_error, quote


__all__ = ["align_flat_state"]


def align_flat_state(
    state: Mapping[Any, Any],
    match: Match,
    params: Sequence[Tensor],
    *,
    flat: Collection[str],
    owner: str,
) -> dict[Any, Any]:
    """Permute flat vectors, and move them to the new first parameter.

    Args:
        state (Mapping): ``state`` of a state dict, not changed.
        match (Match): which saved id stands for which parameter.
        params (sequence of Tensor): the optimizer's parameters.
        flat (collection of str): the entries that are flat vectors, or lists
            of them, of shape :math:`(N)` for :math:`N` elements in all. A
            complex element counts as two.
        owner (str): the name of the optimizer's class, for errors.

    Returns:
        dict: the state, with the entry of the parameter that was first under
        the id of the one that is first now.

    Raises:
        ValueError: if the two sides do not have the same parameters, each once;
            if a vector in ``flat`` does not have :math:`N` elements; or if
            another one does.
    """
    saved_order = list(match.ids)
    saved_ids = {id(param): param_id for param_id, param in match.params.items()}
    order = [saved_ids.get(id(param)) for param in params]
    if order == saved_order:
        return dict(state)
    if len(set(saved_order)) != len(saved_order) or set(saved_order) != set(order):
        problem = (
            "The saved state spans all parameters, so that it cannot be loaded by name "
            "unless the optimizer has the same parameters, each of them once."
        )
        if match.missing:
            problem += f" Missing in state_dict: {quote(match.missing)}."
        if match.unexpected:
            problem += f" Unexpected in state_dict: {quote(match.unexpected)}."
        raise ValueError(load_error(owner, [problem]))
    saved_params = [match.params[i] for i in saved_order]
    sizes = [p.numel() * (2 if p.is_complex() else 1) for p in saved_params]
    total = sum(sizes)

    def permute(key: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(permute(key, item) for item in value)
        if not isinstance(value, Tensor):
            return value
        if key not in flat and value.numel() == total > 1:
            problem = (
                f'The saved state "{key}" may depend on the order of the parameters, '
                "which is another one in the optimizer. Please construct it with the "
                f"parameters in the saved order, {quote(map(str, saved_order))}."
            )
            raise ValueError(load_error(owner, [problem]))
        if key not in flat:
            return value
        if value.shape != (total,):
            problem = (
                f'The saved state "{key}" of "{saved_order[0]}" has shape '
                f"{tuple(value.shape)}, but the parameters have {total} elements in all."
            )
            raise ValueError(load_error(owner, [problem]))
        parts = dict(zip(saved_order, torch.split(value, sizes)))
        return torch.cat([parts[i] for i in order])

    aligned = dict(state)
    first = aligned.pop(saved_order[0], None)
    if isinstance(first, Mapping):
        aligned[order[0]] = {key: permute(key, value) for key, value in first.items()}
    return aligned
