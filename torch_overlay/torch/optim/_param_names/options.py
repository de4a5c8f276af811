"""Pair saved param groups with those of an optimizer, and choose their options."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.entries import is_on
from torch.optim._param_names.messages import load_error, quote


__all__ = [
    "agreed_options",
    "check_options",
    "deep_copy",
    "groups_differ",
    "mixed_options",
    "pair_groups",
]

#: How many groups an error describes.
MAX_GROUPS = 10

_ABSENT = object()


def deep_copy(groups: Any) -> Any:
    """``deepcopy()``, but with a clear error for options nested too deeply.

    Lists of ids and names may be long and are not copied.
    """
    memo = {
        id(value): value
        for group in (groups if isinstance(groups, (list, tuple)) else ())
        if isinstance(group, dict)
        for value in (group.get("params"), group.get("param_names"))
        if type(value) is list and {int, str}.issuperset(map(type, value))
    }
    try:
        return deepcopy(groups, memo)
    except RecursionError as error:
        raise RecursionError(
            f"the options in the param_groups of the state_dict cannot be copied: {error}"
        ) from None


def pair_groups(
    names: Sequence[Collection[str]],
    num_saved: int,
    saved_in: Mapping[str, int],
) -> list[int] | None:
    """Find the saved param group with the same parameters as each group.

    Groups without parameters pair up in their order.

    Args:
        names (sequence of collections of str): the names in each of the
            optimizer's param groups.
        num_saved (int): the number of saved groups.
        saved_in (Mapping): the index of the saved group of each name.

    Returns:
        list of int or None: the index of the saved group for each group; None
        if a group has no counterpart. Names that only one side has are ignored.
    """
    if len(names) != num_saved:
        return None
    found = [{saved_in[n] for n in group if n in saved_in} for group in names]
    if any(len(indices) > 1 for indices in found):
        return None
    taken = set().union(*found)
    unpaired = iter([index for index in range(num_saved) if index not in taken])
    order = [indices.pop() if indices else next(unpaired) for indices in found]
    return order if len(set(order)) == num_saved else None


def groups_differ(
    names: Sequence[Sequence[str]], num_saved: int, saved_in: Mapping[str, int]
) -> str:
    """Describe in which saved groups the parameters of each group are.

    Args:
        names, num_saved, saved_in: as in :func:`pair_groups`.

    Returns:
        str: full sentences.
    """
    text = (
        f"Groups differ: the optimizer has {len(names)} param group(s), the "
        f"state_dict {num_saved}."
    )
    described = 0
    for index, group in enumerate(names):
        found: dict[int, list[str]] = {}
        for name in group:
            if name in saved_in:
                found.setdefault(saved_in[name], []).append(name)
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


def agreed_options(
    groups: Sequence[dict[str, Any]],
    saved_options: Sequence[dict[str, Any]],
    sources: Sequence[Iterable[int]],
) -> list[dict[str, Any]]:
    """Choose the options of param groups that share parameters with saved ones.

    A group takes an option from the saved groups of its parameters if

    * they agree on it: a merged group keeps its own value where its parts
      differed; and
    * all groups that take from one of them agree on it now: groups that were
      split keep values in which they differ.

    The learning rate and the ``initial_lr`` of a scheduler are one option.

    Args:
        groups (sequence of dict): the optimizer's param groups.
        saved_options (sequence of dict): options of the saved groups.
        sources (sequence of iterables of int): the indices of the saved groups
            that hold parameters of each group.

    Returns:
        list of dict: new param groups.
    """
    taking: dict[int, list[dict[str, Any]]] = {}
    for group, indices in zip(groups, sources):
        for index in indices:
            taking.setdefault(index, []).append(group)
    # For each saved group, the options in which the groups that take from it differ.
    differing = {
        index: {
            key
            for key in saved_options[index]
            if not _agree(taking[index], _with_its_pair(key))
        }
        for index in taking
    }
    new_groups = []
    for group, indices in zip(groups, sources):
        saved = [saved_options[index] for index in indices]
        agreed = {
            key: value
            for key, value in (saved[0].items() if saved else ())
            if _agree(saved, _with_its_pair(key))
            and not any(key in differing[index] for index in indices)
        }
        # Several groups may take from one saved group: each gets a copy.
        new_groups.append({**group, **deep_copy(agreed)})
    return new_groups


def _with_its_pair(option: str) -> tuple[str, ...]:
    return ("lr", "initial_lr") if option in ("lr", "initial_lr") else (option,)


def _agree(groups: Sequence[dict[str, Any]], options: Iterable[str]) -> bool:
    return all(
        _equal(group.get(option, _ABSENT), groups[0].get(option, _ABSENT))
        for option in options
        for group in groups[1:]
    )


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
            return (
                type(one) is type(other)
                and len(one) == len(other)
                and all(map(_equal, one, other))
            )
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return one.device == other.device and torch.equal(one, other)
        return bool(one == other)
    except Exception:
        # Values that cannot be compared do not agree.
        return False


def mixed_options(
    new_groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    origins: Mapping[str, tuple[str, dict[str, Any]]],
    deciding: Iterable[str],
) -> list[str]:
    """Find state that does not go with the options of its new group.

    Args:
        new_groups (sequence of dict): the param groups after the load.
        names (sequence of sequences of str): the names in each of them.
        origins (Mapping): for each name with state after the load, the side that
            the state comes from (``"optimizer"`` or ``"state_dict"``), and its
            param group there.
        deciding (iterable of str): the options that decide which state exists.

    Returns:
        list of str: a full sentence for each option and group.
    """
    problems = []
    for index, (new, group_names) in enumerate(zip(new_groups, names)):
        with_state = [name for name in group_names if name in origins]
        for option in deciding:
            for name in with_state:
                side, group = origins[name]
                if is_on(group, option) != is_on(new, option):
                    problems.append(
                        f'The option "{option}" decides which state a parameter has: '
                        f'the state of "{name}" comes from the {side} with '
                        f"{option}={group.get(option)!r}, but param group {index} of "
                        f"the optimizer would have {option}={new.get(option)!r}. "
                        "Please construct the optimizer with the value that the state "
                        "was made with, or keep such parameters in param groups apart."
                    )
                    break
    return problems


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def check_options(
    groups: Sequence[dict[str, Any]],
    new_groups: Sequence[dict[str, Any]],
    options: Collection[str],
    owner: str,
) -> None:
    """Check that loaded param groups have all options that a step reads.

    Args:
        groups (sequence of dict): the param groups before the load.
        new_groups (sequence of dict): those after it.
        options (collection of str): the optimizer's options.
        owner (str): the name of the optimizer's class, for errors.

    Raises:
        ValueError: naming the options that are missing, or that became or are
            no longer sequences.
    """
    for index, (old, new) in enumerate(zip(groups, new_groups)):
        lacking = [
            key
            for key in options
            # A sequence in one class may be a single value in another
            if key in old
            and (key not in new or _is_sequence(old[key]) != _is_sequence(new[key]))
        ]
        if lacking:
            problem = (
                f"For param group {index}, the state_dict lacks the option(s) "
                f"{quote(lacking)}, or has them in another form. It looks like the state dict of another optimizer "
                f"class; please load it into that class, or load its state alone: "
                "{'state': state_dict['state']}."
            )
            raise ValueError(load_error(owner, [problem]))
