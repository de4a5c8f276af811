"""Give each parameter the key that stands for it in a state dict."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

from torch import Tensor
from torch.optim._param_names.names import check_other_keys, names_of


__all__ = ["indices", "pack", "pack_state", "param_keys"]


_Id = TypeVar("_Id", bound=Hashable)


def param_keys(groups: Sequence[dict[str, Any]]) -> dict[int, str] | dict[int, int]:
    """The key of each parameter in a state dict: its name, or else its index.

    Args:
        groups (sequence of dict): param groups, perhaps edited by hand.

    Returns:
        dict: maps the ``id()`` of each parameter to its key. The first name of
        a parameter with several names is its key.

    Raises:
        ValueError, TypeError: as
            :func:`~torch.optim._param_names.names.names_of`.
    """
    names = names_of(groups)
    if names is None:
        return indices([map(id, group["params"]) for group in groups])
    keys: dict[int, str] = {}
    # Backwards, so that the first name of a parameter wins
    for group, group_names in zip(reversed(groups), reversed(names.groups)):
        keys.update(zip(map(id, reversed(group["params"])), reversed(group_names)))
    return keys


def indices(groups: Iterable[Iterable[_Id]]) -> dict[_Id, int]:
    """Number parameters as an optimizer without names does.

    Args:
        groups (iterable of iterables): the ids of the parameters of each group.

    Returns:
        dict: the index of each id: in the first of several groups, and at the
        last position in a group.
    """
    numbered: dict[_Id, int] = {}
    start = 0
    for group in groups:
        ids = list(group)
        for param_id, index in dict(zip(ids, count(start))).items():
            numbered.setdefault(param_id, index)
        start += len(ids)
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
        (dict, list of dict): the state, in its order; new param groups with keys
        as ``params``, which is the last entry. Other values are not copied.

    Raises:
        ValueError, TypeError: as :func:`param_keys` and :func:`pack_state`.
        KeyError: as :func:`pack_state`.
    """
    keys = param_keys(groups)
    packed_groups = []
    for group in groups:
        packed = dict(group)
        del packed["params"]
        packed["params"] = [keys[id(param)] for param in group["params"]]
        packed_groups.append(packed)
    return pack_state(state, keys), packed_groups


def pack_state(
    state: Mapping[Any, Any], keys: Mapping[int, str] | Mapping[int, int]
) -> dict[Any, Any]:
    """Replace the parameters in an optimizer's state by their keys.

    Args:
        state (Mapping): the state of each parameter, and entries of other
            keys, which are kept as they are.
        keys (Mapping): the key of each parameter, by its ``id()``.

    Returns:
        dict: the state, in its order. The values are not copied.

    Raises:
        KeyError: if there is state for a tensor that is in no param group.
        ValueError: if a key that is not a tensor equals a parameter's name.
    """
    try:
        # No other key can have the id of a parameter.
        return dict(zip(map(keys.__getitem__, map(id, state)), state.values()))
    except KeyError:
        pass
    for key in state:
        if isinstance(key, Tensor) and id(key) not in keys:
            raise KeyError(
                f"the optimizer has state for a Tensor of shape {tuple(key.shape)} that "
                "is in none of its param groups. Please delete its entry from "
                "optimizer.state, or add the Tensor to a param group"
            )
    check_other_keys(state, set(keys.values()))
    return {keys.get(id(k), k): v for k, v in state.items()}
