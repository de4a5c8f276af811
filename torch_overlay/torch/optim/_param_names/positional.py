"""Give a state dict with names its positional form."""

from collections.abc import Sequence
from typing import Any

from torch.optim._param_names.saving import indices, param_keys
from torch.optim._param_names.saved import check_form, saved_names


__all__ = ["with_indices", "without_names", "without_own_names"]


def without_names(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Replace the ids in a state dict by indices, and leave out the names.

    For callers that have names of their own, such as distributed checkpoints,
    and match parameters by their position in the optimizer.

    Args:
        state_dict (dict): the state dict of an optimizer, whatever its ids, with
            the parameters in the optimizer's order. It is not changed.

    Returns:
        dict: a new state dict, as an optimizer without names has it. Its values
        are not copied. A dict without ``param_groups`` is returned as it is.
    """
    if "param_groups" not in state_dict:
        return state_dict
    indexed = _by_index(state_dict)
    for group in indexed["param_groups"]:
        group.pop("param_names", None)
    return indexed


def without_own_names(
    state_dict: dict[str, Any], groups: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Replace names by indices if they are those of an optimizer, in its order.

    Args:
        state_dict (dict): a state dict of any kind. It is not changed.
        groups (sequence of dict): the optimizer's param groups.

    Returns:
        dict: as :func:`without_names`, but with ``param_names``; ``state_dict``
        itself if its ids are not the optimizer's keys.
    """
    keys = param_keys(groups)
    own = [[keys[id(param)] for param in group["params"]] for group in groups]
    try:
        saved = [list(group["params"]) for group in state_dict["param_groups"]]
        return _by_index(state_dict) if saved == own else state_dict
    except (KeyError, TypeError):
        return state_dict


def with_indices(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Replace names that are the ids in a state dict by indices.

    For loading by position what may have been saved with or without names.

    Args:
        state_dict (dict): a state dict of any kind. It is not changed.

    Returns:
        dict: a new state dict with the names as ``param_names`` only;
        ``state_dict`` itself if its ids are no names, or if it has not the form
        of a state dict.
    """
    try:
        groups = state_dict["param_groups"]
        check_form(groups, state_dict["state"])
        if not saved_names(groups).named:
            return state_dict
    except (KeyError, TypeError, ValueError):
        return state_dict
    indexed = _by_index(state_dict)
    for group, named in zip(indexed["param_groups"], groups):
        group["param_names"] = list(named["params"])
    return indexed


def _by_index(state_dict: dict[str, Any]) -> dict[str, Any]:
    groups = state_dict["param_groups"]
    index = indices([group["params"] for group in groups])
    return {
        **state_dict,
        "state": {index.get(key, key): v for key, v in state_dict["state"].items()},
        "param_groups": [
            {**group, "params": [index[i] for i in group["params"]]} for group in groups
        ],
    }
