"""Parameter names in optimizers and in their state dicts.

An optimizer is *named* if every one of its param groups has ``param_names``,
one for each entry of ``params``. What happens to the names, in the order in
which an optimizer meets them:

* :mod:`~torch.optim._param_names.reading`: read them from what the user passes;
* :mod:`~torch.optim._param_names.registry`: keep them unique across param
  groups while groups are added;
* :mod:`~torch.optim._param_names.keys`: key a state dict by them;
* :mod:`~torch.optim._param_names.saved`: read them from a saved state dict;
* :mod:`~torch.optim._param_names.matching`: decide which saved entry belongs
  to which parameter;
* :mod:`~torch.optim._param_names.groups`: decide which saved param group
  belongs to which, and whose options are taken;
* :mod:`~torch.optim._param_names.flat`: reorder state that spans all
  parameters;
* :mod:`~torch.optim._param_names.renaming`: rename the parameters of a saved
  state dict;
* :mod:`~torch.optim._param_names.positional`: take the names out of a state
  dict;
* :mod:`~torch.optim._param_names.messages`: say in an error what differs.

Everything here is a plain function over lists and dicts that neither keeps nor
changes an optimizer. :class:`torch.optim.Optimizer` calls the functions that
are listed in ``__all__`` and is the only place where an optimizer is changed.
"""

from torch.optim._param_names.flat import align_flat_state
from torch.optim._param_names.keys import (
    is_named,
    named_params,
    pack_groups,
    pack_state,
    param_keys,
)
from torch.optim._param_names.matching import Match, match_state_dict
from torch.optim._param_names.messages import (
    name_suffix,
    state_error,
    summary,
    unusable_state,
)
from torch.optim._param_names.positional import without_names, without_own_names
from torch.optim._param_names.reading import pairs_from_mapping, read_group
from torch.optim._param_names.registry import Registry
from torch.optim._param_names.renaming import rename_parameters
from torch.optim._param_names.saved import check_type


__all__ = [
    "Match",
    "Registry",
    "align_flat_state",
    "check_type",
    "is_named",
    "match_state_dict",
    "name_suffix",
    "named_params",
    "pack_groups",
    "pack_state",
    "pairs_from_mapping",
    "param_keys",
    "read_group",
    "rename_parameters",
    "state_error",
    "summary",
    "unusable_state",
    "without_names",
    "without_own_names",
]
