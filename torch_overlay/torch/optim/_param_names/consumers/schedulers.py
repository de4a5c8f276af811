"""Save which param group each entry of a scheduler's lists is for, and load by it.

A learning rate scheduler has lists with an entry for each param group, such as
``base_lrs``. Over a named optimizer, its state dict identifies the groups::

    "_saved_groups": {
        # The first parameter of each group; None for an empty group
        "param_names": ["encoder.weight", "head.weight"],
        # How many parameters each group has.
        "sizes": [12, 2],
        # The lists that have this order
        "lists": {"base_lrs": [0.1, 0.2]},
    }

On a load, the lists are put in the order of the optimizer's groups, and
``_saved_groups`` is removed, so that it never becomes an attribute.

Releases that do not know it load it as an attribute and save it again. It still
describes their lists unless these were replaced, which ``lists`` shows. ``lists``
holds the same objects as the state dict, so it takes next to no space in a file.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim._param_names.messages import quote


__all__ = ["in_live_order", "name_entries"]

KEY = "_saved_groups"

#: Lists that change with each step.
CHANGED_BY_STEPS = ("_last_lr", "lr_lambdas")


def name_entries(scheduler: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Add ``_saved_groups`` to a scheduler's state dict.

    Args:
        scheduler (LRScheduler): the scheduler.
        state_dict (dict): its state dict. It is changed.

    Returns:
        dict: the same dict; without names if the optimizer has none.
    """
    state_dict.pop(KEY, None)
    groups = _named_groups(scheduler)
    if groups is not None:
        state_dict[KEY] = {
            "param_names": [next(iter(g["param_names"]), None) for g in groups],
            "sizes": [len(group["params"]) for group in groups],
            "lists": {
                name: state_dict[name]
                for name in scheduler._per_group_lists
                if name in state_dict and name not in CHANGED_BY_STEPS
            },
        }
    return state_dict


