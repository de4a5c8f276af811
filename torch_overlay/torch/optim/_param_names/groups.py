"""Match saved param groups against those of an optimizer, and take options."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.messages import quote
from torch.optim._param_names.plain import IDS


__all__ = [
    "agreed_groups",
    "copy_options",
    "groups_differ",
    "holders",
    "same_groups",
]

#: How many groups an error describes.
MAX_GROUPS = 10

_DICT = frozenset([dict])
#: What ``deepcopy()`` returns as it is.
_CONSTANTS = frozenset([bool, float, int, str, type(None)])


def copy_options(
    saved_groups: Sequence[dict[str, Any]], *, ids_checked: bool = False
) -> list[dict[str, Any]]:
    """Copy saved param groups, except for plain lists of ids and of names.

    Those may be long, and are replaced in any case.

    Args:
        saved_groups (sequence of dict): ``param_groups`` of a state dict, or
            whatever stands there.
        ids_checked (bool): whether it is known that all lists of ids and of
            names are plain ones.

    Returns:
        list of dict: deep copies that share ``params`` and ``param_names``
        with what was passed.

    Raises:
        RecursionError: if an option is nested too deeply.
    """
    memo: dict[int, Any] = {}
    for group in saved_groups if isinstance(saved_groups, (list, tuple)) else ():
        for key in ("params", "param_names"):
            ids = group.get(key) if isinstance(group, dict) else None
            if type(ids) is list and (ids_checked or IDS.issuperset(map(type, ids))):
                memo[id(ids)] = ids
    try:
        if type(saved_groups) is list and _DICT.issuperset(map(type, saved_groups)):
            return [_copy_group(group, memo) for group in saved_groups]
        copies: Any = deepcopy(saved_groups, memo)
        return copies  # type: ignore[no-any-return]
    except RecursionError as error:
        raise RecursionError(
            f"the options in the param_groups of the state_dict cannot be copied: {error}"
        ) from None


def _copy_group(group: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    """As ``deepcopy()``, which takes long for what groups mostly hold."""
    if id(group) in memo:
        return memo[id(group)]  # type: ignore[no-any-return]
    if not _CONSTANTS.issuperset(map(type, group)):
        return deepcopy(group, memo)
    copied = memo[id(group)] = dict(group)
    for key, value in group.items():
        kind = type(value)
        if kind is tuple and _CONSTANTS.issuperset(map(type, value)):
            continue
        if kind not in _CONSTANTS:
            copied[key] = deepcopy(value, memo)
    return copied


def holders(
    groups: Sequence[dict[str, Any]], all_ids: Collection[Hashable]
) -> dict[Hashable, list[dict[Any, Any]]]:
    """The param group of each saved id, to look up options in.

    Args:
        groups (sequence of dict): param groups with saved ids as their
            ``params``.
        all_ids (collection): all of these ids. It is fast to find out whether
            one is in it.

    Returns:
        dict: maps each id to a list with nothing but the first group that holds
        it. That group's ``params`` are a set of the ids, so that the time to
        find out whether an id is there does not grow with their number.
    """
    if len(groups) == 1:
        return _SameForAll([{**groups[0], "params": all_ids}])
    found: dict[Hashable, list[dict[Any, Any]]] = {}
    for group in groups:
        unique = dict.fromkeys(group["params"])
        holder = [{**group, "params": unique.keys()}]
        for param_id in unique:
            found.setdefault(param_id, holder)
    return found


class _SameForAll(dict[Hashable, list[dict[Any, Any]]]):
    """A dict that has one value for all keys, without a table of them."""

    def __init__(self, value: list[dict[Any, Any]]) -> None:
        super().__init__()
        self._value = value

    def __missing__(self, key: Hashable) -> list[dict[Any, Any]]:
        return self._value


def same_groups(
    ids: Sequence[Collection[Hashable]],
    num_saved: int,
    saved_in: Mapping[Hashable, int],
) -> list[int] | None:
    """Find for each param group the saved one that has the same parameters.

    Groups without parameters pair up in their order. Parameters that only one
    side has do not count.

    Args:
        ids (sequence of collections): the saved ids of the parameters of each
            of the optimizer's param groups.
        num_saved (int): the number of saved groups.
        saved_in (Mapping): the index of the saved group of each saved id.

    Returns:
        list of int or None: the index of the saved group for each group; None
        if one of them has no counterpart.
    """
    if len(ids) != num_saved:
        return None
    found = [set(map(saved_in.__getitem__, own)) for own in ids]
    if any(len(indices) > 1 for indices in found):
        return None
    taken = set().union(*found)
    unpaired = iter([index for index in range(num_saved) if index not in taken])
    order = [indices.pop() if indices else next(unpaired) for indices in found]
    return order if len(set(order)) == num_saved else None


def groups_differ(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    saved_ids: Mapping[Tensor, Hashable],
    saved_in: Mapping[Hashable, int],
) -> str:
    """Say of each param group in which saved groups its parameters are.

    Args:
        groups (sequence of dict): the optimizer's param groups.
        names (sequence of sequences of str): the names in each of them.
        saved_groups (sequence of dict): ``param_groups`` of the state dict.
        saved_ids (Mapping): the saved id of each parameter that has one.
        saved_in (Mapping): the index of the saved group of each saved id.

    Returns:
        str: full sentences.
    """
    text = (
        f"Groups differ: the optimizer has {len(groups)} param group(s), the "
        f"state_dict {len(saved_groups)}."
    )
    described = 0
    for index, (group, own) in enumerate(zip(groups, names)):
        found: dict[int, list[str]] = {}
        for param, name in zip(group["params"], own):
            if param in saved_ids:
                found.setdefault(saved_in[saved_ids[param]], []).append(name)
        if not found:
            continue
        if described == MAX_GROUPS:
            return f"{text} And so on."
        described += 1
        parts = [
            f"param group {there} of the state_dict has {quote(found[there], 3)}"
            for there in sorted(found)[:MAX_GROUPS]
        ]
        if len(found) > MAX_GROUPS:
            parts.append(f"and {len(found) - MAX_GROUPS} more have the others")
        text += f" Of param group {index} of the optimizer, {', '.join(parts)}."
    return text


def agreed_groups(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    saved_ids: Mapping[Tensor, Hashable],
    saved_in: Mapping[Hashable, int],
) -> list[dict[str, Any]]:
    """Take the options on which the saved groups of a group's parameters agree.

    Args:
        groups, saved_groups, saved_ids, saved_in: as in :func:`groups_differ`.

    Returns:
        list of dict: new param groups. An option on which the saved groups
        differ, or that not all of them have, is the optimizer's own.
    """
    new_groups = []
    for group in groups:
        found = dict.fromkeys(
            saved_in[saved_ids[p]] for p in group["params"] if p in saved_ids
        )
        sources = [saved_groups[index] for index in found]
        agreed = {
            key: value
            for key, value in (sources[0].items() if sources else ())
            if key not in ("params", "param_names")
            and all(key in o and _equal(o[key], value) for o in sources[1:])
        }
        # A copy for each group: several of them may take from the same saved one.
        new_groups.append({**group, **copy_options([agreed])[0]})
    return new_groups


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(map(_equal, one, other))
        )
    try:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return one.device == other.device and torch.equal(one, other)
        return bool(one == other)
    except Exception:
        # What cannot be compared does not agree.
        return False
