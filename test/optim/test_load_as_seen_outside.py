# Owner(s): ["module: optimizer"]

"""What other threads and other people's subclasses see of a load."""

import copy
import sys
import threading
import weakref
from collections import OrderedDict
from typing import Any

from _common import drop_names, indexed, optimizer_of, OptimTestCase, snapshot
from _describe import describe

import torch
from torch.nn import Parameter
from torch.optim import Adam, Optimizer, SGD
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


class TestQuietRollback(OptimTestCase):
    """No other thread sees that a load has failed."""

    def _failing(self):
        optimizer = optimizer_of(Adam, "ab")

        def fail(optimizer):
            optimizer.added = _Probe(optimizer)
            raise RuntimeError("from the hook")

        optimizer.register_load_state_dict_post_hook(fail)
        return optimizer, optimizer.state_dict()

    def _fail(self, optimizer, state_dict):
        with self.assertRaisesRegex(RuntimeError, "from the hook"):
            optimizer.load_state_dict(state_dict)

    def test_attributes_are_there_all_the_time(self):
        optimizer, state_dict = self._failing()
        before = snapshot(optimizer)
        _Probe.seen.clear()
        self._fail(optimizer, state_dict)
        self.assertEqual(_Probe.seen, [{"state", "param_groups", "defaults"}])
        self.assert_unchanged(optimizer, before)

    def test_another_thread(self):
        optimizer, state_dict = self._failing()
        stop, errors = threading.Event(), []

        def read():
            try:
                while not stop.is_set():
                    for name in ("param_groups", "state", "defaults"):
                        getattr(optimizer, name)
            except Exception as error:
                errors.append(error)

        interval = sys.getswitchinterval()
        thread = threading.Thread(target=read)
        thread.start()
        try:
            sys.setswitchinterval(1e-6)
            for _ in range(200):
                self._fail(optimizer, state_dict)
        finally:
            stop.set()
            thread.join()
            sys.setswitchinterval(interval)
        self.assertEqual(errors, [])

    def test_names_that_are_none(self):
        optimizer = optimizer_of(SGD, "ab")
        optimizer.param_groups[0]["param_names"] = None
        self.assertIn("param_names: None", repr(optimizer))

    @parametrize("named", [True, False])
    def test_a_wrapper_without_defaults(self, named):
        optimizer = _Bare(optimizer_of(SGD, "ab", momentum=0.9))
        state_dict = copy.deepcopy(optimizer.state_dict())
        if not named:
            drop_names(optimizer)
            state_dict = indexed(state_dict)
        expected = [describe(value) for value in optimizer.state.values()]
        optimizer.state.clear()
        optimizer.load_state_dict(state_dict)
        self.assertEqual([describe(v) for v in optimizer.state.values()], expected)
        self.assertFalse(hasattr(optimizer, "defaults"))


class _Probe:
    """Notes, when it is deleted, what an optimizer has then."""

    seen: list[set[str]] = []

    def __init__(self, optimizer: Optimizer) -> None:
        self.attributes = weakref.ref(optimizer)

    def __del__(self) -> None:
        optimizer = self.attributes()
        if optimizer is not None:
            wanted = {"state", "param_groups", "defaults"}
            self.seen.append(wanted & vars(optimizer).keys())


class _Bare(Optimizer):
    """A wrapper that calls nothing of the base class to be made."""

    def __init__(self, inner: Optimizer) -> None:
        self.param_groups, self.state = inner.param_groups, inner.state
        for when in ("pre", "post"):
            for what in ("state_dict", "load_state_dict"):
                setattr(self, f"_optimizer_{what}_{when}_hooks", OrderedDict())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Objects(SGD):
    """Has objections of its own, and counts the calls."""

    calls = 0
    error: Exception | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _Objects.calls += 1
        if self.error is not None:
            raise self.error


class _OwnError(Exception):
    pass


class _ReturnsItsDict(SGD):
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__


