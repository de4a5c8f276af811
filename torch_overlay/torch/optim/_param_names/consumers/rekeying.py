"""Replace the ids in a state dict by indices or other names.

For parts of PyTorch that match parameters by position, such as
``swap_in_optimizer_params_and_state``, or that use other names, such as FSDP,
which has those from before a model was wrapped.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch.optim._param_names.messages import quote
from torch.optim._param_names.names import names_of
from torch.optim._param_names.renaming import with_ids
from torch.optim._param_names.saved import read_state_dict, saved_names
from torch.optim._param_names.saving import indices, param_keys


__all__ = [
    "align_names",
    "name_indices",
    "state_keys",
    "to_indices",
    "to_own_names",
    "with_indices",
    "without_names",
    "without_own_names",
]


def without_names(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Replace the ids in a state dict by indices, and drop the names.

    For callers with their own names, such as distributed checkpoints, that match
    parameters by position.

    Args:
        state_dict (dict): the state dict of an optimizer, whatever its ids, with
            the parameters in the optimizer's order. It is not changed.

    Returns:
        dict: a new state dict, as of an optimizer without names. Values are not
        copied. A dict without ``param_groups`` is returned as it is.
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
        dict: a new state dict with the same ``param_names``; ``state_dict`` itself
        if its ids are not names or it is malformed.
    """
    try:
        saved = read_state_dict(state_dict, needs_groups=True)
    except (KeyError, TypeError, ValueError):
        return state_dict
    return _by_index(state_dict) if saved.names.named else state_dict


def _by_index(state_dict: dict[str, Any]) -> dict[str, Any]:
    ids = [group["params"] for group in state_dict["param_groups"]]
    return with_ids(state_dict, indices(ids))


def to_indices(
    state_dict: dict[str, Any], groups: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Replace the names of an optimizer's parameters by their indices in it.

    Unlike for ``without_names``, order and groups may differ.

    Args:
        state_dict (dict): a state dict, perhaps without ``param_groups``. It is
            not changed.
        groups (sequence of dict): the optimizer's param groups.

    Returns:
        dict: a new state dict, with ``param_names`` beside the indices;
        ``state_dict`` itself if its names are not the optimizer's, or if either
        side has none.

    Raises:
        ValueError: if only some ``param_names`` of the state dict are the
            optimizer's; or as ``names_of`` does.
        TypeError: as ``names_of`` does.
    """
    names = names_of(groups)
    if names is None:
        return state_dict
    by_id = indices([map(id, group["params"]) for group in groups])
    index: dict[Hashable, int] = {n: by_id[id(p)] for n, p in names.params.items()}
    if "param_groups" not in state_dict:
        return with_ids(state_dict, index)
    saved_groups = state_dict["param_groups"]
    saved = saved_names(saved_groups)
    if saved.groups is None:
        return state_dict
    ids = [i for group in saved_groups for i in group["params"]]
    theirs = [name for own in saved.groups for name in own]
    others = [name for name in theirs if name not in index]
    if others:
        if len(others) < len(theirs) and not saved.named:
            raise ValueError(
                f"the optimizer has no parameter named {quote(others)}, but the "
                "state_dict has. Please pass the state dict of this optimizer"
            )
        return state_dict
    indexed = with_ids(state_dict, {i: index[n] for i, n in zip(ids, theirs)})
    for group, names_there in zip(indexed["param_groups"], saved.groups):
        group["param_names"] = names_there
    return indexed


def align_names(
    groups: Sequence[dict[str, Any]], names: Mapping[Any, str] | None = None
) -> None:
    """Update ``param_names`` in saved groups whose ids were replaced.

    Args:
        groups (sequence of dict): saved param groups. They are changed if they
            have ``param_names``.
        names (Mapping, optional): the name of each id. (default: the id)
    """
    for group in groups:
        if "param_names" in group:
            ids = group["params"]
            group["param_names"] = [i if names is None else names[i] for i in ids]


def name_indices(
    saved_groups: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]
) -> None:
    """Add a named optimizer's ``param_names`` to saved groups of indices.

    Args:
        saved_groups (sequence of dict): the groups of a state dict that have the
            indices of parameters as ``params``. They are changed if the optimizer
            is named.
        groups (sequence of dict): the optimizer's param groups.
    """
    names = names_of(groups)
    if names is not None:
        flat = [name for own in names.groups for name in own]
        for group in saved_groups:
            group["param_names"] = [flat[index] for index in group["params"]]


def state_keys(state_dict: dict[str, Any]) -> list[Any]:
    """The keys of ``state``, or the expected ones if it is empty.

    Args:
        state_dict (dict): the state dict of an optimizer.

    Returns:
        list: the keys of ``state``; if there is no state, the ids of groups that
        have names.
    """
    return list(state_dict["state"]) or [
        param_id
        for group in state_dict.get("param_groups", ())
        if "param_names" in group
        for param_id in group["params"]
    ]


def to_own_names(
    state_dict: dict[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """Replace the names in a state dict by those of an optimizer.

    Names that the optimizer does not have stay, so that the load can report or
    skip them.

    Args:
        state_dict (dict): a state dict that is keyed by names, perhaps without
            ``param_groups``. It is not changed.
        names (Mapping): the optimizer's name for each of them, in the
            optimizer's order. A parameter may have several.

    Returns:
        dict: a new state dict. Values are not copied. Each group lists its
        parameters in the optimizer's order.

    Raises:
        ValueError: if a name that stays is the optimizer's for a parameter.
    """
    state = state_dict["state"]
    groups = state_dict.get("param_groups", ())
    own = {name: index for index, name in enumerate(names.values())}
    listed = (name for group in groups for name in group["params"])
    clashing = [
        name
        for name in dict.fromkeys((*listed, *state))
        if name not in names and name in own
    ]
    if clashing:
        raise ValueError(
            f"the state_dict has {quote(clashing)}, which is not the parameter of the "
            "model that the optimizer calls so. Please construct the optimizer from "
            "model.named_parameters()"
        )
    renamed = {**state_dict, "state": {names.get(k, k): v for k, v in state.items()}}
    if "param_groups" in state_dict:
        renamed["param_groups"] = []
        for group in groups:
            unique = dict.fromkeys(names.get(n, n) for n in group["params"])
            params = sorted(unique, key=lambda name: own.get(name, len(own)))
            renamed["param_groups"].append(
                {**group, "params": params, "param_names": list(params)}
            )
    return renamed
