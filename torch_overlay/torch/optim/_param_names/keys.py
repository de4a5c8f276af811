"""Give each parameter the key that stands for it in a state dict."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, count
from operator import is_
from typing import Any, TypeVar

from torch import Tensor
from torch.optim._param_names.messages import quote
from torch.optim._param_names.reading import check_names


__all__ = [
    "check_other_keys",
    "check_unique",
    "group_names",
    "indices",
    "is_named",
    "named_params",
    "own_names",
    "pack",
    "pack_state",
    "param_keys",
    "params_by_name",
]


_Id = TypeVar("_Id", bound=Hashable)


def is_named(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether every one of the param groups of an optimizer has names."""
    for group in groups:
        if "param_names" not in group:
            return False
    return bool(groups)


def group_names(groups: Sequence[dict[str, Any]]) -> list[list[str]] | None:
    """The names of the parameters of each param group of an optimizer.

    Args:
        groups (sequence of dict): param groups, perhaps edited by hand.

    Returns:
        list of lists of str, or None: the names, group by group; None if the
        optimizer is not named.

    Raises:
        ValueError: if a group has not one name for each parameter, or if two
            parameters have one name.
        TypeError: if a name is not a string.
    """
    names = own_names(groups)
    if names is not None:
        check_unique(groups, names)
    return names


def check_unique(
    groups: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]
) -> None:
    """Check that no two parameters have one name.

    Args:
        groups (sequence of dict): param groups.
        names (sequence of sequences of str): the names in each of them.

    Raises:
        ValueError: naming those that are shared.
    """
    if len(set().union(*names)) != sum(map(len, names)):
        by_name = params_by_name(groups, names)
        shared = {
            name: None
            for group, own in zip(groups, names)
            for name, param in zip(own, group["params"])
            if by_name[name] is not param
        }
        if shared:
            raise ValueError(_not_unique(shared))


def own_names(groups: Sequence[dict[str, Any]]) -> list[list[str]] | None:
    """As :func:`group_names`, but without a check that names are unique."""
    if not is_named(groups):
        return None
    names = []
    for index, group in enumerate(groups):
        try:
            names.append(check_names(group["param_names"], len(group["params"])))
        except (TypeError, ValueError) as error:
            raise type(error)(f"in param group {index}: {error}") from None
    return names


def _not_unique(names: Iterable[str]) -> str:
    return (
        "parameter names should be unique, but more than one parameter of the "
        f"optimizer is named {quote(names)}"
    )


def params_by_name(
    groups: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]
) -> dict[str, Tensor]:
    """The parameter of each name.

    Args:
        groups (sequence of dict): param groups.
        names (sequence of sequences of str): the names in each of them.

    Returns:
        dict: maps each name to its parameter.
    """
    by_name: dict[str, Tensor] = {}
    for group, own in zip(groups, names):
        by_name.update(zip(own, group["params"]))
    return by_name


def param_keys(groups: Sequence[dict[str, Any]]) -> dict[int, str] | dict[int, int]:
    """The key of each parameter in a state dict: its name, or else its index.

    Args:
        groups (sequence of dict): param groups, perhaps edited by hand.

    Returns:
        dict: maps the ``id()`` of each parameter to its key. A parameter with
        several names has the first of them as its key.

    Raises:
        ValueError, TypeError: as :func:`group_names` does.
    """
    return _keys_of(groups, group_names(groups))


def _keys_of(
    groups: Sequence[dict[str, Any]], names: list[list[str]] | None
) -> dict[int, str] | dict[int, int]:
    if names is not None:
        by_id: dict[int, str] = {}
        for group, own in zip(groups, names):
            by_id.update(zip(map(id, group["params"]), own))
        if len(by_id) != sum(map(len, names)):
            # Backwards, so that the first name of a parameter is the one that stays.
            for group, own in zip(reversed(groups), reversed(names)):
                by_id.update(zip(map(id, reversed(group["params"])), reversed(own)))
        return by_id
    return indices([map(id, group["params"]) for group in groups])


def indices(groups: Iterable[Iterable[_Id]]) -> dict[_Id, int]:
    """Number what is in param groups, as an optimizer without names does.

    Args:
        groups (iterable of iterables): what stands for the parameters of each
            group.

    Returns:
        dict: the index of each. One that is in several groups has its index in
        the first of them; one that is twice in a group, the last there.
    """
    numbered: dict[_Id, int] = {}
    start = 0
    for group in groups:
        ids = list(group)
        own = dict(zip(ids, count(start)))
        start += len(ids)
        if not numbered:
            numbered = own
        elif numbered.keys().isdisjoint(own):
            numbered.update(own)
        else:
            numbered.update({i: k for i, k in own.items() if i not in numbered})
    return numbered