class TestThirdParties(OptimTestCase):
    """What other people's subclasses see is what they see on any release."""

    @parametrize(
        "error",
        [
            subtest(cls("mine"), cls.__name__)
            for cls in (KeyError, _OwnError, ValueError)
        ],
    )
    @parametrize("named", [True, False])
    def test_an_error_of_setstate(self, error, named):
        target = optimizer_of(_Objects, "abc", "def", momentum=0.9)
        state_dict = copy.deepcopy(target.state_dict())
        if not named:
            drop_names(target)
        target.error = error
        before = snapshot(target)
        _Objects.calls = 0
        with self.assertRaises(type(error)) as caught:
            target.load_state_dict(state_dict)
        self.assertIs(caught.exception, error)
        self.assertEqual(_Objects.calls, 1)
        self.assert_unchanged(target, before)
        target.error = None
        target.load_state_dict(state_dict)
        self.assertEqual(_Objects.calls, 2)

    @parametrize("named", [True, False])
    def test_what_is_no_parameter_is_the_same_object(self, named):
        target = optimizer_of(SGD, "ab", momentum=0.9)
        state_dict = copy.deepcopy(target.state_dict())
        if not named:
            drop_names(target)
            state_dict = indexed(state_dict)
        calls = {"count": 3}
        state_dict["state"]["calls"] = calls
        target.load_state_dict(state_dict)
        self.assertEqual(target.state["calls"], calls)
        self.assertEqual(target.state["calls"] is calls, not named)

    @parametrize(
        "overrides,checked",
        [
            subtest(((), True), "nothing"),
            subtest((("__init__", "__setstate__", "add_param_group"), True), "others"),
            subtest((("step",), False), "step"),
            subtest((("_init_group",), False), "init_group"),
            subtest((("state_dict",), False), "state_dict"),
            subtest((("load_state_dict",), False), "load_state_dict"),
        ],
    )
    def test_shapes_of_a_subclass(self, overrides, checked):
        def passing_on(name):
            return lambda self, *args, **kwargs: getattr(Adam, name)(
                self, *args, **kwargs
            )

        cls = type("Mine", (Adam,), {name: passing_on(name) for name in overrides})
        target = optimizer_of(cls, "ab", steps=0)
        state_dict = copy.deepcopy(optimizer_of(Adam, "ab").state_dict())
        state_dict["state"]["b"]["exp_avg"] = torch.ones(3)
        if not checked:
            target.load_state_dict(state_dict)
            return
        with self.assertRaisesRegex(ValueError, '(?s)for Mine.*"b" has a size mism'):
            target.load_state_dict(state_dict)

    @parametrize(
        "value",
        [
            subtest({"a": 1, "b": 2}, "dict"),
            subtest(None, "none"),
            subtest([("x", 3)], "list"),
        ],
    )
    def test_an_attribute_called_named_parameters(self, value):
        optimizer = optimizer_of(SGD, "ab", momentum=0.9)
        optimizer.named_parameters = value
        state_dict = copy.deepcopy(optimizer.state_dict())
        self.assertEqual(list(state_dict["state"]), ["a", "b"])
        optimizer.load_state_dict(state_dict)
        optimizer.load_state_dict(state_dict, strict=False)
        optimizer.load_state_dict({"state": state_dict["state"]})
        optimizer.add_param_group({"params": [("c", Parameter(torch.ones(2)))]})
        self.assertIn("['a', 'b']", repr(optimizer))
        self.assertIs(optimizer.named_parameters, value)
        self.assertEqual([name for name, _ in optimizer.named_state()], ["a", "b"])

    def test_a_copy_by_getstate_knows_its_groups(self):
        optimizer = optimizer_of(_ReturnsItsDict, "ab", "cd")
        twin = copy.deepcopy(optimizer)
        for made in (optimizer, twin):
            first = made.param_groups[0]["params"][0]
            for params in ([("e", first)], [("a", Parameter(torch.ones(2)))]):
                with self.assertRaisesRegex(ValueError, "more than one param"):
                    made.add_param_group({"params": params})


instantiate_parametrized_tests(TestQuietRollback)
instantiate_parametrized_tests(TestThirdParties)


if __name__ == "__main__":
    run_tests()
