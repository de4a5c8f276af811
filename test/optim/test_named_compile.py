# Owner(s): ["module: optimizer", "module: dynamo"]

"""Compiled steps of named optimizers: no more guards, and the same results."""

import copy

import torch
import torch._dynamo
from _common import (
    DEVICE_TYPES,
    GROUPED,
    MATRICES,
    OptimTestCase,
    build,
    in_groups,
    make_params,
    saved,
    shuffled,
    state_by_name,
    train,
    values,
    without_names,
)
from _compiled import Compiled, CompiledOptimizer, three_steps
from torch.nn import Parameter
from torch.optim import Adam, SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ExponentialLR,
    LambdaLR,
    StepLR,
)
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


#: Optimizers whose steps the compiler leaves to the interpreter, on any release.
NOT_TRACED = {"LBFGS", "SparseAdam"}


class CompileTestCase(OptimTestCase):
    def setUp(self):
        super().setUp()
        torch._dynamo.reset()
        self.addCleanup(torch._dynamo.reset)


class TestCompiledSteps(CompileTestCase):
    def _run(self, info, device, named, life, **options):
        """Compiled steps of one optimizer, and what they leave.

        Args:
            named (bool): whether the optimizer has names.
            life (Callable): takes the steps, and returns what is to be compared.
            options: the optimizer's.
        """
        torch._dynamo.reset()
        params = make_params(info, device, order=MATRICES)
        groups = in_groups(info, params)
        groups = groups if named else without_names(groups)
        optimizer = CompiledOptimizer(build(info, groups, **options))
        return life(optimizer, params), optimizer.step

    @optims(optim_db, dtypes=[torch.float32])
    def test_steps(self, device, dtype, optim_info):
        """Names change nothing."""
        named, guards = three_steps(optim_info.name, device, True)
        sources = {source for guard in guards for source, _ in guard}
        traced = any("params" in source for source in sources)
        self.assertEqual(traced, optim_info.name not in NOT_TRACED)
        self.assertFalse([source for source in sources if "param_names" in source])
        with torch.compiler.set_stance("force_eager"):
            eager, no_guards = three_steps(optim_info.name, device, True)
        self.assertEqual(no_guards, [])
        self.assertEqual(named, eager)
        unnamed, unnamed_guards = three_steps(optim_info.name, device, False)
        self.assert_same(named, unnamed)
        self.assertEqual(guards, unnamed_guards)

    @optims(
        [info for info in GROUPED if info.optim_cls in (Adam, SGD)],
        dtypes=[torch.float32],
    )
    def test_after_a_load_and_a_new_group(self, device, dtype, optim_info):
        """The state is no longer that for which the first steps were compiled."""
        tensor_lr = optim_info.optim_cls is SGD
        options = {"foreach": not tensor_lr}
        if tensor_lr and torch.device(device).type != "cpu":
            options["foreach"] = True

        def life(optimizer, params):
            named = "param_names" in optimizer.param_groups[0]
            if tensor_lr:
                for group in optimizer.param_groups:
                    group["lr"] = torch.tensor(group["lr"], device=device)
            train(optim_info, optimizer, params, [0])

            other_params = make_params(optim_info, device, order=MATRICES)
            groups = in_groups(optim_info, other_params)
            for group in groups:
                # By name in another order; by position the order must be the same.
                order = shuffled(group["params"]) if named else group["params"]
                group["params"] = {name: group["params"][name] for name in order}
            other = build(
                optim_info, groups if named else without_names(groups), **options
            )
            train(optim_info, other, other_params, range(3))
            optimizer.load_state_dict(saved(other))
            train(optim_info, optimizer, params, [4, 5])

            params["new"] = Parameter(torch.ones(3, device=device))
            new = {"new": params["new"]}
            optimizer.add_param_group({"params": new if named else params["new"]})
            train(optim_info, optimizer, params, [6, 7])
            return values(params), state_by_name(optimizer, params)

        named, step = self._run(optim_info, device, True, life, **options)
        unnamed, other = self._run(optim_info, device, False, life, **options)
        self.assert_same(named, unnamed)
        self.assertEqual(step.counts, other.counts)
        self.assertEqual(step.about_names, [])
        with torch.compiler.set_stance("force_eager"):
            eager, _ = self._run(optim_info, device, True, life, **options)
        self.assertEqual(named, eager)


