"""Find out of which kind a saved state dict is, and read its names.

A saved state dict is

* *named* if its groups list names as ``params``: what a named optimizer saves,
  and what distributed checkpoints hold;
* *annotated* if they list other ids, with ``param_names`` beside them: what
  named optimizers saved from release 2.6 on;
* *indexed* otherwise.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.optim._param_names.names import check_names


__all__ = [
    "SavedNames",
    "SavedState",
    "check_form",
    "check_type",
    "param_names_of",
    "read_state_dict",
    "saved_names",
]


class SavedNames(NamedTuple):
    """The names of the parameters in a saved state dict."""

    #: The names in each group, one for each of its ids; None if indexed.
    groups: list[list[str]] | None
    #: Whether the state dict is named, so that the ids themselves are the names.
    named: bool
    #: Why the names that are there cannot be used, as a full sentence.
    problem: str | None = None


class SavedState(NamedTuple):
    """A saved state dict whose form has been checked."""

    groups: Sequence[dict[str, Any]]
    state: Mapping[Any, Any]
    names: SavedNames
    #: Whether it has no ``param_groups``. Its state is keyed by name then, and
    #: ``groups`` lists these names.
    alone: bool


def read_state_dict(
    state_dict: Mapping[str, Any], *, needs_groups: bool = False
) -> SavedState:
    """Check the form of a state dict, and read its names.

    Args:
        state_dict (Mapping): the state dict of an optimizer.
        needs_groups (bool): whether it must have ``param_groups``.

    Raises:
        TypeError, KeyError: as :func:`check_form`, or if an entry is missing.
        ValueError: as :func:`saved_names`, or if the keys of state alone are not
            names.
    """
    alone = "param_groups" not in state_dict
    if alone and (needs_groups or "state" not in state_dict):
        raise _missing_entry(state_dict, "param_groups")
    if "state" not in state_dict:
        raise _missing_entry(state_dict, "state")
    state = state_dict["state"]
    groups = _as_one_group(state) if alone else state_dict["param_groups"]
    check_form(groups, state)
    return SavedState(groups, state, saved_names(groups), alone)


def saved_names(groups: Sequence[dict[str, Any]]) -> SavedNames:
    """Read the names of the parameters in a saved state dict.

    Args:
        groups (sequence of dict): the ``param_groups`` of a state dict.

    Returns:
        SavedNames: the names. A state dict with unusable names counts as indexed,
        and the result has the reason.

    Raises:
        ValueError: if only some of the ids are str.
    """
    ids = list(chain.from_iterable(group["params"] for group in groups))
    num_str = sum(isinstance(param_id, str) for param_id in ids)
    if 0 < num_str < len(ids):
        raise ValueError(
            "the param_groups of the state_dict mix parameter names with other ids in "
            f"'params': {num_str} of {len(ids)} are of type str"
        )
    if num_str:
        return SavedNames([list(group["params"]) for group in groups], named=True)
    return param_names_of(groups)


def param_names_of(groups: Sequence[dict[str, Any]]) -> SavedNames:
    """:func:`saved_names`, but from ``param_names`` only, whatever the ids are."""
    without = [i for i, group in enumerate(groups) if "param_names" not in group]
    if len(without) == len(groups):
        return SavedNames(None, named=False)
    if without:
        return _unusable(f"param group {without[0]} of the state_dict has none")
    names = []
    id_of: dict[str, Hashable] = {}
    for index, group in enumerate(groups):
        try:
            names.append(check_names(group["param_names"], len(group["params"])))
        except (TypeError, ValueError) as error:
            return _unusable(f"in param group {index} of the state_dict, {error}")
        for name, param_id in zip(names[-1], group["params"]):
            if id_of.setdefault(name, param_id) != param_id:
                return _unusable(
                    f'the name "{name}" stands for more than one parameter of the '
                    "state_dict"
                )
    return SavedNames(names, named=False)


def check_type(state_dict: Any) -> None:
    """Raise TypeError if this is not a mapping."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "Expected state_dict to be dict-like, got " + torch.typename(state_dict)
        )


def _missing_entry(state_dict: Mapping[Any, Any], entry: str) -> KeyError:
    """The error for a state dict that lacks one of its entries.

    Args:
        state_dict (Mapping): what was to be loaded. Often it is a whole
            checkpoint with the optimizer's state dict as one of its entries.
        entry (str): what it lacks.
    """
    message = f"the state_dict has no {entry!r}"
    for key, value in state_dict.items():
        if isinstance(value, Mapping) and entry in value:
            message += (
                f", but its entry {key!r} has. Please load that part of the "
                f"checkpoint: state_dict[{key!r}]"
            )
            break
    return KeyError(message)


def check_form(groups: Any, state: Any) -> None:
    """Check the types of a state dict's parts.

    Args:
        groups: the value of ``param_groups``.
        state: the value of ``state``.

    Raises:
        TypeError: if something has the wrong type.
        KeyError: if a group has no ``params``.
    """
    if not isinstance(state, Mapping):
        raise TypeError(
            f"'state' of the state_dict should be a dict, but is {torch.typename(state)}"
        )
    if not isinstance(groups, (list, tuple)):
        raise TypeError(
            "'param_groups' of the state_dict should be a list of dicts, but is "
            + torch.typename(groups)
        )
    for index, group in enumerate(groups):
        where = f"param group {index} of the state_dict"
        if not isinstance(group, dict):
            raise TypeError(f"{where} should be a dict, but is {torch.typename(group)}")
        if "params" not in group:
            raise KeyError(f"{where} has no 'params'")
        if not isinstance(group["params"], (list, tuple)):
            raise TypeError(
                f"'params' of {where} should be a list of ids, but is "
                + torch.typename(group["params"])
            )
        for kind in set(map(type, group["params"])):
            # Tensors are hashable, but cannot be compared like ids
            if not issubclass(kind, Hashable) or issubclass(kind, torch.Tensor):
                raise TypeError(
                    f"'params' of {where} should be a list of ids, but one of them is "
                    f"of type {kind.__name__}"
                )


def _as_one_group(state: Any) -> list[dict[str, Any]]:
    """A single param group with all parameters of ``state``."""
    if not isinstance(state, Mapping):
        return []
    for key, value in state.items():
        if isinstance(value, Mapping) and not isinstance(key, str):
            raise ValueError(
                "a state_dict without 'param_groups' should have parameter names as the "
                f"keys of its 'state', but one of them is {key!r}. Please load the whole "
                "state_dict of the optimizer"
            )
    return [{"params": [k for k, v in state.items() if isinstance(v, Mapping)]}]


def _unusable(reason: str) -> SavedNames:
    return SavedNames(
        None,
        named=False,
        problem=f"The param_names of the loaded state_dict cannot be used: {reason}.",
    )
