# Owner(s): ["module: optimizer"]

"""Subclasses that other people wrote before there were names."""

import copy
import pickle
import warnings
from collections import defaultdict
from typing import Any

from _common import annotated, indexed, names_of, OptimTestCase, snapshot

import torch
from torch.nn import Parameter
from torch.optim import Adam, Optimizer, SGD
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


class OwnInit(Optimizer):
    """Reads its parameters before the base class does; momentum of its own."""

    def __init__(self, params: Any, lr: float = 0.1, beta: float = 0.9) -> None:
        params = list(params) if not isinstance(params, dict) else params
        super().__init__(params, {"lr": lr, "beta": beta})
        self.num_steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.num_steps += 1
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    state.setdefault("average", torch.zeros_like(param))
                    state["average"].mul_(group["beta"]).add_(param.grad)
                    param.sub_(state["average"], alpha=group["lr"])


class OwnStateDict(OwnInit):
    """Saves more, and knows of no ``strict``."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "num_steps": self.num_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state_dict = dict(state_dict)
        self.num_steps = state_dict.pop("num_steps", 0)
        super().load_state_dict(state_dict)


class OwnAddParamGroup(OwnInit):
    """Looks at a group before and after it is added."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        param_group.setdefault("added", True)
        super().add_param_group(param_group)
        last = self.param_groups[-1]
        last["numel"] = sum(param.numel() for param in last["params"])


class CopiesTheGroup(OwnInit):
    """Adds a copy of the group it is given."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(dict(param_group))


class AppendsItself(OwnInit):
    """Puts groups in place without the base class."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if not self.param_groups:
            super().add_param_group(param_group)
            return
        pairs = param_group["params"]
        pairs = list(pairs.items() if isinstance(pairs, dict) else pairs)
        group = {**self.defaults, **param_group}
        if isinstance(pairs[0], tuple):
            group["param_names"] = [name for name, _ in pairs]
            group["params"] = [param for _, param in pairs]
        self.param_groups.append(group)


class OwnSetstate(OwnInit):
    """Fills in what older files lack."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("newer", 1)


class PlainState(OwnInit):
    """Has a state of its own making."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.state = defaultdict(dict)


