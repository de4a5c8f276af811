"""Read parameters and their names from what a user passes to an optimizer."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Set
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim._param_names.messages import name_suffix
from torch.optim._param_names.plain import TENSORS
from torch.optim._param_names.registry import registry_for


__all__ = [
    "check_names",
    "pairs_from_mapping",
    "params_of_group",
    "read_group",
    "read_params",
    "to_be_checked",
]

_STR, _TUPLE, _PAIR = frozenset([str]), frozenset([tuple]), frozenset([2])

_first, _second, _is_leaf = itemgetter(0), itemgetter(1), attrgetter("is_leaf")


def pairs_from_mapping(params: Mapping[Any, Any]) -> list[tuple[str, Tensor]]:
    """Turn a mapping of parameters into ``(name, parameter)`` pairs.

    Args:
        params (Mapping): parameters by name, as in
            ``dict(model.named_parameters())``.

    Returns:
        list of (str, Tensor): the items of ``params``, in its order.

    Raises:
        TypeError: if a value is not a tensor or a name is not a string.
        ValueError: if the tensors are those of ``model.state_dict()``, which
            are detached from the model, so that there is nothing to train.
    """
    for name, param in params.items():
        if not isinstance(param, Tensor):
            raise TypeError(_not_a_tensor(params, name, param))
        if not isinstance(name, str):
            raise TypeError(_not_a_str(name))
    if params and all(_is_detached(param) for param in params.values()):
        raise ValueError(
            "none of the tensors in the mapping given to the optimizer can be "
            f"trained, starting with {next(iter(params))!r}: none is a Parameter, "
            "requires grad or has a grad. This looks like model.state_dict(), whose "
            "tensors are detached from the model; please pass "
            "dict(model.named_parameters()) instead"
        )
    return list(params.items())


def read_group(group: dict[str, Any]) -> None:
    """Split the ``params`` of a param group into parameters and their names.

    Args:
        group (dict): a param group. Its ``params``, a list of parameters or of
            ``(name, parameter)`` pairs, become a list of parameters; the names,
            if there are any, stand under ``param_names``. That the parameters
            are tensors is for the caller to check.

    Raises:
        TypeError: if a tuple is no pair or a name is not a string.
        ValueError: if only some parameters have a name, or if names given as
            ``param_names`` are not one for each parameter.
    """
    params, names = _split_pairs(group["params"])
    group["params"] = params
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


def read_params(
    params: Mapping[Any, Any] | Iterable[Any],
) -> tuple[list[Any], list[str] | None]:
    """Split parameters that are in no param group yet from their names.

    For wrappers that need the parameters before an optimizer reads them.

    Args:
        params (Mapping or iterable): parameters, ``(name, parameter)`` pairs, or
            a mapping of names to parameters.

    Returns:
        (list, list of str or None): the parameters, and the name of each; None
        if they have no names. Without names, they are not checked.

    Raises:
        TypeError, ValueError: as an optimizer raises for such names, for two
            parameters of one name, or for what has a name and is no tensor.
    """
    if isinstance(params, Mapping):
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
        registry_for(group, [])
    return group["params"], names


def params_of_group(group: dict[str, Any]) -> Iterable[Any]:
    """The parameters in a param group that an optimizer has not yet read.

    Args:
        group (dict): a param group. An iterator in it becomes a list, so that
            the optimizer can read it once more.

    Returns:
        iterable: the parameters; if they have no names, whatever ``params`` is.

    Raises:
        TypeError, ValueError: as :func:`read_params`.
    """
    params = group["params"]
    if isinstance(params, Iterator):
        params = group["params"] = list(params)
    if isinstance(params, Tensor):
        return [params] if "param_names" in group else params
    if isinstance(params, Mapping) or any(isinstance(p, tuple) for p in params):
        return read_params(params)[0]
    return params  # type: ignore[no-any-return]


def to_be_checked(params: list[Any]) -> list[Any]:
    """What may be anything else than a tensor that an optimizer can optimize.

    Args:
        params (list): what should be parameters.

    Returns:
        list: all of them; empty if they are leaf tensors and of no other class
        than that of tensors or parameters, which takes less time to find out.
    """
    if TENSORS.issuperset(map(type, params)) and all(map(_is_leaf, params)):
        return []
    return params


def check_names(names: Any, num_params: int) -> list[str]:
    """Check names that stand beside the parameters of one group.

    Args:
        names (list of str): what stands under ``param_names``.
        num_params (int): the number of parameters in the group.

    Returns:
        list of str: the names, as a list.

    Raises:
        TypeError: if ``names`` is no list of strings.
        ValueError: if there is not one name for each parameter.
    """
    # The usual types first: asking whether something is Iterable takes long.
    if not isinstance(names, (list, tuple)) and (
        isinstance(names, (str, Mapping, Set)) or not isinstance(names, Iterable)
    ):
        raise TypeError(
            "param_names should be a list with a str for each parameter, but got "
            + torch.typename(names)
        )
    checked: list[str] = list(names)
    _check_types(checked)
    if len(checked) != num_params:
        raise ValueError(
            "param_names should have a name for each parameter of the group, but got "
            f"{len(checked)} names for {num_params} parameters"
        )
    return checked


def _split_pairs(params: list[Any]) -> tuple[list[Any], list[str] | None]:
    if not params or not _TUPLE.issuperset(map(type, params)):
        kinds = set(map(type, params))
        tuples = [kind for kind in kinds if issubclass(kind, tuple)]
        if not tuples:
            return params, None
        if len(tuples) < len(kinds):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
    if not _PAIR.issuperset(map(len, params)):
        raise TypeError(
            "named parameters should be (name, parameter) pairs, but one of them is a "
            f"tuple of length {max(set(map(len, params)) - _PAIR)}"
        )
    # Not zip(*params), which makes an iterator of each pair.
    names, tensors = list(map(_first, params)), list(map(_second, params))
    _check_types(names)
    return tensors, names


def _check_types(names: list[Any]) -> None:
    if not _STR.issuperset(map(type, names)):
        for name in names:
            if not isinstance(name, str):
                raise TypeError(_not_a_str(name))


def _is_detached(param: Tensor) -> bool:
    return not (
        param.requires_grad
        or isinstance(param, torch.nn.Parameter)
        or param.grad is not None
    )


def _not_a_str(name: Any) -> str:
    shown = "" if isinstance(name, Tensor) else f"{reprlib.repr(name)} of type "
    return (
        "parameter names should be of type str, but one of them is "
        f"{shown}{torch.typename(name)}"
    )


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
