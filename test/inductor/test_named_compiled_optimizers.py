# Owner(s): ["module: inductor", "module: optimizer"]

"""Steps that inductor compiles, of optimizers with names."""

import copy
import sys
import unittest
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "optim"))

from _guard import require_patched_torch


require_patched_torch()

from _common import (
    build,
    in_groups,
    make_params,
    OptimTestCase,
    saved,
    set_values,
    shuffled,
    state_by_name,
    train,
    values,
    without_names,
)
from _compiled import CompiledOptimizer

import torch
import torch._dynamo
import torch._inductor.config
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.optim import Adam
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


def _has_compiler() -> bool:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


#: A sample, since compiling takes seconds; test/optim/test_named_compile.py has all.
COMPILED = [
    info
    for info in optim_db
    if info.name in ("Adam", "Muon", "NAdam", "RMSprop", "SGD")
]

#: How far a compiled step may be from the eager one, if not as usual.
TOLERANCE = {
    # It computes in bfloat16, where inductor rounds less often.
    "Muon": {"atol": 1e-2, "rtol": 1e-2},
}


@unittest.skipUnless(_has_compiler(), "inductor needs a C++ compiler such as g++")
class TestNamedCompiledOptimizers(OptimTestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        self.addCleanup(torch._dynamo.reset)
        # No pool of processes, which would cost more than it saves
        self.enterContext(torch._inductor.config.patch(compile_threads=1))

    def _run(self, info, named, backend="inductor", **options):
        """Parameters and state after three steps, and the compiled step."""
        torch._dynamo.reset()
        params = make_params(info)
        groups = in_groups(info, params)
        optimizer = build(info, groups if named else without_names(groups), **options)
        if backend is not None:
            optimizer = CompiledOptimizer(optimizer, backend)
        train(info, optimizer, params, range(3))
        return (values(params), state_by_name(optimizer, params)), optimizer

    @parametrize("info", [subtest(info, info.name) for info in COMPILED])
    def test_steps(self, info):
        # What is compiled for the unnamed one comes from the cache.
        named, optimizer = self._run(info, True)
        unnamed, other = self._run(info, False)
        eager, _ = self._run(info, True, backend=None)
        self.assert_same(named, unnamed)
        self.assertEqual(named, eager, **TOLERANCE.get(info.name, {}))
        self.assertEqual(optimizer.step.guards, other.step.guards)
        self.assertEqual(optimizer.step.about_names, [])

    @parametrize(
        "options",
        [
            subtest({"foreach": True}, "foreach"),
            subtest({"lr": torch.tensor(0.01)}, "tensor_lr"),
        ],
    )
    def test_options_of_adam(self, options):
        info = next(info for info in COMPILED if info.optim_cls is Adam)
        named, optimizer = self._run(info, True, **options)
        unnamed, other = self._run(info, False, **options)
        eager, _ = self._run(info, True, backend=None, **options)
        self.assert_same(named, unnamed)
        self.assertEqual(named, eager)
        self.assertEqual(optimizer.step.counts, other.step.counts)

    def test_resumed_in_another_order(self):
        info = next(info for info in COMPILED if info.optim_cls is Adam)
        _, optimizer = self._run(info, True)
        params = {
            name: param
            for group in optimizer.param_groups
            for name, param in zip(group["param_names"], group["params"])
        }
        file = saved(optimizer)
        order = shuffled(params)
        other_params = make_params(info, order=order)
        set_values(other_params, values(params))
        other = build(info, in_groups(info, other_params)[::-1])
        other.load_state_dict(copy.deepcopy(file))
        compiled = CompiledOptimizer(other, "inductor")
        train(info, compiled, other_params, range(3, 5))
        train(info, optimizer, params, range(3, 5))
        self.assertEqual(values(other_params), values(params))
        self.assertEqual(
            state_by_name(other, dict(sorted(other_params.items()))),
            state_by_name(optimizer, dict(sorted(params.items()))),
        )
        self.assertEqual(compiled.step.about_names, [])


instantiate_parametrized_tests(TestNamedCompiledOptimizers)


if __name__ == "__main__":
    run_tests()
