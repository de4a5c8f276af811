"""The types that parameters and their saved ids mostly have.

What is of one of them can be handled many at a time, by calls in C. What is not, such
as an instance of a subclass, may behave like anything, and is looked at one by one.
"""

import torch


__all__ = ["IDS", "TENSORS"]

#: They can be hashed and compared.
IDS = frozenset([int, str])

#: Their attributes are read in C.
TENSORS = frozenset([torch.Tensor, torch.nn.Parameter])
