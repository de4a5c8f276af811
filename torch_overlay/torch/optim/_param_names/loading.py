"""Build the state of an optimizer from the saved state of its parameters."""

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.modules.module import _IncompatibleKeys
from torch.optim._param_names.entries import (
    has_shape_of,
    incomplete_state,
    misshapen_state,
)
from torch.optim._param_names.matching import Match
from torch.optim._param_names.messages import load_error, state_error
from torch.optim._param_names.names import names_of


__all__ = [
    "build_state",
    "incompatible_keys",
    "keep_names",
    "undone_on_error",
]

_TENSORS = frozenset([torch.Tensor, Parameter])
_SCALARS = frozenset([bool, int, float, type(None)])


def build_state(
    saved_state: Mapping[Any, Any],
    match: Match,
    own_state: Mapping[Any, Any],
    cast: Callable[..., Any],
    *,
    owner: str = "Optimizer",
    skip_cast: bool = False,
) -> defaultdict[Any, Any]:
    """Give each parameter the state that was saved for it.

    Args:
        saved_state (Mapping): ``state`` of a state dict. It is not changed.
        match (Match): what belongs to what.
        own_state (Mapping): the optimizer's state. In a partial load, parameters
            without saved state keep theirs. It is not changed.
        cast (callable): called with a parameter, its saved state, its saved id
            and a list of its saved group; returns a copy of the state, cast for
            the parameter.
        owner (str): the name of the optimizer's class, for errors.
        skip_cast (bool): whether to copy state that already has the dtype and
            device of its parameter without calling ``cast``.

    Returns:
        defaultdict: the state of each parameter, and entries of other keys.

    Raises:
        ValueError: if the state of a named optimizer has a wrong shape, cannot
            be cast, or lacks what a step needs.
        Exception: what ``cast`` raises, if the optimizer is not named.
    """
    state: defaultdict[Any, Any] = defaultdict(dict)
    skip_cast = skip_cast and not any(map(_may_cast_step, match.sources))
    param_shaped = frozenset(match.entries.param_shaped)
    needed = match.entries.needed_by_any(match.groups)
    is_complete = match.named and not match.partial
    group_of: dict[Any, dict[str, Any]] = {}

    def cast_one(key: Any, param: Tensor, value: Any) -> Any:
        if not has_shape_of(param, value, match.entries):
            problems = misshapen_state(
                match.groups, match.params, saved_state, match.entries
            )
            raise ValueError(load_error(owner, problems))
        if not group_of:
            for group in reversed(match.sources):
                group_of.update(dict.fromkeys(group["params"], group))
        # The cast searches ``params``, which is slow if the list is long.
        group = {**group_of[key], "params": [key]}
        try:
            return cast(param, value, key, [group])
        except Exception as error:
            if match.named:
                raise state_error(owner, key, error) from error
            raise

    with _no_collection():
        for batch in _batches(saved_state.items()):
            keys, values = zip(*batch)
            params = list(map(match.params.get, keys))
            if skip_cast and _need_no_cast(values, params, param_shaped):
                state.update(zip(params, map(dict.copy, values)))
                # All values have the same entries.
                is_complete &= match.entries.suffice(values[0], needed)
                continue
            is_complete = False
            for key, param, value in zip(keys, params, values):
                if param is not None:
                    state[param] = cast_one(key, param, value)
                elif key not in match.ignored:
                    # A __setstate__ may change all dicts that it finds in state.
                    copied = match.named and type(value) is dict
                    state[key] = dict(value) if copied else value
    if match.partial:
        for key, value in own_state.items():
            if key not in state:
                state[key] = dict(value) if type(value) is dict else value
    if match.named and not is_complete:
        problems = incomplete_state(match.groups, state, match.entries)
        if problems:
            raise ValueError(load_error(owner, problems))
    return state


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause garbage collection, which many new objects trigger in vain."""
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


def _may_cast_step(group: Any) -> bool:
    if type(group) is not dict:
        return True
    options = (group.get("fused"), group.get("capturable"))
    return any(option is not None and option is not False for option in options)


def _need_no_cast(
    states: Sequence[Any], params: Sequence[Tensor | None], param_shaped: frozenset[str]
) -> bool:
    """Whether all values are known to have the right dtype, device and shape.

    They are compared entry by entry, which is faster than state by state; so they
    are known only if all states have the same entries, with values of one kind.
    """
    if (
        set(map(type, states)) != {dict}
        or len(set(map(len, states))) != 1
        or not set(map(type, params)) <= _TENSORS
    ):
        return False
    dtypes, devices, shapes = (_read(a, params) for a in ("dtype", "device", "shape"))
    for key in states[0]:
        try:
            values = [state[key] for state in states]
        except KeyError:
            return False
        kinds = set(map(type, values))
        if not kinds <= _TENSORS:
            if key in param_shaped or not kinds <= _SCALARS:
                return False
            continue
        if key in param_shaped and _read("shape", values) != shapes:
            return False
        # "step" stays as it is unless an option of its group says otherwise.
        if key != "step" and (
            _read("dtype", values) != dtypes or _read("device", values) != devices
        ):
            return False
    return True


def _read(attribute: str, tensors: Sequence[Any]) -> list[Any]:
    return list(map(attrgetter(attribute), tensors))


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    unread = iter(items)
    while batch := list(islice(unread, 1_000)):
        yield batch


def incompatible_keys(match: Match) -> _IncompatibleKeys:
    """The result of ``load_state_dict``."""
    keys = _IncompatibleKeys(list(match.missing), list(match.unexpected))
    return keys if match.by_name else _LoadedByPosition(*keys)


class _LoadedByPosition(_IncompatibleKeys):
    """Does not claim that keys match, since none were compared."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Loaded by position>"

    __str__ = __repr__


