"""Keep parameters and their names unique while param groups are added."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim._param_names.messages import quote


__all__ = ["Registry"]


class Registry:
    """The parameters and names that an optimizer's param groups hold.

    Reading all groups costs as much as there are parameters. An optimizer
    built from many groups therefore keeps one registry for as long as it adds
    them, and asks :meth:`describes` whether the groups are still those that
    were added through it.

    Args:
        groups (iterable of dict): param groups with ``params`` and, if they
            are named, ``param_names``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]] = ()) -> None:
        self.params: set[Tensor] = set()
        #: The parameter of each name. Valid only while all groups are named.
        self.names: dict[str, Tensor] = {}
        #: Whether the groups are named; None while they hold no parameters.
        self.named: bool | None = None
        # Groups without parameters and names, which are neither named nor unnamed.
        self._undecided: list[dict[str, Any]] = []
        self._num_groups = 0
        self._last: Any = None
        self._last_length = 0
        for group in groups:
            self.add(group)

    def add(self, group: dict[str, Any]) -> None:
        """Take in a group that passed :meth:`check`, or that is already there.

        Groups without parameters get an empty list of names once another group
        has names.
        """
        params = group["params"]
        self.params.update(params)
        if "param_names" in group:
            self.named = True
            self.names.update(zip(group["param_names"], params))
        elif params:
            self.named = False
        else:
            self._undecided.append(group)
        if self.named:
            for undecided in self._undecided:
                undecided["param_names"] = []
            self._undecided.clear()
        self._num_groups += 1
        self._last = params
        self._last_length = len(params)

    def describes(self, groups: list[dict[str, Any]]) -> bool:
        """Whether ``groups`` are those that were added to this registry."""
        return len(groups) == self._num_groups and (
            not groups
            or (
                groups[-1].get("params") is self._last
                and len(self._last) == self._last_length
            )
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check that a group may be added to those that are there.

        Args:
            group (dict): a param group whose ``params`` are tensors and whose
                ``param_names``, if there are any, are as many strings.

        Raises:
            ValueError: if only one of this group and the others is named, if
                they share a parameter, or if two parameters have one name.
        """
        named = "param_names" in group
        if not named and not group["params"]:
            return
        if self.named is not None and self.named != named:
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {'with' if named else 'without'} names to the optimizer"
            )
        if not self.params.isdisjoint(group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        if named:
            self._check_names(group["param_names"], group["params"])

    def _check_names(self, names: list[str], params: list[Tensor]) -> None:
        own = dict(zip(names, params))
        taken = [name for name in own if name in self.names] if self.names else []
        if len(own) != len(names):
            taken += [name for name, p in zip(names, params) if own[name] is not p]
        if taken:
            raise ValueError(
                "parameter names should be unique, but more than one parameter of the "
                f"optimizer is named {quote(dict.fromkeys(taken))}. Please give them "
                "distinct names, for example with a prefix for each model: "
                "[(f'model1.{name}', p) for name, p in model1.named_parameters()]"
            )
