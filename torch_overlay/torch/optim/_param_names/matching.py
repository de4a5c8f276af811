"""Match a saved state dict against the parameters of an optimizer.

If both sides have names, parameters are matched by name, else by position. A named
optimizer keeps its names; an unnamed one takes over valid ``param_names``. A state
dict without ``param_groups``, *state alone*, is keyed by name.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat
from operator import eq, is_
from typing import Any

from torch import Tensor
from torch.optim._param_names.entries import misshapen_state, StateEntries
from torch.optim._param_names.messages import load_error, prefix_hint, quote
from torch.optim._param_names.names import (
    check_other_keys,
    Names,
    names_of,
    unique_names,
)
from torch.optim._param_names.options import (
    agreed_options,
    deep_copy,
    groups_differ,
    mixed_options,
    pair_groups,
)
from torch.optim._param_names.saved import (
    param_names_of,
    read_state_dict,
    SavedNames,
    SavedState,
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
    saved = read_state_dict(state_dict)
    entries = StateEntries() if entries is None else entries
    if saved.alone or _can_match_by_name(names, saved.names, strict):
        sides = _Sides(groups, names, saved, own_state or {}, entries)
        match = _match_by_name(sides, strict, owner)
    else:
        match = _match_by_position(groups, saved.groups, strict)
        others = [key for key in saved.state if key not in match.params]
        check_other_keys(others, names.params)
        if saved.names.problem is not None:
            match.warnings = [f"{saved.names.problem} {_BY_POSITION}"]
        elif saved.names.groups is not None:
            match.warnings = [_nothing_in_common(names.params, saved.names.groups)]
    for new, group in zip(match.groups, groups):
        new["param_names"] = group["param_names"]
        new["params"] = group["params"]
    match.named, match.entries = True, entries
    return match


def _match_by_name(sides: "_Sides", strict: bool, owner: str) -> Match:
    """Match two sides, or raise an error with all that prevents it."""
    saved = sides.saved
    partial = saved.alone or not strict
    problems = list(sides.problems)
    if strict:
        problems += sides.name_problems()
    new_groups: list[dict[str, Any]] = []
    if saved.alone:
        new_groups = [dict(group) for group in sides.groups]
    elif not strict:
        new_groups = sides.partial_groups()
        problems += mixed_options(
            new_groups,
            sides.names,
            sides.origins(),
            sides.entries.deciding_options,
        )
    elif not sides.problems:
        order = sides.order_of_groups()
        if order is None:
            problems.append(
                groups_differ(sides.names, len(saved.groups), sides.saved_in)
            )
        else:
            options = deep_copy(saved.groups)
            new_groups = [options[index] for index in order]
    if problems:
        problems += misshapen_state(
            sides.groups, sides.params_of_ids, saved.state, sides.entries
        )
        raise ValueError(load_error(owner, problems))
    return Match(
        sides.ids,
        sides.params_of_ids,
        new_groups,
        sides.with_saved_ids(new_groups) if partial else saved.groups,
        by_name=True,
        partial=partial,
        ignored=sides.ignored,
        missing=sides.missing,
        unexpected=sides.unexpected,
        warnings=[] if saved.alone or saved.names.named else sides.order_warnings(),
    )


def _can_match_by_name(names: Names, saved: SavedNames, strict: bool) -> bool:
    if saved.groups is None:
        return False
    # Groups of equal sizes without a common name are probably the same parameters
    # under other names, such as those of a wrapped model. Releases that save such
    # files load them by position.
    return (
        saved.named
        or not strict
        or not names.params.keys().isdisjoint(chain.from_iterable(saved.groups))
        or list(map(len, names.groups)) != list(map(len, saved.groups))
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
            unique_names(groups, saved.groups)
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


class _Sides:
    """A named optimizer, a state dict with names, and what they have in common.

    Attributes:
        names (list of lists of str): the names in each of the optimizer's groups,
            one per parameter.
        params (dict): the parameter of each of these names.
        ids (list): the saved ids, in order.
        saved_names (list of str): the name of each of them.
        params_of_ids (dict): the parameter of each id that has one.
        missing (list of str): names that only the optimizer has.
        unexpected (list): names that only the state dict has, and keys of its
            state that are in none of its groups.
        ignored (set): the keys of the state of these.
        problems (list of str): why state cannot be assigned, full sentences.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        names: Names,
        saved: SavedState,
        own_state: Mapping[Any, Any],
        entries: StateEntries,
    ) -> None:
        self.groups, self.saved = groups, saved
        self.own_state, self.entries = own_state, entries
        self.names, self.params = names.groups, names.params
        self.ids = list(chain.from_iterable(group["params"] for group in saved.groups))
        self.saved_names = list(chain.from_iterable(saved.names.groups or []))
        self.problems: list[str] = []
        own_names = list(chain.from_iterable(self.names))
        found: Mapping[Any, Any] = self.params
        # Mostly they are the same, in the same order: no look-ups then.
        if not saved.names.named or self.saved_names != own_names:
            found = dict(zip(self.ids, map(self.params.get, self.saved_names)))
        # Sorted rather than in a set: they often ascend, and there may be a million.
        own_ids = sorted(map(id, self.params.values()))
        tied = (
            len(own_ids) != len(own_names)
            or any(map(eq, own_ids, own_ids[1:]))
            or len(found) != len(self.ids)
        )  # fmt: skip
        if tied:
            self._resolve_ties()
            found = {i: self.params.get(name) for i, name in self.name_of_id.items()}
        # Mostly they are the ids themselves, which is found out without look-ups.
        same_keys = len(saved.state) == len(self.ids) and all(
            map(is_, saved.state, self.ids)
        )
        has_other_keys = not (same_keys or saved.state.keys() <= found.keys())
        self.ignored: set[Hashable] = {i for i, p in found.items() if p is None}
        self.missing: list[str] = []
        self.unexpected: list[Any] = []
        if tied or self.ignored or len(found) != len(self.params):
            theirs = dict.fromkeys(self.name_of_id.values())
            self.missing = [name for name in self.params if name not in theirs]
            self.unexpected = [name for name in theirs if name not in self.params]
        self.params_of_ids = found
        if self.ignored:
            self.params_of_ids = {i: p for i, p in found.items() if p is not None}
        if has_other_keys:
            self._look_at_other_keys(names.params.keys())

    @cached_property
    def name_of_id(self) -> dict[Hashable, str]:
        """The name of each saved id."""
        return dict(zip(self.ids, self.saved_names))

    def _resolve_ties(self) -> None:
        """Choose one name for each tied parameter.

        Any name of a tied parameter stands for it, as long as both sides agree on
        which parameters are tied.
        """
        by_name, state = self.params, self.saved.state
        first_name: dict[int, str] = {}
        for name, param in by_name.items():
            first_name.setdefault(id(param), name)
        self.params = {first_name[id(param)]: param for param in by_name.values()}
        self.names = [
            [first_name[id(param)] for param in group["params"]]
            for group in self.groups
        ]
        self.name_of_id = {}
        saved_in: dict[Hashable, int] = {}
        with_state: dict[str, Hashable] = {}
        in_several_groups: list[str] = []
        tied_there: list[str] = []
        tied_here: list[str] = []
        unread = iter(self.saved_names)
        for index, group in enumerate(self.saved.groups):
            for param_id, name in zip(group["params"], unread):
                if saved_in.setdefault(param_id, index) != index:
                    in_several_groups.append(name)
                known = self.name_of_id.get(param_id)
                if name not in by_name:
                    self.name_of_id.setdefault(param_id, name)
                    continue
                first = first_name[id(by_name[name])]
                if known is None or known not in self.params:
                    self.name_of_id[param_id] = first
                elif known != first:
                    tied_there.append(name)
                if (
                    param_id in state
                    and with_state.setdefault(first, param_id) != param_id
                ):
                    tied_here.append(name)
        self.problems += [
            f"{text}: {quote(found)}."
            for text, found in (
                ("In more than one param group of the state_dict", in_several_groups),
                (
                    "Saved as the same parameter as another one, but not the same as "
                    "that in the optimizer",
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

    def _look_at_other_keys(self, own_names: Collection[str]) -> None:
        """Look at the keys of the saved state that are in none of the saved groups."""
        state = self.saved.state
        others = [key for key in state if key not in self.name_of_id]
        like_state = [key for key in others if self.entries.describe(state[key])]
        lost = [key for key in like_state if key in own_names]
        if lost:
            self.problems.append(
                "In no param group of the state_dict, though it has state: "
                f"{quote(lost)}."
            )
        else:
            check_other_keys(others, own_names)
        strays = [key for key in like_state if key not in own_names]
        self.unexpected += strays
        self.ignored.update(strays)

    @cached_property
    def saved_in(self) -> dict[str, int]:
        """The index of the saved group of each saved name."""
        saved_in: dict[str, int] = {}
        for index, group in enumerate(self.saved.groups):
            names = map(self.name_of_id.__getitem__, group["params"])
            saved_in.update(zip(names, repeat(index)))
        return saved_in

    def order_of_groups(self) -> list[int] | None:
        """The index of the saved group for each group; None if the groups differ."""
        if len(self.names) == len(self.saved.groups) == 1:
            return [0]
        return pair_groups(self.names, len(self.saved.groups), self.saved_in)

    def name_problems(self) -> list[str]:
        """Describe the names that only one side has."""
        problems = []
        if self.missing:
            problems.append(f"Missing key(s) in state_dict: {quote(self.missing)}.")
            if self.saved.alone:
                problems.append(
                    "Without 'param_groups', a parameter without saved state is missing."
                )
        if self.unexpected:
            unexpected = quote(map(str, self.unexpected))
            problems.append(f"Unexpected key(s) in state_dict: {unexpected}.")
        hint = prefix_hint(
            self.missing, [n for n in self.unexpected if isinstance(n, str)]
        )
        if hint:
            problems.append(hint)
        return problems

    def partial_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, with the saved options that they take."""
        sources = [
            dict.fromkeys(self.saved_in[n] for n in names if n in self.saved_in)
            for names in self.names
        ]
        options = [
            {k: v for k, v in group.items() if k not in ("params", "param_names")}
            for group in self.saved.groups
        ]
        return agreed_options(self.groups, options, sources)

    def origins(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Where the state of each parameter comes from; see ``mixed_options()``."""
        origins: dict[str, tuple[str, dict[str, Any]]] = {}
        for group, names in zip(self.groups, self.names):
            for name in names:
                if self.own_state.get(self.params[name]):
                    origins[name] = ("optimizer", group)
        for param_id, name in self.name_of_id.items():
            value = self.saved.state.get(param_id)
            if name in self.params and isinstance(value, Mapping) and value:
                origins[name] = ("state_dict", self.saved.groups[self.saved_in[name]])
        return origins

    def with_saved_ids(
        self, new_groups: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The new param groups, with saved ids as their ``params``."""
        ids: dict[str, list[Hashable]] = {}
        for param_id, name in self.name_of_id.items():
            ids.setdefault(name, []).append(param_id)
        return [
            {**new, "params": [i for name in names for i in ids.get(name, ())]}
            for new, names in zip(new_groups, self.names)
        ]

    def order_warnings(self) -> list[str]:
        """Warn of names that a release may have written in the wrong order."""
        position = {name: index for index, name in enumerate(self.params)}
        names = dict.fromkeys(self.name_of_id.values())
        saved = [position[name] for name in names if name in position]
        if saved == sorted(saved):
            return []
        return [
            "The param_names of the loaded state_dict are in another order than those of the "
            "optimizer. Its state is loaded by name. Releases before this one write names by "
            "position: if the run that saved it had itself loaded a state dict in another "
            "order, its state may be under wrong names."
        ]
