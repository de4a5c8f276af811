"""Which entries the state of a parameter has, and whether saved state fits."""

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim._param_names.messages import quote
from torch.optim._param_names.saving import param_keys


__all__ = [
    "StateEntries",
    "entries_of",
    "has_shape_of",
    "incomplete_state",
    "is_on",
    "misshapen_state",
]

#: How many parameters with unusable state an error describes.
MAX_DESCRIBED = 10

#: A subclass that overrides one of these may keep other state.
_METHODS_OF_STATE = ("step", "_init_group", "state_dict", "load_state_dict")

#: Options that decide on which device "step" is.
_OPTIONS_OF_STEP = ("capturable", "fused")


@dataclass(frozen=True)
class StateEntries:
    """The entries of the state that an optimizer keeps for each parameter."""

    #: Entries with the shape of the parameter.
    param_shaped: tuple[str, ...] = ()
    #: Other entries that always exist.
    others: tuple[str, ...] = ()
    #: Entries of ``param_shaped`` that may be absent, each with the option that
    #: requires it, or None.
    optional: Mapping[str, str | None] = field(default_factory=dict)
    #: Alternatives: a step needs all entries of one of these.
    one_of: tuple[tuple[str, ...], ...] = ()

    @property
    def deciding_options(self) -> list[str]:
        """The options that decide which state exists."""
        options = [option for option in self.optional.values() if option is not None]
        return [*options, *(_OPTIONS_OF_STEP if "step" in self.others else ())]

    def needed(self, group: Mapping[str, Any]) -> dict[str, str | None]:
        """The entries that a step needs, each with the option that requires it."""
        needed = dict.fromkeys(
            key
            for key in (*self.others, *self.param_shaped)
            if key not in self.optional
        )
        for key, option in self.optional.items():
            if option is not None and is_on(group, option):
                needed[key] = option
        return needed

    def needed_by_any(self, groups: Iterable[Mapping[str, Any]]) -> set[str]:
        """The entries that a step needs for at least one of the param groups."""
        return set().union(*map(self.needed, groups))

    def has_one(self, found: Collection[str]) -> bool:
        """Whether there are all entries of one of the alternatives."""
        return not self.one_of or any(
            all(key in found for key in keys) for keys in self.one_of
        )

    def suffice(self, found: Collection[str], needed: Iterable[str]) -> bool:
        """Whether entries are all that a step needs."""
        return self.has_one(found) and all(key in found for key in needed)

    def describe(self, value: Any) -> bool:
        """Whether something looks like the state of a parameter."""
        return isinstance(value, Mapping) and any(
            key in value for key in (*self.param_shaped, *self.others)
        )


def is_on(group: Mapping[str, Any], option: str) -> bool:
    """Whether an option of a param group is set: not missing, false or zero."""
    try:
        return bool(group.get(option))
    except Exception:
        return True  # such as a Tensor of several elements


def entries_of(cls: type[Any]) -> StateEntries:
    """The ``_state_entries`` of an optimizer's class.

    A class inherits them, unless it overrides a method that creates, saves or
    loads state.

    Returns:
        StateEntries: the entries; empty if they are unknown.
    """
    for declaring in cls.__mro__:
        if "_state_entries" in vars(declaring):
            inherited = all(
                _original(cls, name) is _original(declaring, name)
                for name in _METHODS_OF_STATE
            )
            entries: StateEntries = vars(declaring)["_state_entries"]
            return entries if inherited else StateEntries()
    return StateEntries()


def _original(cls: type[Any], name: str) -> Any:
    # Without the profiler's wrapper, which each class gets when it is first used.
    return inspect.unwrap(getattr(cls, name, None))  # type: ignore[arg-type]


