"""The names of the parameters in an optimizer's param groups."""

import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim._param_names.messages import quote


__all__ = [
    "Names",
    "check_names",
    "check_other_keys",
    "is_named",
    "named_params",
    "names_of",
    "not_a_str",
    "unique_names",
]


def is_named(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether every one of the param groups of an optimizer has names."""
    return bool(groups) and all("param_names" in group for group in groups)


class Names(NamedTuple):
    """The names of the parameters in param groups."""

    #: Those in each group, one per parameter.
    groups: list[list[str]]
    #: The parameter of each name.
    params: dict[str, Tensor]


def names_of(groups: Sequence[dict[str, Any]]) -> Names | None:
    """The names of the parameters in an optimizer's param groups.

    Args:
        groups (sequence of dict): param groups, perhaps edited by hand.

    Returns:
        Names or None: the names; None if the groups are unnamed.

    Raises:
        ValueError: if a group does not have one name for each parameter, or if
            two parameters share a name.
        TypeError: if a name is not a str.
    """
    if not is_named(groups):
        return None
    names = []
    for index, group in enumerate(groups):
        try:
            names.append(check_names(group["param_names"], len(group["params"])))
        except (TypeError, ValueError) as error:
            raise type(error)(f"in param group {index}: {error}") from None
    return Names(names, unique_names(groups, names))


def check_names(names: Any, num_params: int) -> list[str]:
    """Check the ``param_names`` of one group.

    Args:
        names: the value of ``param_names``.
        num_params (int): the number of parameters in the group.

    Returns:
        list of str: the names, in a new list.

    Raises:
        TypeError: if ``names`` is not a list of str.
        ValueError: if there is not one name for each parameter.
    """
    no_list = isinstance(names, (str, Mapping, AbstractSet))
    if no_list or not isinstance(names, Iterable):
        raise TypeError(
            "param_names should be a list with a str for each parameter, but got "
            + torch.typename(names)
        )
    checked = list(names)
    for name in checked:
        if not isinstance(name, str):
            raise not_a_str(name)
    if len(checked) != num_params:
        raise ValueError(
            "param_names should have a name for each parameter of the group, but got "
            f"{len(checked)} names for {num_params} parameters"
        )
    return checked


def not_a_str(name: Any) -> TypeError:
    """The error for a parameter name that is not a str."""
    shown = "" if isinstance(name, Tensor) else f"{reprlib.repr(name)} of type "
    return TypeError(
        "parameter names should be of type str, but one of them is "
        f"{shown}{torch.typename(name)}"
    )


def unique_names(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    taken: Collection[str] = (),
) -> dict[str, Tensor]:
    """The parameter of each name.

    Args:
        groups (sequence of dict): param groups.
        names (sequence of sequences of str): the names in each of them.
        taken (collection of str): names of other parameters.

    Raises:
        ValueError: naming those that more than one parameter has.
    """
    by_name: dict[str, Tensor] = {}
    for group, group_names in zip(groups, names):
        by_name.update(zip(group_names, group["params"]))
    if len(by_name) == sum(map(len, names)) and by_name.keys().isdisjoint(taken):
        return by_name
    shared = {
        name: None
        for group, group_names in zip(groups, names)
        for name, param in zip(group_names, group["params"])
        if name in taken or by_name[name] is not param
    }
    if shared:
        raise ValueError(
            "parameter names should be unique, but more than one parameter of the "
            f"optimizer is named {quote(shared)}. Please give them distinct names, for "
            "example with a prefix for each model: "
            "[(f'model1.{name}', p) for name, p in model1.named_parameters()]"
        )
    return by_name


def check_other_keys(others: Iterable[Any], names: Collection[Any]) -> None:
    """Check that no key of other state equals the name of a parameter.

    Raises:
        ValueError: naming the keys that do.
    """
    taken = [key for key in others if isinstance(key, str) and key in names]
    if taken:
        raise ValueError(
            f"the optimizer's state has an entry under {quote(taken)}, which is also "
            "the name of a parameter, so that one would overwrite the other. Please "
            "rename the entry or the parameter"
        )


def named_params(groups: Sequence[dict[str, Any]]) -> list[tuple[str, Tensor]]:
    """The parameters of a named optimizer, each with its name.

    Args:
        groups (sequence of dict): param groups.

    Returns:
        list of (str, Tensor): one pair for each entry of each group's
        ``params``, in order.

    Raises:
        ValueError: if the optimizer is not named; or as :func:`names_of`.
        TypeError: as :func:`names_of`.
    """
    names = names_of(groups)
    if names is None:
        raise ValueError(
            "the optimizer has no parameter names. Please construct it from "
            "model.named_parameters()"
        )
    return [
        pair
        for group, group_names in zip(groups, names.groups)
        for pair in zip(group_names, group["params"])
    ]