class TestGuards(CompileTestCase):
    def test_no_recompilation_for_other_names(self):
        params = {name: Parameter(torch.randn(2)) for name in ("a", "b", "c")}
        optimizer = SGD(params, lr=0.1, momentum=0.9)
        step = Compiled(optimizer.step)
        for param in params.values():
            param.grad = torch.ones_like(param)
        step()
        step()
        compiled = len(step.guards)
        self.assertGreater(compiled, 0)
        (group,) = optimizer.param_groups
        group["param_names"] = ["module.a", "module.b", "module.c"]
        step()
        group["param_names"].reverse()
        step()
        del group["param_names"]
        step()
        self.assertEqual(len(step.guards), compiled)
        # What does change a step is seen.
        group["lr"] = 0.2
        before = values(params)
        step()
        self.assertGreater(len(step.guards), compiled)
        for name, param in params.items():
            self.assertTrue((param < before[name] - 0.19).all())

    def test_no_recompilation_when_a_file_brings_names(self):
        params = {name: Parameter(torch.randn(2)) for name in ("a", "b")}
        optimizer = SGD(list(params.values()), lr=0.1)
        step = Compiled(optimizer.step)
        for param in params.values():
            param.grad = torch.ones_like(param)
        step()
        compiled = len(step.guards)
        optimizer.load_state_dict(SGD(params, lr=0.1).state_dict())
        self.assertEqual(optimizer.param_groups[0]["param_names"], ["a", "b"])
        step()
        self.assertEqual(len(step.guards), compiled)

    def test_code_that_reads_names_is_guarded(self):
        params = {name: Parameter(torch.ones(2)) for name in ("a.weight", "a.bias")}
        optimizer = SGD(params, lr=1.0, foreach=True)

        def step():
            optimizer.step()
            for group in optimizer.param_groups:
                for name, param in zip(group["param_names"], group["params"]):
                    if name.endswith("bias"):
                        with torch.no_grad():
                            param.mul_(100)

        compiled = Compiled(step)
        for param in params.values():
            param.grad = torch.full_like(param, 0.5)
        compiled()
        self.assertEqual(params["a.weight"].tolist(), [0.5, 0.5])
        self.assertEqual(params["a.bias"].tolist(), [50, 50])
        self.assertNotEqual(compiled.about_names, [])
        optimizer.param_groups[0]["param_names"].reverse()
        compiled()
        self.assertEqual(params["a.weight"].tolist(), [0, 0])
        self.assertEqual(params["a.bias"].tolist(), [49.5, 49.5])

    def test_code_that_changes_groups_leaves_names(self):
        params = {name: Parameter(torch.ones(2)) for name in ("a", "b")}
        optimizer = SGD(params, lr=1.0)
        group = optimizer.param_groups[0]
        names = group["param_names"]

        def step(lr):
            optimizer.step()
            optimizer.param_groups[0]["lr"] = lr
            optimizer.param_groups[0]["note"] = "new"

        compiled = Compiled(step)
        for param in params.values():
            param.grad = torch.ones_like(param)
        for lr in (0.5, 0.25):
            compiled(lr)
            self.assertEqual((group["lr"], group["note"]), (lr, "new"))
            self.assertIs(optimizer.param_groups[0], group)
            self.assertIs(group["param_names"], names)
            self.assertEqual(names, ["a", "b"])
        self.assertEqual(params["a"].tolist(), [-0.5, -0.5])


