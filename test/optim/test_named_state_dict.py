# Owner(s): ["module: optimizer"]

"""Names come out: state dicts keyed by name."""

import copy
import io
import pickle
from collections import OrderedDict
from itertools import chain

from _common import (
    all_inputs,
    build,
    DEVICE_TYPES,
    in_groups,
    make_params,
    names_of,
    NO_STEP_AFTER_COPY,
    OptimTestCase,
    params_for,
    shuffled,
    snapshot,
    state_by_name,
    train,
    trained,
    without_names,
)

import torch
from torch.nn import Parameter
from torch.optim import Adam, SGD
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


class TestNamedStateDict(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    def test_keys_are_names(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                optimizer, params = trained(optim_info, device, dtype, optim_input)
                state_dict = optimizer.state_dict()
                groups = in_groups(optim_info, params)
                self.assertEqual(list(state_dict), ["state", "param_groups"])
                for packed, group in zip(
                    state_dict["param_groups"], groups, strict=True
                ):
                    self.assertEqual(packed["params"], list(group["params"]))
                    self.assertEqual(packed["param_names"], list(group["params"]))
                expected = state_by_name(optimizer, params)
                self.assertTrue(expected or optim_info.name == "SGD")
                self.assertEqual(set(state_dict["state"]), set(expected))
                for name, state in expected.items():
                    self.assertIs(state_dict["state"][name], state)
                self.assertIs(type(state_dict["state"]), dict)

    @optims(optim_db, dtypes=[torch.float32])
    def test_only_keys_differ_from_an_unnamed_one(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                optimizer, _ = trained(optim_info, device, dtype, optim_input)
                params = params_for(optim_info, optim_input, device, dtype)
                groups = in_groups(optim_info, params)
                unnamed = build(optim_info, without_names(groups), optim_input)
                train(optim_info, unnamed, params, range(2))
                named_dict, unnamed_dict = optimizer.state_dict(), unnamed.state_dict()
                ids = dict(enumerate(chain.from_iterable(g["params"] for g in groups)))
                # In the same order, too.
                by_index = {ids[i]: v for i, v in unnamed_dict["state"].items()}
                self.assert_same(named_dict["state"], by_index)
                for ours, theirs in zip(
                    named_dict["param_groups"], unnamed_dict["param_groups"]
                ):
                    self.assertEqual(ours["params"], [ids[i] for i in theirs["params"]])
                    ours = {k: v for k, v in ours.items() if k != "param_names"}
                    self.assert_same(
                        {**ours, "params": None}, {**theirs, "params": None}
                    )

    @optims(optim_db, dtypes=[torch.float32])
    def test_insertion_order_is_that_of_the_state(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, params)
        order = shuffled(params)
        for name in order:
            optimizer.state[params[name]]["x"] = name
        state_dict = optimizer.state_dict()
        if optim_info.name == "Adagrad":
            # It has state for all parameters from the start.
            order = list(params)
        self.assertEqual(list(state_dict["state"])[-len(order) :], order)
        self.assertEqual(state_dict["param_groups"][0]["params"], list(params))

    @optims(optim_db, dtypes=[torch.float32])
    def test_tensors_are_referenced(self, device, dtype, optim_info):
        optimizer, params = trained(optim_info, device, dtype)
        state_dict = optimizer.state_dict()
        self.assertIsNot(
            state_dict["param_groups"][0]["params"],
            state_dict["param_groups"][0]["param_names"],
        )
        tensors = 0
        for name, state in state_by_name(optimizer, params).items():
            for key, value in state.items():
                self.assertIs(state_dict["state"][name][key], value)
                tensors += isinstance(value, torch.Tensor)
        self.assertTrue(tensors)
        # The groups are copied as far as the list of parameters needs it.
        state_dict["param_groups"][0]["params"].append("x")
        state_dict["param_groups"][0]["lr"] = 7
        self.assertEqual(
            len(optimizer.param_groups[0]["params"]),
            len(in_groups(optim_info, params)[0]["params"]),
        )
        self.assertNotEqual(optimizer.param_groups[0]["lr"], 7)

    @optims(optim_db, dtypes=[torch.float32])
    def test_file_and_copies(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                optimizer, params = trained(optim_info, device, dtype, optim_input)
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                file.seek(0)
                read = torch.load(file, weights_only=True)
                self.assert_same(read, optimizer.state_dict())

                # As ever, what is not there after unpickling is set up by a step.
                unpickled = pickle.loads(pickle.dumps(optimizer))
                twin = copy.deepcopy(optimizer)
                for other in (unpickled, twin):
                    self.assertIs(type(other), type(optimizer))
                    self.assertEqual(names_of(other), names_of(optimizer))
                    self.assert_same(other.state_dict(), optimizer.state_dict())
                unpickled.load_state_dict(optimizer.state_dict())
                with self.assertRaisesRegex(ValueError, "unique"):
                    name = names_of(unpickled)[0][0]
                    new = Parameter(torch.ones(params[name].shape))
                    unpickled.add_param_group({"params": {name: new}})

                # On their own: what one does is nothing to the other.
                before = snapshot(twin)
                train(optim_info, optimizer, params, range(2, 4))
                self.assert_unchanged(twin, before)
                if optim_info.name not in NO_STEP_AFTER_COPY:
                    lists = (group["params"] for group in twin.param_groups)
                    twin_params = dict(zip(chain(*names_of(twin)), chain(*lists)))
                    twin_params = {name: twin_params[name] for name in params}
                    train(optim_info, twin, twin_params, range(2, 4))
                    self.assert_same(twin.state_dict(), optimizer.state_dict())

    @optims(optim_db, dtypes=[torch.float32])
    def test_hooks(self, device, dtype, optim_info):
        optimizer, params = trained(optim_info, device, dtype, steps=1)
        calls = []

        def pre(number):
            def hook(*args):
                self.assertEqual(args, (optimizer,))
                calls.append(f"pre{number}")

            return hook

        def post(number):
            def hook(*args):
                opt, state_dict = args
                self.assertIs(opt, optimizer)
                self.assertTrue(set(state_dict["state"]) <= set(params))
                self.assertEqual(
                    sorted(chain(*(g["params"] for g in state_dict["param_groups"]))),
                    sorted(params),
                )
                calls.append(f"post{number}")

            return hook

        handles = [
            optimizer.register_state_dict_pre_hook(pre(1)),
            optimizer.register_state_dict_post_hook(post(1)),
            optimizer.register_state_dict_pre_hook(pre(2)),
            optimizer.register_state_dict_post_hook(post(2)),
            optimizer.register_state_dict_pre_hook(pre(3), prepend=True),
            optimizer.register_state_dict_post_hook(post(3), prepend=True),
        ]
        optimizer.state_dict()
        self.assertEqual(calls, ["pre3", "pre1", "pre2", "post3", "post1", "post2"])
        for handle in handles:
            handle.remove()
        optimizer.register_state_dict_post_hook(lambda opt, state_dict: {"new": 1})
        self.assertEqual(optimizer.state_dict(), {"new": 1})
        self.assertEqual(len(calls), 6)

    @optims(optim_db, dtypes=[torch.float32])
    def test_a_pre_hook_may_rename(self, device, dtype, optim_info):
        optimizer, params = trained(optim_info, device, dtype, steps=1)

        def rename(opt):
            for group in opt.param_groups:
                group["param_names"] = [f"net.{n}" for n in group["param_names"]]

        optimizer.register_state_dict_pre_hook(rename)
        self.assertEqual(
            set(optimizer.state_dict()["state"]),
            {f"net.{name}" for name in state_by_name(optimizer, params)},
        )

    @optims(optim_db, dtypes=[torch.float32])
    def test_state_of_no_parameter(self, device, dtype, optim_info):
        optimizer, _ = trained(optim_info, device, dtype)
        extra = {"shared": torch.ones(2), 7: "seven", ("a", 1): [1, 2]}
        optimizer.state.update(extra)
        state_dict = optimizer.state_dict()
        for key, value in extra.items():
            self.assertIs(state_dict["state"][key], value)
        self.assertEqual(list(state_dict["state"])[-3:], list(extra))
        # They come back, whatever the order of the parameters.
        twin_params = make_params(optim_info, device, dtype)
        twin = build(optim_info, in_groups(optim_info, twin_params))
        twin.load_state_dict(state_dict)
        for key, value in extra.items():
            self.assertIs(twin.state[key], value)

    @optims(optim_db, dtypes=[torch.float32])
    def test_state_of_no_parameter_under_a_name(self, device, dtype, optim_info):
        optimizer, params = trained(optim_info, device, dtype)
        name = next(iter(params))
        optimizer.state[name] = "precious"
        before = snapshot(optimizer)
        with self.assertRaisesRegex(ValueError, f'"{name}".*rename'):
            optimizer.state_dict()
        self.assert_unchanged(optimizer, before)
        # Also where the parameter itself has no state.
        optimizer.state.pop(params[name], None)
        with self.assertRaisesRegex(ValueError, f'"{name}".*rename'):
            optimizer.state_dict()
        # An index is nobody's name.
        del optimizer.state[name]
        optimizer.state[0] = "zero"
        self.assertEqual(optimizer.state_dict()["state"][0], "zero")

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    def test_state_of_a_tensor_in_no_group(self, device, dtype, optim_info, named):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, params if named else list(params.values()))
        optimizer.state[torch.ones(5, 7, device=device)] = {"x": 1}
        with self.assertRaisesRegex(KeyError, r"\(5, 7\).*none of its param groups"):
            optimizer.state_dict()

    @optims(optim_db, dtypes=[torch.float32])
    def test_group_edited_by_hand(self, device, dtype, optim_info):
        optimizer, _ = trained(optim_info, device, dtype)
        index = len(optimizer.param_groups) - 1
        group = optimizer.param_groups[index]
        names = list(group["param_names"])
        for edited, kind, regex in (
            (names[1:], ValueError, f"{len(names) - 1} names for {len(names)} param"),
            ([*names, "x"], ValueError, f"{len(names) + 1} names for {len(names)}"),
            ([], ValueError, f"0 names for {len(names)} param"),
            ([*names[1:], 3], TypeError, "3 of type int"),
            ([*names[1:], names[-1]], ValueError, f'unique.*"{names[-1]}"'),
            ("abc", TypeError, "list"),
            (None, TypeError, "list.*NoneType"),
        ):
            with self.subTest(str(edited)):
                group["param_names"] = edited
                where = "" if "unique" in regex else f"param group {index}.*"
                with self.assertRaisesRegex(kind, where + regex):
                    optimizer.state_dict()
        group["param_names"] = names
        optimizer.state_dict()
        # An edit that leaves names and parameters together is fine.
        group["params"] = group["params"][::-1]
        group["param_names"] = names[::-1]
        self.assertEqual(
            optimizer.state_dict()["param_groups"][index]["params"], names[::-1]
        )

    @optims(optim_db, dtypes=[torch.float32])
    def test_names_taken_away_by_hand(self, device, dtype, optim_info):
        # An optimizer is named if each of its groups is.
        optimizer, _ = trained(optim_info, device, dtype)
        del optimizer.param_groups[0]["param_names"]
        state_dict = optimizer.state_dict()
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        self.assertEqual(ids, list(range(len(ids))))
        self.assertTrue(all(type(key) is int for key in state_dict["state"]))

    @optims(optim_db, dtypes=[torch.float32])
    def test_an_unnamed_one_has_indices(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        groups = without_names(in_groups(optim_info, params))
        optimizer = build(optim_info, groups)
        train(optim_info, optimizer, params, range(1))
        state_dict = optimizer.state_dict()
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        self.assertEqual(ids, list(range(len(params))))
        self.assertTrue(all(type(key) is int for key in state_dict["state"]))
        self.assertTrue(
            all("param_names" not in group for group in state_dict["param_groups"])
        )


instantiate_device_type_tests(TestNamedStateDict, globals(), only_for=DEVICE_TYPES)


class TestStateDictDetails(OptimTestCase):
    """What does not depend on the optimizer's class."""

    def _optimizer(self, **kwargs):
        params = {name: Parameter(torch.ones(2)) for name in "abc"}
        optimizer = SGD(params, lr=0.1, momentum=0.9, **kwargs)
        for param in params.values():
            param.grad = torch.ones(2)
        optimizer.step()
        return optimizer, params

    def test_it_looks_as_documented(self):
        optimizer, _ = self._optimizer()
        state_dict = optimizer.state_dict()
        self.assertEqual(list(state_dict["state"]), ["a", "b", "c"])
        self.assertEqual(list(state_dict["state"]["a"]), ["momentum_buffer"])
        (group,) = state_dict["param_groups"]
        self.assertEqual(list(group)[-1], "params")

    def test_a_parameter_without_state_has_none(self):
        params = {name: Parameter(torch.ones(2)) for name in "abc"}
        optimizer = Adam(params)
        params["b"].grad = torch.ones(2)
        optimizer.step()
        state_dict = optimizer.state_dict()
        self.assertEqual(list(state_dict["state"]), ["b"])
        twin_params = {name: Parameter(torch.ones(2)) for name in "cab"}
        twin = Adam(twin_params)
        twin.load_state_dict(state_dict)
        self.assert_same(
            state_by_name(twin, twin_params), state_by_name(optimizer, params)
        )

    def test_one_parameter_in_two_groups(self):
        # As nobody can add them, but edit them.
        optimizer, params = self._optimizer()
        group = dict(optimizer.param_groups[0])
        group["params"], group["param_names"] = [params["b"]], ["other"]
        optimizer.param_groups.append(group)
        self.assertEqual(list(optimizer.state_dict()["state"]), ["a", "b", "c"])

    def test_no_groups_are_not_named(self):
        optimizer, _ = self._optimizer()
        optimizer.param_groups.clear()
        with self.assertRaisesRegex(ValueError, "no parameter names"):
            optimizer.named_parameters()

    def test_named_parameters_and_state(self):
        optimizer, params = self._optimizer()
        self.assertEqual(list(optimizer.named_parameters()), list(params.items()))
        for (name, state), (own, param) in zip(
            optimizer.named_state(), params.items(), strict=True
        ):
            self.assertEqual(name, own)
            self.assertIs(state, optimizer.state[param])
        unnamed = SGD(list(params.values()), lr=0.1)
        with self.assertRaisesRegex(ValueError, r"model\.named_parameters\(\)"):
            unnamed.named_parameters()
        self.assertEqual(list(unnamed.named_state()), [])

    def test_an_ordered_dict_of_state(self):
        # Subclasses may put another mapping there.
        optimizer, params = self._optimizer()
        optimizer.state = OrderedDict(
            (params[name], optimizer.state[params[name]]) for name in "cba"
        )
        self.assertEqual(list(optimizer.state_dict()["state"]), ["c", "b", "a"])

    def test_the_optimizer_itself_is_saved(self):
        optimizer, _ = self._optimizer()
        file = io.BytesIO()
        torch.save(optimizer, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
        self.assert_same(twin.state_dict(), optimizer.state_dict())


instantiate_parametrized_tests(TestStateDictDetails)


if __name__ == "__main__":
    run_tests()
