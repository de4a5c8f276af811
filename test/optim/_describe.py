"""Describe anything an optimizer holds as plain values that compare exactly.

Two descriptions are equal if types, values, tensors' bits and the order of
keys are. They can be pickled and read by an interpreter with another torch.
"""

import functools
from collections.abc import Mapping
from typing import Any

import torch


def describe(value: Any) -> Any:
    """Describe a value and all that it holds.

    Args:
        value: tensors, numbers, strings, functions, containers of them.

    Returns:
        nested tuples of strings and bytes. A mapping becomes a tuple of its
        items, in its order. Of an object of another kind there is its type.
    """
    kind = _kind(type(value))
    if isinstance(value, torch.Tensor):
        return kind, *_tensor(value.detach())
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return kind, repr(value)
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(describe, value))
    if isinstance(value, Mapping):
        return kind, tuple((describe(k), describe(v)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, tuple(sorted(map(describe, value)))
    if isinstance(value, type):
        return kind, value.__qualname__
    if isinstance(value, functools.partial):
        return kind, describe(value.func)
    if callable(value):
        return kind, getattr(value, "__qualname__", "")
    return (kind,)


@functools.cache
def _kind(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _tensor(value: torch.Tensor) -> tuple[Any, ...]:
    form = (str(value.dtype), tuple(value.shape), str(value.device), str(value.layout))
    if value.layout != torch.strided:
        value = value.coalesce()
        return *form, _bits(value.indices()), _bits(value.values())
    return *form, tuple(value.stride()), _bits(value)


def _bits(value: torch.Tensor) -> bytes:
    if value.device.type == "meta":
        return b""
    flat = value.cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def difference(first: Any, second: Any, where: str = "") -> str | None:
    """Where two descriptions first differ.

    Args:
        first, second: what :func:`describe` returned, or lists of that.
        where (str): the place of the two in what is compared.

    Returns:
        str or None: the place and what stands there; None if they are equal.
    """
    if first == second:
        return None
    if (
        isinstance(first, (list, tuple))
        and isinstance(second, (list, tuple))
        and len(first) == len(second)
    ):
        for index, (one, other) in enumerate(zip(first, second)):
            if one != other:
                return difference(one, other, f"{where}[{index}]")
    return f"at {where or 'the top'}: {_shorten(first)} is not {_shorten(second)}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + "..."
