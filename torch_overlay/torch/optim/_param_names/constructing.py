"""Read parameters and their names from what a user passes to an optimizer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import Parameter, ParameterDict
from torch.optim._param_names.messages import name_suffix, quote
from torch.optim._param_names.names import check_names, not_a_str, unique_names


__all__ = [
    "GroupChecker",
    "is_mapping",
    "pairs_from_mapping",
    "params_of_group",
    "read_group",
    "read_params",
]


def is_mapping(params: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether parameters come as a mapping, which a ParameterDict is, too."""
    return isinstance(params, (dict, Mapping, ParameterDict))


def pairs_from_mapping(params: Mapping[Any, Any]) -> list[tuple[str, Tensor]]:
    """Turn a mapping of parameters into ``(name, parameter)`` pairs.

    Args:
        params (Mapping): parameters by name, as in
            ``dict(model.named_parameters())``.

    Returns:
        list of (str, Tensor): the items of ``params``, in its order.

    Raises:
        TypeError: if a value is not a tensor or a name is not a str.
        ValueError: if the tensors are those of ``model.state_dict()``, which
            are detached from the model and cannot be trained.
    """
    pairs = list(params.items())
    for name, param in pairs:
        if not isinstance(param, Tensor):
            raise TypeError(_not_a_tensor(params, name, param))
        if not isinstance(name, str):
            raise not_a_str(name)
    if pairs and not any(map(_can_be_trained, params.values())):
        raise ValueError(
            "none of the tensors in the mapping given to the optimizer can be "
            f"trained, starting with {pairs[0][0]!r}: none is a Parameter, requires "
            "grad or has a grad. This looks like model.state_dict(), whose tensors "
            "are detached from the model; please pass dict(model.named_parameters()) "
            "instead"
        )
    return pairs


def read_group(group: dict[str, Any]) -> None:
    """Split the ``params`` of a param group into parameters and their names.

    Args:
        group (dict): a param group. Its ``params``, a list of parameters or of
            ``(name, parameter)`` pairs, become a list of parameters; the names,
            if there are any, become ``param_names``. The caller checks that the
            parameters are tensors.

    Raises:
        TypeError: if a tuple is not a pair or a name is not a str.
        ValueError: if only some parameters have names, or if ``param_names``
            has another length or differs from the pairs.
    """
    params = group["params"]
    names = None
    if any(isinstance(param, tuple) for param in params):
        names, group["params"] = _split_pairs(params)
    if "param_names" in group:
        given = check_names(group["param_names"], len(params))
        if names is not None and given != names:
            raise ValueError(
                "a param group has both named parameters and param_names, and they "
                "differ. Please pass one of them"
            )
        names = given
    if names is not None:
        group["param_names"] = names


def _split_pairs(pairs: Sequence[Any]) -> tuple[list[str], list[Any]]:
    names, params = [], []
    for pair in pairs:
        if not isinstance(pair, tuple):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        if len(pair) != 2:
            raise TypeError(
                "named parameters should be (name, parameter) pairs, but one of them "
                f"is a tuple of length {len(pair)}"
            )
        name, param = pair
        if not isinstance(name, str):
            raise not_a_str(name)
        names.append(name)
        params.append(param)
    return names, params


class GroupChecker:
    """Checks that param groups can be added to an optimizer.

    A constructor uses one checker for all its groups, so that each is read once.
    Groups may be edited by hand later, so a group that is added then gets a new
    checker.

    Args:
        groups (list of dict): the optimizer's param groups. The caller appends
            each group to this list after checking it.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self._groups = groups
        self._num_read = 0
        self._params: set[int] = set()
        self._names: set[str] = set()
        # None while all groups are empty
        self._named: bool | None = None
        self._empty_groups: list[dict[str, Any]] = []

    def check(self, group: dict[str, Any]) -> None:
        """Check a group that :func:`read_group` has read.

        Raises:
            ValueError: if only the group or only the others have names, if they
                share a parameter, or if two parameters share a name.
        """
        self._read_groups()
        params, names = group["params"], group.get("param_names")
        if self._named is (names is None) and (params or names is not None):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add "
                f"param group {'without' if names is None else 'with'} names to the "
                "optimizer"
            )
        if self._params and not self._params.isdisjoint(map(id, params)):
            shared = [
                name
                for name, param in zip(names or (), params)
                if id(param) in self._params
            ]
            raise ValueError(
                "some parameters appear in more than one parameter group"
                + (f": {quote(shared)}" if shared else "")
            )
        if names is not None:
            unique_names([group], [names], self._names)

    def name_empty_groups(self, added: dict[str, Any]) -> None:
        """Set ``param_names = []`` in empty groups if others have names.

        Args:
            added (dict): the group that was added last.
        """
        if self._named or "param_names" in added:
            for group in (*self._empty_groups, added):
                group.setdefault("param_names", [])
            self._empty_groups.clear()

    def _read_groups(self) -> None:
        for group in self._groups[self._num_read :]:
            names = group.get("param_names")
            if names is None and not group["params"]:
                self._empty_groups.append(group)
                continue
            self._named = names is not None
            self._params.update(map(id, group["params"]))
            self._names.update(names or ())
        self._num_read = len(self._groups)


def read_params(
    params: Mapping[Any, Any] | Iterable[Any],
) -> tuple[list[Any], list[str] | None]:
    """Split parameters from their names, for wrappers of optimizers.

    Args:
        params (Mapping or iterable): parameters, ``(name, parameter)`` pairs, or
            a mapping of names to parameters.

    Returns:
        (list, list of str or None): the parameters, and the name of each; None
        if they have no names. Parameters without names are not checked.

    Raises:
        TypeError, ValueError: as the constructor of an optimizer, for invalid or
            duplicate names and for named objects that are not tensors.
    """
    if is_mapping(params):
        params = pairs_from_mapping(params)
    group: dict[str, Any] = {"params": list(params)}
    read_group(group)
    names: list[str] | None = group.get("param_names")
    if names is not None:
        for param in group["params"]:
            if not isinstance(param, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{torch.typename(param)}{name_suffix([group], [param])}"
                )
        unique_names([group], [names])
    return group["params"], names


def params_of_group(group: dict[str, Any]) -> Iterable[Any]:
    """The parameters in a param group as a user passes it.

    Args:
        group (dict): a param group. An iterator in it is replaced by a list, so
            that the optimizer can read it again.

    Returns:
        iterable: the parameters; ``params`` itself if they have no names.

    Raises:
        TypeError, ValueError: as :func:`read_params`.
    """
    params = group["params"]
    if isinstance(params, Iterator):
        params = group["params"] = list(params)
    if isinstance(params, Tensor):
        return [params] if "param_names" in group else params
    if is_mapping(params) or any(isinstance(p, tuple) for p in params):
        return read_params(params)[0]
    return params  # type: ignore[no-any-return]


def _can_be_trained(param: Tensor) -> bool:
    return param.requires_grad or isinstance(param, Parameter) or param.grad is not None


def _not_a_tensor(params: Mapping[Any, Any], name: Any, param: Any) -> str:
    message = (
        "a mapping given to the optimizer should have parameter names as keys and "
        f"Tensors as values, but the value of {name!r} is {torch.typename(param)}"
    )
    if "params" in params:
        message += (
            ". If this is a single param group, please wrap it in a list: "
            "[{'params': ..., ...}]"
        )
    elif isinstance(param, Iterable) and not isinstance(param, (str, bytes)):
        message += (
            ". Nested parameters should be flattened with a prefix, for example "
            f"{{f'{name}.{{k}}': p for k, p in model.named_parameters()}}"
        )
    return message