@contextmanager
def undone_on_error(*attributes: dict[str, Any]) -> Iterator[None]:
    """Restore dicts if the block raises.

    Args:
        attributes (dict): the ``__dict__`` of objects, with their ``defaults``.
            Only entries that differ are set or deleted, so that other threads
            never see an object without its attributes.
    """
    watched = list(attributes)
    for attribute in attributes:
        if isinstance(attribute.get("defaults"), dict):
            watched.append(attribute["defaults"])
    before = [dict(entries) for entries in watched]
    try:
        yield
    except BaseException:
        for entries, old in zip(watched, before):
            for key in entries.keys() - old.keys():
                del entries[key]
            for key, value in old.items():
                if key not in entries or entries[key] is not value:
                    entries[key] = value
        raise


def keep_names(
    groups: Sequence[dict[str, Any]], new_groups: Iterable[dict[str, Any]]
) -> None:
    """Keep an optimizer's names when its param groups are replaced.

    For subclasses that load by position: names from the state dict could move to
    other tensors.

    Args:
        groups (sequence of dict): the optimizer's param groups.
        new_groups (iterable of dict): their replacements. Names that the
            optimizer does not have are replaced by its own.

    Raises:
        ValueError: if a tensor would get the name of another one.
    """
    new_groups = list(new_groups)
    if len(groups) == len(new_groups) and all(
        new.get("params") is old["params"]
        and new.get("param_names") is old.get("param_names")
        for old, new in zip(groups, new_groups)
    ):
        return
    try:
        names = names_of(groups)
    except (TypeError, ValueError):
        names = None  # edited by hand, so that there is nothing to keep
    if names is None:
        return
    by_name = names.params
    own_name = {id(param): name for name, param in reversed(by_name.items())}
    for new in new_groups:
        for name, param in zip(new.get("param_names") or (), new.get("params", ())):
            other = by_name.get(name)
            if other is not None and other is not param and id(param) in own_name:
                raise ValueError(
                    f'the parameter "{own_name[id(param)]}" would be named "{name}", '
                    "which is the name of another parameter of the optimizer. The state "
                    "dict is loaded by position, but has its parameters in another "
                    "order. Please construct the optimizer with its parameters in the "
                    "saved order"
                )
    for new in new_groups:
        given = new.get("param_names") or ()
        known = [own_name.get(id(param)) for param in new.get("params", ())]
        usable = len(given) == len(known) and by_name.keys() >= set(given)
        if not usable and None not in known:
            new["param_names"] = known
