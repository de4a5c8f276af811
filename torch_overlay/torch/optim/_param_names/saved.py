"""Read parameter names from a saved state dict."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.optim._param_names.plain import IDS
from torch.optim._param_names.reading import check_names


__all__ = ["SavedNames", "check_form", "check_type", "saved_names"]


class SavedNames(NamedTuple):
    """What a saved state dict says of the names of its parameters.

    A saved state dict is *named* if its groups list names as ``params`` (what
    a named optimizer writes, and what distributed checkpoints hold),
    *annotated* if they list other ids and have ``param_names`` beside them
    (what named optimizers wrote from release 2.6 on), else *indexed*.
    """

    #: The names in each group, one for each of its ids; None if indexed.
    groups: list[list[str]] | None
    #: Whether the ids themselves are the names.
    named: bool
    #: Why names that are there cannot be used, as a full sentence.
    problem: str | None = None


def saved_names(groups: Sequence[dict[str, Any]]) -> SavedNames:
    """Find out whether and how a saved state dict names its parameters.

    Args:
        groups (sequence of dict): the ``param_groups`` of a state dict.

    Returns:
        SavedNames: the names; with names that cannot be used, those of an
        indexed state dict, and the reason.

    Raises:
        ValueError: if some of the ids are strings and others are not, so that
            it cannot be said whether the strings are names.
    """
    kinds = set(map(type, chain.from_iterable(group["params"] for group in groups)))
    strings = [kind for kind in kinds if issubclass(kind, str)]
    if strings and len(strings) < len(kinds):
        num_ids = sum(len(group["params"]) for group in groups)
        num_str = sum(isinstance(i, str) for group in groups for i in group["params"])
        raise ValueError(
            "the param_groups of the state_dict mix parameter names with other ids in "
            f"'params': {num_str} of {num_ids} are of type str"
        )
    if strings:
        return SavedNames([list(group["params"]) for group in groups], named=True)
    without = [i for i, group in enumerate(groups) if "param_names" not in group]
    if len(without) == len(groups):
        return SavedNames(None, named=False)
    if without:
        return _unusable(f"param group {without[0]} of the state_dict has none")
    names = []
    first_id: dict[str, Hashable] = {}
    for index, group in enumerate(groups):
        try:
            names.append(check_names(group["param_names"], len(group["params"])))
        except (TypeError, ValueError) as error:
            return _unusable(f"in param group {index} of the state_dict, {error}")
        for name, param_id in zip(names[-1], group["params"]):
            if first_id.setdefault(name, param_id) != param_id:
                return _unusable(
                    f'the name "{name}" stands for more than one parameter of the '
                    "state_dict"
                )
    return SavedNames(names, named=False)


def check_type(state_dict: Any) -> None:
    """Check that what is to be loaded is a state dict at all.

    Raises:
        TypeError: if it is no mapping.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "Expected state_dict to be dict-like, got " + torch.typename(state_dict)
        )


def check_form(groups: Any, state: Any) -> None:
    """Check that what was loaded has the form of a state dict.

    Args:
        groups: what stands under ``param_groups``.
        state: what stands under ``state``.

    Raises:
        TypeError: if something is not of the type that a state dict has there.
        KeyError: if a group has no ``params``.
    """
    if type(state) is not dict and not isinstance(state, Mapping):
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
        for kind in set(map(type, group["params"])) - IDS:
            # Tensors are hashable, but cannot be told from each other by comparison.
            if not issubclass(kind, Hashable) or issubclass(kind, torch.Tensor):
                raise TypeError(
                    f"'params' of {where} should be a list of ids, but one of them is "
                    f"of type {kind.__name__}"
                )


def _unusable(reason: str) -> SavedNames:
    return SavedNames(
        None,
        named=False,
        problem=f"The param_names of the loaded state_dict cannot be used: {reason}.",
    )