def pack(
    groups: Sequence[dict[str, Any]], state: Mapping[Any, Any]
) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """Replace the parameters in an optimizer's state and groups by their keys.

    Args:
        groups (sequence of dict): param groups, perhaps edited by hand.
        state (Mapping): the state of each parameter, and entries of other
            keys.

    Returns:
        (dict, list of dict): the state, in its order; new param groups, whose
        ``params``, now the last entry, are keys. Other values are not copied.

    Raises:
        ValueError, TypeError: as :func:`group_names` and :func:`pack_state` do.
        KeyError: as :func:`pack_state` does.
    """
    names = own_names(groups)
    params = list(chain.from_iterable(group["params"] for group in groups))
    in_order: list[Any] = list(
        range(len(params)) if names is None else chain.from_iterable(names)
    )
    if len(state) == len(params) and all(map(is_, state, params)):
        # After a step, mostly. Then no parameter is there twice, and none has to be
        # looked up.
        packed_state: dict[Any, Any] = dict(zip(in_order, state.values()))
        if names is not None and len(packed_state) != len(in_order):
            check_unique(groups, names)
    else:
        keys = _keys_of(groups, names)
        if len(keys) != len(params):  # some parameters are there more than once
            in_order = [keys[id(param)] for param in params]
        packed_state = pack_state(state, keys)
    ends = list(accumulate(len(group["params"]) for group in groups))
    packed_groups = []
    for group, start, end in zip(groups, [0, *ends], ends):
        packed = dict(group)
        del packed["params"]
        packed["params"] = in_order[start:end]
        packed_groups.append(packed)
    return packed_state, packed_groups


def pack_state(
    state: Mapping[Any, Any], keys: Mapping[int, str] | Mapping[int, int]
) -> dict[Any, Any]:
    """Replace the parameters in an optimizer's state by their keys.

    Args:
        state (Mapping): the state of each parameter, and entries of other
            keys, which are kept as they are.
        keys (Mapping): the key of each parameter, by the ``id()`` of it.

    Returns:
        dict: the state, in its order. The values are not copied.

    Raises:
        KeyError: if there is state for a tensor that is in no param group.
        ValueError: if a key that is no tensor equals the name of a parameter,
            or if two parameters have one name.
    """
    try:
        # No other key can have the id of a parameter.
        packed = dict(zip(map(keys.__getitem__, map(id, state)), state.values()))
    except KeyError:
        _check_unique(keys)
        return _pack_other_state(state, keys)
    if len(packed) != len(keys):  # else each key is there, once
        _check_unique(keys)
    return packed


def _check_unique(keys: Mapping[int, str] | Mapping[int, int]) -> None:
    if len(set(keys.values())) != len(keys):
        counts = Counter(keys.values())
        raise ValueError(_not_unique([str(k) for k in counts if counts[k] > 1]))


def _pack_other_state(
    state: Mapping[Any, Any], keys: Mapping[int, str] | Mapping[int, int]
) -> dict[Any, Any]:
    for key in state:
        if isinstance(key, Tensor) and id(key) not in keys:
            raise KeyError(
                f"the optimizer has state for a Tensor of shape {tuple(key.shape)} that "
                "is in none of its param groups. Please delete its entry from "
                "optimizer.state, or add the Tensor to a param group"
            )
    check_other_keys([k for k in state if isinstance(k, str)], set(keys.values()))
    return {keys.get(id(k), k): v for k, v in state.items()}


def named_params(groups: Sequence[dict[str, Any]]) -> list[tuple[str, Tensor]]:
    """The parameters of a named optimizer, each with its name.

    Args:
        groups (sequence of dict): param groups.

    Returns:
        list of (str, Tensor): one pair for each entry of each group's
        ``params``, in order.

    Raises:
        ValueError: if the optimizer is not named, and as :func:`group_names`
            does.
    """
    names = group_names(groups)
    if names is None:
        raise ValueError(
            "the optimizer has no parameter names. Please construct it from "
            "model.named_parameters()"
        )
    return [
        pair for group, own in zip(groups, names) for pair in zip(own, group["params"])
    ]


def check_other_keys(others: Iterable[Any], names: Collection[Any]) -> None:
    """Check that keys of state that are no parameters equal no name.

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
