"""Match a saved state dict against the parameters of an optimizer.

If both sides have names, parameters are matched by name, else by position. A named
optimizer keeps its names; an unnamed one takes over valid ``param_names``. A state
dict without ``param_groups``, *state alone*, is keyed by name.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim._param_names.entries import misshapen_state, StateEntries
from torch.optim._param_names.messages import load_error, prefix_hint, quote
from torch.optim._param_names.names import (
    check_other_keys,
    check_unique,
    names_of,
    params_by_name,
)
from torch.optim._param_names.options import (
    agreed_options,
    copy_options,
    deep_copy,
    groups_differ,
    mixed_options,
    pair_groups,
)
from torch.optim._param_names.saved import (
    check_form,
    missing_entry,
    param_names_of,
    saved_names,
    SavedNames,
)


__all__ = ["Match", "match_state_dict"]


@dataclass(eq=False)
class Match:
    """Which part of a saved state dict belongs to which part of an optimizer."""

    #: The saved ids, in order, perhaps with repetitions.
    ids: Sequence[Hashable]
    #: The optimizer's parameter for each saved id that has one.
    params: Mapping[Hashable, Tensor]
    #: The new param groups, in the optimizer's order. Their ``params`` are the
    #: optimizer's own lists.
    groups: list[dict[str, Any]]
    #: Param groups with saved ids as ``params``, whose options decide how state
    #: is cast.
    sources: Sequence[dict[str, Any]]
    #: Whether the optimizer has names.
    named: bool = False
    #: Whether the parameters were matched by name.
    by_name: bool = False
    #: Whether the optimizer keeps what the state dict lacks.
    partial: bool = False
    #: The entries of a parameter's state.
    entries: StateEntries = field(default_factory=StateEntries)
    #: The keys of saved state that is not loaded.
    ignored: Collection[Hashable] = ()
    #: Names that only the optimizer has.
    missing: Sequence[str] = ()
    #: Names that only the state dict has.
    unexpected: Sequence[Any] = ()
    #: Texts of warnings for the user.
    warnings: Sequence[str] = ()


def match_state_dict(
    groups: Sequence[dict[str, Any]],
    state_dict: Mapping[str, Any],
    *,
    strict: bool = True,
    own_state: Mapping[Any, Any] | None = None,
    entries: StateEntries | None = None,
    owner: str = "Optimizer",
) -> Match:
    """Match a saved state dict against the param groups of an optimizer.

    Nothing that is passed is changed.

    Args:
        groups (sequence of dict): the optimizer's param groups.
        state_dict (Mapping): the saved state dict.
        strict (bool): whether both sides must have the same names in the same
            groups if they are matched by name.
        own_state (Mapping, optional): the optimizer's state.
        entries (StateEntries, optional): the entries of a parameter's state, which
            are checked if the optimizer is named.
        owner (str): the name of the optimizer's class, for errors.

    Returns:
        Match: the match.

    Raises:
        ValueError: if groups, names or shapes differ.
        TypeError, KeyError: if this is not a state dict.
    """
    names = names_of(groups)
    if names is None:
        return _match_unnamed(groups, state_dict, strict)
    alone = "param_groups" not in state_dict
    if "state" not in state_dict:
        raise missing_entry(state_dict, "param_groups" if alone else "state")
    state = state_dict["state"]
    saved_groups = _as_one_group(state) if alone else state_dict["param_groups"]
    check_form(saved_groups, state)
    saved = saved_names(saved_groups)
    entries = StateEntries() if entries is None else entries
    if alone or _can_match_by_name(names, saved, strict):
        sides = _compare(groups, names, saved_groups, saved, state, entries)
        match = _match_by_name(
            groups,
            saved_groups,
            sides,
            state,
            own_state or {},
            entries,
            strict,
            alone,
            owner,
        )
        if not saved.named:
            match.warnings = _order_warnings(sides)
    else:
        match = _match_by_position(groups, saved_groups, strict)
        by_name = params_by_name(groups, names)
        check_other_keys([k for k in state if k not in match.params], by_name)
        if saved.problem is not None:
            match.warnings = [f"{saved.problem} {_BY_POSITION}"]
        elif saved.groups is not None:
            match.warnings = [_nothing_in_common(by_name, saved.groups)]
    for new, group in zip(match.groups, groups):
        new["param_names"] = group["param_names"]
        new["params"] = group["params"]
    match.named, match.entries = True, entries
    return match


def _match_by_name(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    sides: "_Sides",
    state: Mapping[Any, Any],
    own_state: Mapping[Any, Any],
    entries: StateEntries,
    strict: bool,
    alone: bool,
    owner: str,
) -> Match:
    """Match the two sides, or raise one error for all differences."""
    problems = list(sides.problems)
    if strict:
        problems += _name_problems(sides, alone)
    new_groups: list[dict[str, Any]] = []
    if alone:
        new_groups = [dict(group) for group in groups]
    elif not strict:
        new_groups = _partial_groups(groups, saved_groups, sides)
        origins = _origins(groups, saved_groups, sides, state, own_state)
        problems += mixed_options(
            new_groups, sides.names, origins, entries.deciding_options
        )
    elif not sides.problems:
        order = pair_groups(sides.names, len(saved_groups), sides.saved_in)
        if order is None:
            problems.append(
                groups_differ(sides.names, len(saved_groups), sides.saved_in)
            )
        else:
            options = copy_options(saved_groups)
            new_groups = [options[index] for index in order]
    if problems:
        problems += misshapen_state(groups, sides.ids_to_params, state, entries)
        raise ValueError(load_error(owner, problems))
    partial = alone or not strict
    return Match(
        list(chain.from_iterable(group["params"] for group in saved_groups)),
        sides.ids_to_params,
        new_groups,
        _with_saved_ids(new_groups, sides) if partial else saved_groups,
        by_name=True,
        partial=partial,
        ignored=sides.ignored,
        missing=sides.missing,
        unexpected=sides.unexpected,
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


def _can_match_by_name(
    names: Sequence[Sequence[str]],
    saved: SavedNames,
    strict: bool,
) -> bool:
    if saved.groups is None:
        return False
    # Groups of equal sizes without a common name are probably the same parameters
    # under other names, such as those of a wrapped model. Releases that save such
    # files load them by position.
    return (
        saved.named
        or not strict
        or not set().union(*names).isdisjoint(chain.from_iterable(saved.groups))
        or list(map(len, names)) != list(map(len, saved.groups))
    )


_BY_POSITION = "Its state is loaded by position, as releases before this one do."


def _nothing_in_common(ours: Collection[str], theirs: Iterable[Sequence[str]]) -> str:
    hint = prefix_hint(list(ours), list(chain.from_iterable(theirs)))
    return (
        "None of the param_names of the loaded state_dict is the name of a parameter "
        f"of the optimizer. {hint + ' ' if hint else ''}{_BY_POSITION}"
    )


def _match_unnamed(
    groups: Sequence[dict[str, Any]], state_dict: Mapping[str, Any], strict: bool
) -> Match:
    """Match by position, and adopt the ``param_names`` of the state dict."""
    saved_groups = state_dict["param_groups"]
    match = _match_by_position(groups, saved_groups, strict)
    try:
        saved = param_names_of(saved_groups)
        problem = saved.problem
        if saved.groups is not None:
            check_unique(groups, saved.groups)
            others = [key for key in state_dict["state"] if key not in match.params]
            check_other_keys(others, set(chain.from_iterable(saved.groups)))
    except Exception as error:
        # The state can be loaded in spite of unusable names.
        saved = SavedNames(None, named=False)
        problem = f"The names in the loaded state_dict cannot be used: {error}."
    if problem is not None:
        match.warnings = [f"{problem} The optimizer stays without names."]
    for index, (new, old) in enumerate(zip(match.groups, groups)):
        if saved.groups is not None:
            new["param_names"] = saved.groups[index]
        elif "param_names" in old:
            new["param_names"] = old["param_names"]
        else:
            new.pop("param_names", None)
    return match


def _match_by_position(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    strict: bool,
) -> Match:
    hint = "" if strict else _NEEDS_NAMES
    new_groups = deep_copy(saved_groups)
    if len(groups) != len(saved_groups):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups{hint}"
        )
    if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved_groups)):
        raise ValueError(
            "loaded state dict contains a parameter group "
            f"that doesn't match the size of optimizer's group{hint}"
        )
    ids = list(chain.from_iterable(group["params"] for group in new_groups))
    params = chain.from_iterable(group["params"] for group in groups)
    match = Match(ids, dict(zip(ids, params)), list(new_groups), saved_groups)
    for new, group in zip(new_groups, groups):
        new["params"] = group["params"]
    return match


_NEEDS_NAMES = (
    ". strict=False needs parameter names on both sides to find out which parameters "
    "they share"
)


class _Sides(NamedTuple):
    """The names on both sides, one for each parameter and each saved id."""

    #: The name of each of the optimizer's parameters, group by group.
    names: list[list[str]]
    #: The parameter of each of these names.
    params: dict[str, Tensor]
    #: The name for each saved id.
    saved_names: dict[Hashable, str]
    #: The index of the saved group of each saved name.
    saved_in: dict[str, int]
    #: Names that only the optimizer has.
    missing: list[str]
    #: Names that only the state dict has, and keys of state in none of its groups.
    unexpected: list[Any]
    #: The keys of their state.
    ignored: set[Hashable]
    #: Ambiguities that prevent a match, in full sentences.
    problems: list[str]

    @property
    def ids_to_params(self) -> dict[Hashable, Tensor]:
        """The parameter of each saved id that stands for one."""
        params = self.params
        if not self.ignored:
            return {i: params[name] for i, name in self.saved_names.items()}
        return {i: params[n] for i, n in self.saved_names.items() if n in params}


def _compare(
    groups: Sequence[dict[str, Any]],
    names: list[list[str]],
    saved_groups: Sequence[dict[str, Any]],
    saved: SavedNames,
    state: Mapping[Any, Any],
    entries: StateEntries,
) -> _Sides:
    """Compare the names on both sides."""
    theirs = saved.groups or []
    ids = list(chain.from_iterable(group["params"] for group in saved_groups))
    saved_by_id = dict(zip(ids, chain.from_iterable(theirs)))
    params = params_by_name(groups, names)
    aliases: Collection[str] = params.keys()
    problems: list[str] = []
    num_params = sum(map(len, names))
    if len(set(map(id, params.values()))) != num_params or len(saved_by_id) != len(ids):
        params, names, saved_by_id, problems = _resolve_ties(
            groups, names, saved_groups, theirs, state
        )
        theirs = [[saved_by_id[i] for i in group["params"]] for group in saved_groups]
    saved_in: dict[str, int] = {}
    for index, group_names in enumerate(theirs):
        saved_in.update(dict.fromkeys(group_names, index))
    missing: list[str] = []
    unexpected: list[Any] = []
    if saved_in.keys() != params.keys():
        missing = [name for name in params if name not in saved_in]
        unexpected = [name for name in saved_in if name not in params]
    ignored = (
        {i for i, n in saved_by_id.items() if n not in params} if unexpected else set()
    )
    if not state.keys() <= saved_by_id.keys():
        others = [key for key in state if key not in saved_by_id]
        lost = [
            key for key in others if key in aliases and entries.describe(state[key])
        ]
        if lost:
            problems.append(
                "In no param group of the state_dict, though it has state: "
                f"{quote(lost)}."
            )
        else:
            check_other_keys(others, aliases)
        strays = [k for k in others if k not in aliases and entries.describe(state[k])]
        unexpected += strays
        ignored.update(strays)
    return _Sides(
        names, params, saved_by_id, saved_in, missing, unexpected, ignored, problems
    )


def _resolve_ties(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    theirs: Sequence[Sequence[str]],
    state: Mapping[Any, Any],
) -> tuple[dict[str, Tensor], list[list[str]], dict[Hashable, str], list[str]]:
    """Choose one name for each tied parameter.

    Any name of a tied parameter stands for it, as long as both sides agree on
    which parameters are tied.

    Returns:
        (dict, list, dict, list of str): the parameter of each name, the names of
        the optimizer's groups, the name of each saved id, and full sentences about
        what the sides do not agree on.
    """
    by_name = params_by_name(groups, names)
    first_name: dict[int, str] = {}
    for name, param in by_name.items():
        first_name.setdefault(id(param), name)
    params = {first_name[id(param)]: param for param in by_name.values()}
    saved_by_id: dict[Hashable, str] = {}
    saved_in: dict[Hashable, int] = {}
    with_state: dict[str, Hashable] = {}
    in_several_groups: list[str] = []
    tied_there: list[str] = []
    tied_here: list[str] = []
    for index, (group, group_names) in enumerate(zip(saved_groups, theirs)):
        for param_id, name in zip(group["params"], group_names):
            if saved_in.setdefault(param_id, index) != index:
                in_several_groups.append(name)
            known = saved_by_id.get(param_id)
            if name not in by_name:
                saved_by_id.setdefault(param_id, name)
                continue
            first = first_name[id(by_name[name])]
            if known is None or known not in params:
                saved_by_id[param_id] = first
            elif known != first:
                tied_there.append(name)
            if param_id in state and with_state.setdefault(first, param_id) != param_id:
                tied_here.append(name)
    problems = [
        f"{text}: {quote(found)}."
        for text, found in (
            ("In more than one param group of the state_dict", in_several_groups),
            (
                "Saved as the same parameter as another one, but not the same as that "
                "in the optimizer",
                tied_there,
            ),
            (
                "Saved apart from another parameter, but the same as that in the "
                "optimizer",
                tied_here,
            ),
        )
        if found
    ]
    own_names = [[first_name[id(p)] for p in group["params"]] for group in groups]
    return params, own_names, saved_by_id, problems


def _name_problems(sides: _Sides, alone: bool) -> list[str]:
    """Describe names that only one side has."""
    problems = []
    if sides.missing:
        problems.append(f"Missing key(s) in state_dict: {quote(sides.missing)}.")
        if alone:
            problems.append(
                "Without 'param_groups', a parameter without saved state is missing."
            )
    if sides.unexpected:
        unexpected = quote(map(str, sides.unexpected))
        problems.append(f"Unexpected key(s) in state_dict: {unexpected}.")
    hint = prefix_hint(
        sides.missing, [n for n in sides.unexpected if isinstance(n, str)]
    )
    if hint:
        problems.append(hint)
    return problems


def _partial_groups(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    sides: _Sides,
) -> list[dict[str, Any]]:
    sources = [
        dict.fromkeys(sides.saved_in[n] for n in group_names if n in sides.saved_in)
        for group_names in sides.names
    ]
    options = [
        {k: v for k, v in group.items() if k not in ("params", "param_names")}
        for group in saved_groups
    ]
    return agreed_options(groups, options, sources)


def _origins(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    sides: _Sides,
    state: Mapping[Any, Any],
    own_state: Mapping[Any, Any],
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Where the state of each parameter comes from; see ``mixed_options()``."""
    origins: dict[str, tuple[str, dict[str, Any]]] = {}
    for group, group_names in zip(groups, sides.names):
        for name in group_names:
            if own_state.get(sides.params[name]):
                origins[name] = ("optimizer", group)
    for param_id, name in sides.saved_names.items():
        value = state.get(param_id)
        if name in sides.params and isinstance(value, Mapping) and value:
            origins[name] = ("state_dict", saved_groups[sides.saved_in[name]])
    return origins


def _with_saved_ids(
    new_groups: Sequence[dict[str, Any]], sides: _Sides
) -> list[dict[str, Any]]:
    """The new param groups, with saved ids as their ``params``."""
    ids: dict[str, list[Hashable]] = {}
    for param_id, name in sides.saved_names.items():
        ids.setdefault(name, []).append(param_id)
    return [
        {**new, "params": [i for name in group_names for i in ids.get(name, ())]}
        for new, group_names in zip(new_groups, sides.names)
    ]


def _order_warnings(sides: _Sides) -> list[str]:
    """Warn of names that a release may have written in the wrong order."""
    position = {name: index for index, name in enumerate(sides.params)}
    saved = [position[n] for n in sides.saved_in if n in position]
    if saved == sorted(saved):
        return []
    return [
        "The param_names of the loaded state_dict are in another order than those of the "
        "optimizer. Its state is loaded by name. Releases before this one write names by "
        "position: if the run that saved it had itself loaded a state dict in another "
        "order, its state may be under wrong names."
    ]
