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
  to which parameter, and which saved group to which group;
* :mod:`~torch.optim._param_names.groups`: compare param groups and choose
  their options;
* :mod:`~torch.optim._param_names.flat`: reorder state that spans all
  parameters;
* :mod:`~torch.optim._param_names.renaming`: rename the parameters of a saved
  state dict;
* :mod:`~torch.optim._param_names.messages`: say in an error what differs.

Everything here is a plain function over lists and dicts that neither keeps nor
changes an optimizer. :class:`torch.optim.Optimizer` calls these functions and
is the only place where an optimizer is changed.
"""