def misshapen_state(
    groups: Sequence[dict[str, Any]],
    params: Mapping[Any, Tensor],
    saved_state: Mapping[Any, Any],
    entries: StateEntries,
) -> list[str]:
    """Describe saved state that does not have the shape of its parameter.

    Args:
        groups (sequence of dict): the optimizer's param groups, with names.
        params (Mapping): the parameter of each saved id. Lazy parameters without
            a shape are not checked.
        saved_state (Mapping): ``state`` of the state dict.
        entries (StateEntries): the entries to compare.

    Returns:
        list of str: full sentences.
    """
    if not entries.param_shaped:
        return []
    misshapen = [
        (param_id, params[param_id])
        for param_id, state in saved_state.items()
        if param_id in params and not has_shape_of(params[param_id], state, entries)
    ]
    if not misshapen:
        return []
    names = param_keys(groups)
    problems = [
        f'The state of "{names[id(param)]}" {reason}.'
        for param_id, param in misshapen[:MAX_DESCRIBED]
        for reason in _reasons(saved_state[param_id], param, entries)
    ]
    if len(misshapen) > MAX_DESCRIBED:
        problems.append(
            f"The state of {len(misshapen) - MAX_DESCRIBED} more parameters does not fit."
        )
    problems.append(
        "If a parameter has another size on purpose, delete its saved state to start it "
        f"anew (del state_dict['state'][{misshapen[0][0]!r}]), or pad the tensors to its "
        "shape."
    )
    return problems


def has_shape_of(param: Tensor, state: Any, entries: StateEntries) -> bool:
    """Whether the saved state of a parameter has the parameter's shape."""
    if not entries.param_shaped:
        return True
    if type(state) is not dict and not isinstance(state, Mapping):
        return False
    if is_lazy(param):
        return True
    shape, get = param.shape, state.get
    for key in entries.param_shaped:
        value = get(key)
        if value is not None and (
            not isinstance(value, Tensor) or value.shape != shape
        ):
            return False
    return True


def _reasons(state: Any, param: Tensor, entries: StateEntries) -> Iterator[str]:
    if not isinstance(state, Mapping):
        yield f"should be a dict, but is {torch.typename(state)}"
        return
    for key in entries.param_shaped:
        value = state.get(key)
        if isinstance(value, Tensor):
            if value.shape != param.shape:
                yield (
                    f'has a size mismatch: "{key}" has shape {tuple(value.shape)} '
                    "in the state_dict, but the parameter has shape "
                    f"{tuple(param.shape)}"
                )
        elif value is not None:
            kind = torch.typename(value)
            yield f'should have a Tensor as "{key}", but has {kind}'


def incomplete_state(
    groups: Sequence[dict[str, Any]],
    state: Mapping[Any, Any],
    entries: StateEntries,
) -> list[str]:
    """Describe state that lacks an entry which the next step needs.

    Args:
        groups (sequence of dict): the param groups after a load, with names.
        state (Mapping): the state of each parameter after the load.
        entries (StateEntries): what a step needs.

    Returns:
        list of str: a full sentence for each of the first parameters.
    """
    # Many parameters have the same entries, and what any group needs
    kinds: set[tuple[Any, ...]] = {
        tuple(s) if type(s) is dict else (None,) for s in state.values()
    } - {()}
    needed_by_any = entries.needed_by_any(groups)
    if all(entries.suffice(kind, needed_by_any) for kind in kinds):
        return []
    problems: list[str] = []
    for group in groups:
        needed = entries.needed(group)
        for name, param in zip(group["param_names"], group["params"]):
            found = state.get(param)
            if not found or entries.suffice(found, needed):
                continue
            if len(problems) == MAX_DESCRIBED:
                return [*problems, "And so on."]
            for key, option in needed.items():
                if key not in found:
                    why = f", which {option}={group[option]!r} needs" if option else ""
                    problems.append(f'The state of "{name}" has no "{key}"{why}.')
                    break
            else:
                either = " or ".join(quote(keys) for keys in entries.one_of)
                problems.append(f'The state of "{name}" has neither {either}.')
    return problems