class TestCompiledTraining(CompileTestCase):
    def _run(self, named, body, options=None, cls=Adam, backend="eager", steps=2):
        """Results and guards of steps compiled as ``body(model, optimizer)`` says."""
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        given = model.named_parameters() if named else model.parameters()
        options = {"lr": 0.1, "foreach": True, **copy.deepcopy(options or {})}
        optimizer = cls(given, **options)
        function = body(model, optimizer)
        compiled = Compiled(function, backend) if backend else function
        results = []
        for step in range(steps):
            x = torch.full((5, 3), 0.1 * step + 0.1)
            results.append(compiled(x))
        state = state_by_name(optimizer, dict(model.named_parameters()))
        results.append((values(dict(model.named_parameters())), state))
        if named:
            self.assertEqual(
                optimizer.param_groups[0]["param_names"],
                [name for name, _ in model.named_parameters()],
            )
        return results, compiled

    def _assert_alike(self, body, **kwargs):
        named, compiled = self._run(True, body, **kwargs)
        unnamed, other = self._run(False, body, **kwargs)
        eager, _ = self._run(True, body, **{**kwargs, "backend": None})
        self.assert_same(named, unnamed)
        self.assertEqual(named, eager)
        self.assertEqual(compiled.counts, other.counts)
        self.assertEqual(compiled.about_names, [])
        self.assertGreater(len(compiled.counts), 0)
        return named

    def test_training_step(self):
        def body(model, optimizer):
            def step(x):
                optimizer.zero_grad()
                loss = model(x).square().sum()
                loss.backward()
                optimizer.step()
                return loss.detach()

            return step

        self._assert_alike(body)

    def test_compiled_autograd(self):
        def body(model, optimizer):
            def step(x):
                loss = model(x).square().sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                return loss.detach()

            return step

        with torch._dynamo.config.patch(compiled_autograd=True):
            self._assert_alike(body)

    def test_closure(self):
        def body(model, optimizer):
            def step(x):
                def closure():
                    optimizer.zero_grad()
                    loss = model(x).square().sum()
                    loss.backward()
                    return loss

                return optimizer.step(closure).detach()

            return step

        self._assert_alike(body)

    def test_schedulers_with_a_tensor_lr(self):
        def body(model, optimizer):
            schedule = ChainedScheduler(
                [
                    StepLR(optimizer, 1),
                    ExponentialLR(optimizer, 0.5),
                    LambdaLR(optimizer, lambda step: 0.5**step),
                ]
            )
            for param in model.parameters():
                param.grad = torch.ones_like(param)

            def step(x):
                optimizer.step()
                schedule.step()
                return optimizer.param_groups[0]["lr"]

            return step

        # A tensor so that a new learning rate is no reason to compile anew.
        self._assert_alike(
            body, options={"lr": torch.tensor(0.1), "foreach": False}, cls=SGD
        )

    def test_a_dict_edited_inside(self):
        def body(model, optimizer):
            for param in model.parameters():
                param.grad = torch.ones_like(param)

            def step(x):
                optimizer.step()
                state_dict = optimizer.state_dict()
                state_dict["param_groups"][0]["lr"] *= 0.5
                optimizer.load_state_dict(state_dict)
                return optimizer.param_groups[0]["lr"]

            return step

        rates = self._assert_alike(body, cls=SGD, options={"momentum": 0.9})[:2]
        self.assertEqual(rates, [0.05, 0.025])

    @parametrize("call", ["state_dict", "load_state_dict"])
    @parametrize("named", [True, False])
    def test_dicts_are_no_part_of_a_full_graph(self, call, named):
        params = {"a": Parameter(torch.ones(2))}
        optimizer = SGD(params if named else list(params.values()))
        arguments = () if call == "state_dict" else (optimizer.state_dict(),)

        def function():
            getattr(optimizer, call)(*arguments)

        with self.assertRaises(torch._dynamo.exc.Unsupported):
            torch.compile(function, backend="eager", fullgraph=True)()

    def test_named_parameters_inside(self):
        def body(model, optimizer):
            def step(x):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                for name, param in optimizer.named_parameters():
                    if name.endswith("bias"):
                        param.grad.mul_(0.5)
                optimizer.step()
                return optimizer.param_groups[0]["lr"]

            return step

        compiled = self._run(True, body)[0]
        self.assertEqual(compiled, self._run(True, body, backend=None)[0])

    @parametrize("named", [True, False])
    def test_an_error_in_a_step(self, named):
        params = {"embed.weight": Parameter(torch.ones(3, 2))}
        optimizer = Adam(params if named else list(params.values()))
        params["embed.weight"].grad = torch.ones(3, 2).to_sparse()
        with self.assertRaisesRegex(Exception, "sparse gradients") as caught:
            Compiled(optimizer.step)()
        self.assertEqual("embed.weight" in str(caught.exception), named)


instantiate_device_type_tests(TestCompiledSteps, globals(), only_for=DEVICE_TYPES)

instantiate_parametrized_tests(TestGuards)
instantiate_parametrized_tests(TestCompiledTraining)


if __name__ == "__main__":
    run_tests()