def in_live_order(scheduler: Any, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Put the lists of a state dict in the order of the optimizer's param groups.

    This includes the lists of inner schedulers, so that errors come before
    anything is loaded. A group without a saved entry keeps that of the live
    scheduler, or its ``initial_lr`` in ``base_lrs``.

    Args:
        scheduler (LRScheduler): the scheduler that is going to load it.
        state_dict (Mapping): what was saved. It is not changed.

    Returns:
        dict: a shallow copy without ``_saved_groups``, to load by position. If
        either side has no names, its lists are as saved.

    Raises:
        ValueError: if it is unknown which entry belongs to which group.
    """
    aligned, texts = _aligned(scheduler, state_dict)
    # Inner schedulers have the same groups and would repeat the warnings.
    for text in dict.fromkeys(texts):
        warnings.warn(text, UserWarning, stacklevel=3)
    return aligned


def _named_groups(scheduler: Any) -> list[dict[str, Any]] | None:
    """The optimizer's param groups, if each has a name for each parameter."""
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if not isinstance(groups, list):
        return None
    for group in groups:
        names = group.get("param_names")
        if names is None or len(names) != len(group["params"]):
            return None
    return groups or None


def _aligned(
    scheduler: Any, state_dict: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The result of :func:`in_live_order`, and the texts of warnings."""
    state_dict = dict(state_dict)
    saved = state_dict.pop(KEY, None)
    groups = _named_groups(scheduler)
    if saved is None or groups is None:
        return state_dict, []
    order, texts = match_groups(saved["param_names"], saved["sizes"], groups)
    own = scheduler.state_dict()
    for name, option in scheduler._per_group_lists.items():
        values = state_dict.get(name)
        if not isinstance(values, list) or order == list(range(len(values))):
            continue
        if not _equal(saved["lists"].get(name, values), values):
            texts.append(_replaced(name, values, groups))
            continue
        state_dict[name] = [
            values[index]
            if index is not None and index < len(values)
            else _own_entry(name, option, own.get(name, ()), number, group)
            for number, (index, group) in enumerate(zip(order, groups))
        ]
    if "_schedulers" in state_dict:
        inside = list(state_dict["_schedulers"])
        children = getattr(scheduler, "_schedulers", ())
        for number, (child, part) in enumerate(zip(children, inside)):
            if isinstance(part, Mapping):
                inside[number], more = _aligned(child, part)
                texts += more
        state_dict["_schedulers"] = inside
    return state_dict, texts


def match_groups(
    names: Sequence[str | None],
    sizes: Sequence[int],
    groups: Sequence[dict[str, Any]],
) -> tuple[list[int | None], list[str]]:
    """Find the saved entry of each param group.

    A group gets the entry of the saved group whose first parameter it holds. If it
    holds none or several of these, or is smaller than the saved group, it was
    added, merged or split, and gets no entry.

    Args:
        names (sequence of str or None): the first parameter of each saved group;
            None for a group without any. These pair up in their order.
        sizes (sequence of int): how many parameters each saved group had.
        groups (sequence of dict): the optimizer's param groups, with names.

    Returns:
        list of int or None, list of str: the index of the entry of each group, or
        None if it has none; and a text for each warning. If no name is known, the
        entries are taken by position.

    Raises:
        ValueError: if no name is known, and the number of groups differs.
    """
    numbers = {name: number for number, name in enumerate(names) if name is not None}
    empty = iter([number for number, name in enumerate(names) if name is None])
    held = [
        [numbers[name] for name in group["param_names"] if name in numbers]
        if group["param_names"]
        else [number for number in [next(empty, None)] if number is not None]
        for group in groups
    ]
    if numbers and not any(names[n] is not None for found in held for n in found):
        return _by_position(numbers, len(names), groups)
    order = [
        found[0]
        if len(found) == 1 and len(group["params"]) >= sizes[found[0]]
        else None
        for found, group in zip(held, groups)
    ]
    lost = [name for name, number in numbers.items() if number not in order]
    if not lost:
        return order, []
    return order, [
        "The optimizer has no param group for what the state_dict of the scheduler has "
        f"for the group{'s' * (len(lost) > 1)} of {quote(lost)}: removed, split or "
        "merged since, or with fewer parameters. A group without saved values keeps "
        'those that the scheduler was built with, and starts from its "initial_lr". '
        "Load the optimizer first, which may bring that."
    ]


def _by_position(
    names: Mapping[str, int], number: int, groups: Sequence[dict[str, Any]]
) -> tuple[list[int | None], list[str]]:
    unknown = (
        f"The state_dict of the scheduler is for {number} param groups, which it names "
        f"by their first parameters, {quote(names)}. The optimizer has none of these "
        f"parameters, and {len(groups)} param group(s)"
    )
    remedy = f'Rename them in state_dict["{KEY}"]["param_names"]'
    if number != len(groups):
        raise ValueError(f"{unknown}. {remedy}.")
    text = f"{unknown}: what the scheduler has for each is loaded by position. {remedy}"
    return list(range(number)), [f"{text} if their order differs."]


def _replaced(name: str, values: list[Any], groups: Sequence[dict[str, Any]]) -> str:
    """The warning about a list that was replaced after its order was saved."""
    changed = (
        f"{name} in the state_dict of the scheduler was replaced after its entries "
        "were named, so that their order is not known"
    )
    if len(values) != len(groups):
        raise ValueError(
            f"{changed}, and it has {len(values)} entries for an optimizer with "
            f"{len(groups)} param groups. Give it one for each of these groups."
        )
    return f"{changed}. It is loaded by position: see that it is right."


def _own_entry(
    name: str,
    option: str | None,
    own: Sequence[Any],
    number: int,
    group: dict[str, Any],
) -> Any:
    """What the live scheduler has for a param group without a saved entry."""
    # As when a scheduler is built, a group without initial_lr starts from its lr.
    for key in (option, "lr") if option is not None else ():
        if key in group:
            value = group[key]
            return value.clone() if isinstance(value, Tensor) else value
    if number < len(own):
        return own[number]
    # The group is newer than the scheduler: a value that all groups share, such as
    # one passed as a scalar, is also its own.
    if own and all(_equal(value, own[0]) for value in own):
        return own[0]
    raise ValueError(
        f"The scheduler has no entry in {name} for the param group of "
        f"{quote(group['param_names'], 1)}, which was added after it was built. Build "
        f"the scheduler after adding groups, or add an entry to its {name}."
    )


def _equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:
        # A list of numbers could be compared, so this was not replaced by one.
        return True
