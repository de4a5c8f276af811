"""Keep parameters and their names unique while param groups are added."""

from collections.abc import Collection, Sequence
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Any

from torch import Tensor
from torch.optim._param_names.messages import quote


__all__ = ["Registry", "all_distinct", "registry_for"]

#: Tells objects from each other like ``id``. Takes a little longer, but addresses are
#: multiples of 16, and would collide in a large set.
_address = object.__hash__

#: From how many objects on that makes up for it.
LARGE = 10_000


def all_distinct(params: Sequence[Any]) -> bool:
    """Whether no object is there twice.

    Args:
        params (sequence): parameters.
    """
    address = id if len(params) < LARGE else _address
    return len(set(map(address, params))) == len(params)


class Registry:
    """The parameters and names that an optimizer's param groups hold.

    To read all groups takes as long as there are parameters. So an optimizer
    keeps one registry while it is built from many groups, and
    :func:`registry_for` sees whether the groups are still those that were added
    through it. Later on, anybody may have edited the groups by hand, and they are read
    anew for each group that is added, except where that would take long: see
    :attr:`worth_keeping`.

    Args:
        groups (sequence of dict): param groups with ``params`` and, if they are
            named, ``param_names``.
    """

    #: From how many groups on it takes long to read them all, compared with the
    #: time that it takes to add one.
    MANY_GROUPS = 1000

    # Whether there are groups with names, and groups with parameters only.
    _with_names = False
    _without_names = False
    _num_groups = 0
    _last_params: list[Tensor] | None = None
    _last_length = 0

    def __init__(self, groups: Sequence[dict[str, Any]] = ()) -> None:
        # Parameters stand here by their address, which is much faster to hash.
        self._params: set[int] = set()
        self._names: set[str] = set()
        # Groups whose parameters and names are not yet in the sets: a last group's
        # are never needed there.
        self._pending: list[dict[str, Any]] = []
        # Groups without both are neither named nor unnamed.
        self._undecided: list[dict[str, Any]] = []
        if groups:
            self._read(groups)

    def _read(self, groups: Sequence[dict[str, Any]]) -> None:
        named = list(map(dict.__contains__, groups, repeat("param_names")))
        params = list(map(itemgetter("params"), groups))
        names = map(itemgetter("param_names"), compress(groups, named))
        self._params.update(map(_address, chain.from_iterable(params)))
        self._names.update(chain.from_iterable(names))
        self._with_names = any(named)
        if not all(named):
            others = [group for group, has in zip(groups, named) if not has]
            self._without_names = any(map(itemgetter("params"), others))
            self._undecided += [group for group in others if not group["params"]]
        self._num_groups = len(groups)
        self._last_params = params[-1]
        self._last_length = len(params[-1])

    @property
    def worth_keeping(self) -> bool:
        """Whether the groups are too many to read all for each one that is added.

        Edits by hand are then noticed if they change the number of groups, or
        the parameters of the last one.
        """
        return self._num_groups >= self.MANY_GROUPS

    def _describes(self, groups: list[dict[str, Any]]) -> bool:
        """Whether ``groups`` are those that were added to this registry."""
        if len(groups) != self._num_groups:
            return False
        last = groups[-1].get("params") if groups else self._last_params
        return last is self._last_params and len(last or ()) == self._last_length

    def problem(self, group: dict[str, Any]) -> str | None:
        """Say why a group may not be added to those that are there.

        Args:
            group (dict): a param group whose ``params`` are tensors and whose
                ``param_names``, if there are any, are as many strings.

        Returns:
            str or None: that only one of this group and the others is named,
            that they share a parameter, or that two parameters have one name.
        """
        params = group["params"]
        names = group.get("param_names")
        if names is None and not params:
            return None
        if self._with_names if names is None else self._without_names:
            return (
                "all optimizer param groups should be with/without names. cannot add "
                f"param group {'without' if names is None else 'with'} names to the "
                "optimizer"
            )
        for pending in self._pending:
            self._params.update(map(_address, pending["params"]))
            self._names.update(pending.get("param_names", ()))
        self._pending.clear()
        if self._params and not self._params.isdisjoint(map(_address, params)):
            return "some parameters appear in more than one parameter group"
        if names is None:
            return None
        return _problem_of_names(names, params, self._names)

    def add(self, group: dict[str, Any]) -> None:
        """Take in a group with which :meth:`problem` found none.

        Groups without parameters get an empty list of names once another group
        has names.
        """
        params = group["params"]
        self._pending.append(group)
        if "param_names" in group:
            self._with_names = True
        elif params:
            self._without_names = True
        else:
            self._undecided.append(group)
        if self._with_names and self._undecided:
            for undecided in self._undecided:
                undecided["param_names"] = []
            self._undecided.clear()
        self._num_groups += 1
        self._last_params = params
        self._last_length = len(params)


def _problem_of_names(
    names: list[str], params: list[Tensor], others: Collection[str]
) -> str | None:
    unique = set(names)
    if len(unique) == len(names) and (not others or unique.isdisjoint(others)):
        return None
    by_name = dict(zip(names, params))
    taken = [
        name
        for name, param in zip(names, params)
        if name in others or by_name[name] is not param
    ]
    if not taken:
        return None
    return (
        "parameter names should be unique, but more than one parameter of the "
        f"optimizer is named {quote(dict.fromkeys(taken))}. Please give them "
        "distinct names, for example with a prefix for each model: "
        "[(f'model1.{name}', p) for name, p in model1.named_parameters()]"
    )


def registry_for(
    group: dict[str, Any],
    groups: list[dict[str, Any]],
    kept: Registry | None = None,
) -> Registry | None:
    """Check that a group may be added to those of an optimizer.

    Args:
        group (dict): as for :meth:`Registry.problem`.
        groups (list of dict): the optimizer's param groups, perhaps edited by
            hand.
        kept (Registry, optional): what was kept from when the last group was
            added. It is not relied on for an objection.

    Returns:
        Registry or None: that of ``groups``, to which the group is to be added;
        None if there is no group yet.

    Raises:
        ValueError: for what :meth:`Registry.problem` finds.
    """
    if kept is not None and kept._describes(groups) and kept.problem(group) is None:
        return kept
    registry = Registry(groups) if groups else None
    problem = (
        registry.problem(group)
        if registry is not None
        else _problem_of_names(group.get("param_names", ()), group["params"], ())
    )
    if problem is not None:
        raise ValueError(problem)
    return registry