class DictState(OwnInit):
    """Has an ordinary dict as its state, filled from the start."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.state = {
            param: {"average": torch.zeros_like(param)}
            for group in self.param_groups
            for param in group["params"]
        }


class SharedState(OwnInit):
    """Keeps something under a key that is no parameter."""

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        self.state["shared"]["steps"] = self.state["shared"].get("steps", 0) + 1


class OwnSaveFormat(OwnInit):
    """Changes what is saved through the hooks."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self.register_state_dict_post_hook(self._to_disk)
        self.register_load_state_dict_pre_hook(self._from_disk)

    @staticmethod
    def _to_disk(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        return {**state_dict, "state": {"packed": list(state_dict["state"].items())}}

    @staticmethod
    def _from_disk(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        return {**state_dict, "state": dict(state_dict["state"]["packed"])}


SUBCLASSES = [
    OwnInit,
    OwnStateDict,
    OwnAddParamGroup,
    CopiesTheGroup,
    AppendsItself,
    OwnSetstate,
    PlainState,
    DictState,
    SharedState,
    OwnSaveFormat,
]


ALL = parametrize("cls", [subtest(cls, cls.__name__) for cls in SUBCLASSES])


def _all_but(excluded: type[Optimizer]) -> Any:
    return parametrize(
        "cls", [subtest(c, c.__name__) for c in SUBCLASSES if c is not excluded]
    )


class Delegates(Optimizer):
    """A wrapper that never calls the base class, and shares what is inside."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        self.defaults = inner.defaults
        self.param_groups = inner.param_groups
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict["inner"])
        self.param_groups = self.inner.param_groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.inner.add_param_group(param_group)


class Rebuilds(Optimizer):
    """A wrapper that is constructed from the groups of what it wraps."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, inner.defaults)
        self.param_groups = inner.param_groups
        self.state = inner.state

    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)
        self.param_groups = self.inner.param_groups
        self.state = self.inner.state


def _params(order: str = "abcd") -> dict[str, Parameter]:
    return {name: Parameter(torch.full((2, 3), float(ord(name)))) for name in order}


def _groups(params: dict[str, Parameter], named: bool = True) -> list[dict[str, Any]]:
    first = {name: p for name, p in params.items() if name in "ab"}
    second = {name: p for name, p in params.items() if name not in "ab"}
    return [
        {"params": first if named else list(first.values()), "lr": 0.01},
        {"params": second if named else list(second.values()), "lr": 0.02},
    ]


def _run(optimizer: Optimizer, params: dict[str, Parameter], steps: int) -> None:
    for _ in range(steps):
        for name, param in params.items():
            param.grad = torch.full_like(param, ord(name) / 10)
        optimizer.step()


class TestNamedSubclasses(OptimTestCase):
    @ALL
    def test_shuffled_load(self, cls):
        params = _params()
        source = cls(_groups(params))
        _run(source, params, 3)
        state_dict = copy.deepcopy(source.state_dict())
        other = _params("dbca")
        with torch.no_grad():
            for name, param in other.items():
                param.copy_(params[name])
        target = cls(_groups(other)[::-1], lr=7.0)
        target.load_state_dict(state_dict)
        self.assertEqual(names_of(target), [["d", "c"], ["b", "a"]])
        self.assertEqual([group["lr"] for group in target.param_groups], [0.02, 0.01])
        for name in params:
            self.assert_same(target.state[other[name]], source.state[params[name]])
        _run(source, params, 2)
        _run(target, other, 2)
        for name in params:
            self.assert_same(other[name], params[name], name)

    @ALL
    def test_keys(self, cls):
        params = _params()
        named = cls(_groups(params))
        _run(named, params, 1)
        unnamed = cls(_groups(params, named=False))
        _run(unnamed, params, 1)
        if cls is OwnSaveFormat:
            ours = [key for key, _ in named.state_dict()["state"]["packed"]]
            theirs = [key for key, _ in unnamed.state_dict()["state"]["packed"]]
        else:
            ours = list(named.state_dict()["state"])
            theirs = list(unnamed.state_dict()["state"])
        extra = ["shared"] if cls is SharedState else []
        self.assertEqual(sorted(ours), sorted([*"abcd", *extra]))
        self.assertEqual(theirs[: len(params)], [0, 1, 2, 3])
        unnamed.load_state_dict(copy.deepcopy(unnamed.state_dict()))
        self.assertEqual(names_of(unnamed), [None, None])

    @_all_but(OwnSaveFormat)
    @parametrize("make", [subtest(f, f.__name__) for f in (indexed, annotated)])
    def test_files_of_other_releases(self, cls, make):
        params = _params()
        source = cls(_groups(params))
        _run(source, params, 2)
        state_dict = make(copy.deepcopy(source.state_dict()))
        for named in (True, False):
            other = _params()
            target = cls(_groups(other, named))
            target.load_state_dict(state_dict)
            for name in params:
                self.assert_same(target.state[other[name]], source.state[params[name]])

    @ALL
    def test_add_param_group(self, cls):
        params = _params()
        optimizer = cls({name: params[name] for name in "ab"})
        optimizer.add_param_group(
            {"params": [(name, params[name]) for name in "cd"], "lr": 0.5}
        )
        self.assertEqual(names_of(optimizer), [["a", "b"], ["c", "d"]])
        if cls is OwnAddParamGroup:
            self.assertEqual([g["numel"] for g in optimizer.param_groups], [12, 12])
        if cls is DictState:
            optimizer.state.update((params[name], {}) for name in "cd")
        _run(optimizer, params, 1)
        self.assertEqual(set(optimizer.state) - {"shared"}, set(params.values()))
        with self.assertRaisesRegex(ValueError, 'unique.*"c"'):
            Optimizer.add_param_group(
                optimizer, {"params": {"c": Parameter(torch.ones(2, 3))}}
            )

    @ALL
    def test_deepcopy_and_pickle(self, cls):
        params = _params()
        optimizer = cls(_groups(params))
        _run(optimizer, params, 2)
        for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            self.assertIs(type(twin), cls)
            self.assertEqual(names_of(twin), names_of(optimizer))
            for group, other in zip(twin.param_groups, optimizer.param_groups):
                self.assert_same(group["params"], other["params"])

    @_all_but(OwnStateDict)
    def test_strict(self, cls):
        params = _params()
        source = cls(_groups(params))
        _run(source, params, 2)
        other = {**_params("abc"), "e": Parameter(torch.ones(2, 3))}
        target = cls(_groups(other))
        _run(target, other, 1)
        before = snapshot(target)
        state_dict = copy.deepcopy(source.state_dict())
        with self.assertRaisesRegex(ValueError, f'for {cls.__name__}.*\n.*"e"'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)
        result = target.load_state_dict(state_dict, strict=False)
        self.assertEqual(tuple(result), (["e"], ["d"]))
        self.assert_same(target.state[other["a"]], source.state[params["a"]])

    def test_own_state_dict_gets_what_it_saved(self):
        params = _params()
        source = OwnStateDict(_groups(params))
        _run(source, params, 3)
        target = OwnStateDict(_groups(_params()))
        self.assertIsNone(target.load_state_dict(copy.deepcopy(source.state_dict())))
        self.assertEqual(target.num_steps, 3)

    def test_own_setstate_fills_in(self):
        target = OwnSetstate(_groups(_params()))
        target.load_state_dict(OwnInit(_groups(_params())).state_dict())
        self.assertEqual([group["newer"] for group in target.param_groups], [1, 1])

    def test_what_is_shared_is_saved(self):
        params = _params()
        source = SharedState(_groups(params))
        _run(source, params, 3)
        target = SharedState(_groups(_params("badc")))
        target.load_state_dict(copy.deepcopy(source.state_dict()))
        self.assertEqual(target.state["shared"], {"steps": 3})
        # A parameter of that name would be overwritten.
        params["shared"] = params.pop("a")
        target = SharedState(params)
        state_dict = indexed(copy.deepcopy(source.state_dict()))
        first, second = state_dict["param_groups"]
        first["params"] += second["params"]
        with self.assertRaisesRegex(ValueError, '"shared", which is also the name'):
            target.load_state_dict({**state_dict, "param_groups": [first]})

    @parametrize("wrapper", [subtest(c, c.__name__) for c in (Delegates, Rebuilds)])
    @parametrize("cls", [subtest(cls, cls.__name__) for cls in (SGD, Adam)])
    def test_wrappers(self, wrapper, cls):
        options = {"momentum": 0.9} if cls is SGD else {}
        params = _params()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            source = wrapper(cls(_groups(params), **options))
        _run(source, params, 3)
        self.assertEqual(names_of(source), [["a", "b"], ["c", "d"]])
        state_dict = copy.deepcopy(source.state_dict())
        inner = state_dict["inner"] if wrapper is Delegates else state_dict
        self.assertEqual(list(inner["state"]), list("abcd"))
        other = _params("dcba")
        with torch.no_grad():
            for name, param in other.items():
                param.copy_(params[name])
        target = wrapper(cls(_groups(other), **options))
        target.load_state_dict(state_dict)
        _run(source, params, 2)
        _run(target, other, 2)
        for name in params:
            self.assert_same(other[name], params[name], name)

    def test_a_wrapper_over_an_unnamed_one(self):
        params = _params()
        for wrapper in (Delegates, Rebuilds):
            optimizer = wrapper(SGD(_groups(params, named=False), momentum=0.9))
            _run(optimizer, params, 1)
            state_dict = optimizer.state_dict()
            inner = state_dict["inner"] if wrapper is Delegates else state_dict
            self.assertEqual(list(inner["state"]), [0, 1, 2, 3])

    def test_a_wrapper_that_never_calls_the_base_class_adds_groups(self):
        class Bare(Optimizer):
            def __init__(self):
                self.defaults = {"lr": 0.1}
                self.param_groups = []
                self.state = defaultdict(dict)

        optimizer = Bare()
        params = _params()
        for name, param in params.items():
            optimizer.add_param_group({"params": {name: param}})
        self.assertEqual(names_of(optimizer), [["a"], ["b"], ["c"], ["d"]])
        with self.assertRaisesRegex(ValueError, 'unique.*"b"'):
            optimizer.add_param_group({"params": {"b": Parameter(torch.ones(1))}})

    @parametrize("method", ["step", "load_state_dict", None])
    def test_shapes_of_a_subclass(self, method):
        # One that overrides what makes or loads state may keep other state.
        def same(self, *args, **kwargs):
            return getattr(SGD, method)(self, *args, **kwargs)

        cls = type("Halved", (SGD,), {method: same} if method else {})
        params = _params("ab")
        optimizer = cls(params, momentum=0.9)
        for param in params.values():
            optimizer.state[param]["momentum_buffer"] = torch.ones(1)
        state_dict = copy.deepcopy(optimizer.state_dict())
        if method is None:
            with self.assertRaisesRegex(ValueError, "for Halved:.*\n.*size mismatch"):
                optimizer.load_state_dict(state_dict)
            return
        optimizer.load_state_dict(state_dict)
        for param in params.values():
            self.assertEqual(optimizer.state[param]["momentum_buffer"], torch.ones(1))


instantiate_parametrized_tests(TestNamedSubclasses)


if __name__ == "__main__":
    run_tests()
