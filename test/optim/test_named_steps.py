# Owner(s): ["module: optimizer"]

"""Names change no number: named optimizers step as unnamed ones do."""

import copy

from _common import (
    all_inputs,
    build,
    DEVICE_TYPES,
    GROUPED,
    in_groups,
    make_params,
    names_of,
    OptimTestCase,
    params_for,
    state_by_name,
    train,
    values,
    without_names,
)

import torch
from torch.nn import Parameter
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import parametrize, run_tests


#: Optimizers that no GradScaler can step.
UNSCALED = {
    "LBFGS": "needs a closure",
    "SparseAdam": "has gradients that overflow checks do not take",
}

#: What an optimizer says of gradients it cannot use.
GRADIENT_ERRORS = [
    info
    for info in optim_db
    if not info.supports_sparse and not info.step_requires_closure
]


class TestNamedSteps(OptimTestCase):
    def _pair(self, optim_info, device, dtype, optim_input=None, make=None):
        """A named and an unnamed optimizer of the same options, with parameters."""
        pair = []
        for named in (True, False):
            if make is not None:
                params = make()
            elif optim_input is None:
                params = make_params(optim_info, device, dtype)
            else:
                params = params_for(optim_info, optim_input, device, dtype)
            groups = in_groups(optim_info, params)
            optimizer = build(
                optim_info, groups if named else without_names(groups), optim_input
            )
            pair.append((optimizer, params))
        return pair

    def _check(self, pair):
        (named, ours), (unnamed, theirs) = pair
        self.assert_same(values(ours), values(theirs))
        self.assert_same(state_by_name(named, ours), state_by_name(unnamed, theirs))
        for group, other in zip(named.param_groups, unnamed.param_groups, strict=True):
            for key in other.keys() - {"params"}:
                self.assert_same(group[key], other[key], key)
        self.assertNotIn(None, names_of(named))
        self.assertEqual(set(names_of(unnamed)), {None})

    @optims(optim_db, dtypes=[torch.float32])
    def test_step_for_step(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                pair = self._pair(optim_info, device, dtype, optim_input)
                before = values(pair[0][1])
                for step in range(4):
                    for optimizer, params in pair:
                        train(optim_info, optimizer, params, [step])
                    self._check(pair)
                after = values(pair[0][1])
                self.assertTrue(
                    any(not torch.equal(before[name], after[name]) for name in before)
                )

    @optims(
        [info for info in optim_db if info.supports_complex], dtypes=[torch.complex64]
    )
    def test_complex(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            if optim_input.kwargs.get("fused") or optim_input.kwargs.get(
                "differentiable"
            ):
                continue
            with self.subTest(optim_input.desc):
                pair = self._pair(optim_info, device, dtype, optim_input)
                for optimizer, params in pair:
                    train(optim_info, optimizer, params, range(3))
                self._check(pair)

    @optims(GROUPED, dtypes=[torch.float32])
    def test_a_group_added_on_the_way(self, device, dtype, optim_info):
        pair = []
        for named in (True, False):
            params = make_params(optim_info, device, dtype)
            first, *rest = params
            start = {first: params[first]}
            more = {name: params[name] for name in rest}
            optimizer = build(optim_info, start if named else list(start.values()))
            train(optim_info, optimizer, start, range(2))
            optimizer.add_param_group(
                {"params": more if named else list(more.values()), "lr": 0.04}
            )
            train(optim_info, optimizer, params, range(2, 5))
            pair.append((optimizer, params))
        self._check(pair)

    @optims(optim_db, dtypes=[torch.float32])
    def test_some_without_gradients(self, device, dtype, optim_info):
        pair = self._pair(optim_info, device, dtype)
        for optimizer, params in pair:
            train(optim_info, optimizer, params, range(1))
            optimizer.zero_grad()
            some = dict(list(params.items())[1:3])
            train(optim_info, optimizer, some, range(1, 3))
        self._check(pair)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("set_to_none", [True, False])
    def test_zero_grad(self, device, dtype, optim_info, set_to_none):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                pair = self._pair(optim_info, device, dtype, optim_input)
                for optimizer, params in pair:
                    train(optim_info, optimizer, params, range(1))
                    optimizer.zero_grad(set_to_none)
                    for param in params.values():
                        if set_to_none:
                            self.assertIsNone(param.grad)
                        else:
                            self.assertEqual(param.grad.to_dense().abs().sum(), 0)
                self._check(pair)

    @optims(optim_db, dtypes=[torch.float32])
    def test_lr_schedulers(self, device, dtype, optim_info):
        for number, makers in enumerate(optim_info.scheduler_inputs):
            with self.subTest(str(number)):
                pair = self._pair(optim_info, device, dtype)
                for optimizer, params in pair:
                    schedulers = [make(optimizer) for make in makers]
                    for step in range(4):
                        train(optim_info, optimizer, params, [step])
                        for scheduler in schedulers:
                            if isinstance(
                                scheduler,
                                torch.optim.lr_scheduler.ReduceLROnPlateau,
                            ):
                                scheduler.step(1.0)
                            else:
                                scheduler.step()
                self._check(pair)

    @optims(optim_db, dtypes=[torch.float32])
    def test_a_scheduler_resumes(self, device, dtype, optim_info):
        def start(params):
            optimizer = build(optim_info, in_groups(optim_info, params))
            return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

        def run(optimizer, scheduler, params, steps):
            for step in steps:
                train(optim_info, optimizer, params, [step])
                scheduler.step()

        params = make_params(optim_info, device, dtype)
        optimizer, scheduler = start(params)
        run(optimizer, scheduler, params, range(3))
        twin_params = make_params(optim_info, device, dtype)
        with torch.no_grad():
            for name, param in twin_params.items():
                param.copy_(params[name])
        twin, twin_scheduler = start(twin_params)
        twin_scheduler.load_state_dict(scheduler.state_dict())
        twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(optimizer, scheduler, params, range(3, 5))
        run(twin, twin_scheduler, twin_params, range(3, 5))
        self.assert_same(values(twin_params), values(params))
        self.assert_same(twin.state_dict(), optimizer.state_dict())

    @optims(
        [info for info in optim_db if info.name not in UNSCALED], dtypes=[torch.float32]
    )
    def test_grad_scaler(self, device, dtype, optim_info):
        device_type = torch.device(device).type
        for optim_input in all_inputs(optim_info, device, dtype):
            if optim_input.kwargs.get("differentiable"):
                continue
            with self.subTest(optim_input.desc):
                pair = self._pair(optim_info, device, dtype, optim_input)
                for optimizer, params in pair:
                    scaler = torch.amp.GradScaler(device_type, init_scale=4.0)
                    for step in range(4):
                        optimizer.zero_grad()
                        loss = sum(
                            (param**2).sum() * (index + step + 1)
                            for index, param in enumerate(params.values())
                        )
                        scaler.scale(loss).backward()
                        if step == 2:
                            next(iter(params.values())).grad.fill_(float("inf"))
                        scaler.step(optimizer)
                        scaler.update()
                self._check(pair)

    @optims([info for info in optim_db if info.supports_sparse], dtypes=[torch.float32])
    def test_sparse_gradients(self, device, dtype, optim_info):
        pair = []
        kwargs, _ = optim_info.metadata_for_sparse
        for named in (True, False):
            params = make_params(
                optim_info, device, dtype, order=["embed.weight", "conv.weight"]
            )
            optimizer = optim_info.optim_cls(
                params if named else list(params.values()), **kwargs
            )
            for step in range(3):
                for param in params.values():
                    grad = torch.zeros_like(param)
                    grad[step] = step + 1.0
                    param.grad = grad.to_sparse()
                optimizer.step()
            pair.append((optimizer, params))
        self._check(pair)

    @optims(GRADIENT_ERRORS, dtypes=[torch.float32])
    def test_errors_name_the_parameter(self, device, dtype, optim_info):
        texts = []
        for optimizer, params in self._pair(optim_info, device, dtype):
            for param in params.values():
                grad = torch.ones_like(param)
                param.grad = (
                    grad.to_sparse() if optim_info.only_supports_sparse_grads else grad
                )
            bad = list(params)[1]
            grad = params[bad].grad
            params[bad].grad = grad.to_dense() if grad.is_sparse else grad.to_sparse()
            with self.assertRaises(RuntimeError) as caught:
                optimizer.step()
            texts.append(str(caught.exception))
        named, unnamed = texts
        self.assertEqual(named, f"{unnamed} (parameter '{bad}')")

    @optims(optim_db, dtypes=[torch.float32])
    def test_step_hooks(self, device, dtype, optim_info):
        calls = []
        for optimizer, params in self._pair(optim_info, device, dtype):
            optimizer.register_step_pre_hook(
                lambda opt, args, kwargs: calls.append(("pre", names_of(opt)))
            )
            optimizer.register_step_post_hook(
                lambda opt, args, kwargs: calls.append(("post", names_of(opt)))
            )
            train(optim_info, optimizer, params, range(1))
        self.assertEqual([when for when, _ in calls], ["pre", "post"] * 2)

    @optims(optim_db, dtypes=[torch.float32])
    def test_state_stays_keyed_by_tensor(self, device, dtype, optim_info):
        (optimizer, params), _ = self._pair(optim_info, device, dtype)
        train(optim_info, optimizer, params, range(2))
        self.assertTrue(all(isinstance(key, Parameter) for key in optimizer.state))
        optimizer.load_state_dict(optimizer.state_dict())
        self.assertTrue(all(isinstance(key, Parameter) for key in optimizer.state))
        unknown = Parameter(torch.ones(2, 2, device=device))
        self.assertEqual(optimizer.state[unknown], {})


instantiate_device_type_tests(TestNamedSteps, globals(), only_for=DEVICE_TYPES)


if __name__ == "__main__":
    run_tests()
