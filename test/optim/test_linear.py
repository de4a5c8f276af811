# Owner(s): ["module: optimizer"]

"""Time grows with the number of parameters, not with its square.

Nothing here looks at a clock: what is counted at two sizes are calls, lines and
comparisons of ids. A scan of a list takes place in C, so that the ids are of classes
that compare in Python.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

from _common import build, GROUPED, MATRICES_ONLY, OptimTestCase

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, OptimizerInfo, optims
from torch.testing._internal.common_utils import parametrize, run_tests


#: Numbers of parameters, and by how much the work may grow between them: by a little
#: more than they do, and far less than by the square of it.
SMALL, LARGE = 24, 96
MOST_GROWTH = 1.125 * LARGE / SMALL

(SGD_INFO,) = (info for info in optim_db if info.name == "SGD")


class _Counted:
    """Compares in Python, where it is counted."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    def __hash__(self) -> int:
        return super().__hash__()


class _Index(_Counted, int):
    pass


class _Name(_Counted, str):
    __slots__ = ()


class _Group(dict):
    """A param group that is read in Python, where it is counted."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key)


class _Params(list):
    """Parameters that are iterated over in Python, where it is counted."""

    def __iter__(self):
        yield from super().__iter__()

    def __contains__(self, value: object) -> bool:
        return any(value is item for item in self)


def _work(call: Callable[[], object]) -> int:
    """Count the calls, also of functions in C, and the lines of a call."""
    counted = 0

    def trace(frame, event, arg):
        nonlocal counted
        counted += 1
        return trace

    def profile(frame, event, arg):
        nonlocal counted
        counted += event == "c_call"

    with _hooks(trace, profile):
        call()
    return counted


@contextmanager
def _hooks(trace: Any, profile: Any):
    # Something else may be watching, such as a measurement of coverage.
    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])


def _params(info: OptimizerInfo, count: int) -> dict[str, Parameter]:
    shape = (2, 2) if info.name in MATRICES_ONLY else (2,)
    return {f"layer.{i}": Parameter(torch.ones(shape)) for i in range(count)}


def _trained(info: OptimizerInfo, params: Iterable[Any]) -> Optimizer:
    """An optimizer with state for all of its parameters."""
    optimizer = build(info, list(params))

    def closure() -> torch.Tensor:
        for group in optimizer.param_groups:
            for param in group["params"]:
                grad = torch.ones_like(param)
                sparse = info.only_supports_sparse_grads
                param.grad = grad.to_sparse() if sparse else grad
        return torch.ones(())

    closure()
    if info.step_requires_closure:
        optimizer.step(closure)
    else:
        optimizer.step()
    return optimizer


def _counted(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The same state dict with ids that are counted when they are compared."""

    def own(param_id: Any) -> Any:
        return ids.setdefault(
            param_id, _Name(param_id) if isinstance(param_id, str) else _Index(param_id)
        )

    ids: dict[Any, Any] = {}
    return {
        "state": {own(key): state for key, state in state_dict["state"].items()},
        "param_groups": [
            {**group, "params": list(map(own, group["params"]))}
            for group in state_dict["param_groups"]
        ],
    }


def _in_one_group(params: dict[str, Parameter], named: bool) -> list[Any]:
    return list(params.items() if named else params.values())


def _in_groups(params: dict[str, Parameter], named: bool) -> list[dict[str, Any]]:
    return [_Group(params=[p]) for p in _in_one_group(params, named)]


#: Ways to give parameters to an optimizer.
LAYOUTS = {"one_group": _in_one_group, "groups": _in_groups}


class TestLinear(OptimTestCase):
    """Four times the parameters, about four times the work."""

    def assert_linear(self, prepare: Callable[[int], Callable[[], object]]) -> None:
        """What is prepared for a number of parameters grows with that number."""
        prepare(2)()  # what is done once
        small, large = (_work(prepare(count)) for count in (SMALL, LARGE))
        self.assertGreater(small, SMALL, "nothing was counted")
        self.assertLessEqual(
            large / small,
            MOST_GROWTH,
            f"{large} operations for {LARGE} parameters, {small} for {SMALL}",
        )

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("way", ["unnamed", "named", "reversed"])
    def test_load(self, device, dtype, optim_info, way):
        def prepare(count: int) -> Callable[[], object]:
            pairs = _in_one_group(_params(optim_info, count), way != "unnamed")
            optimizer = _trained(optim_info, pairs)
            saved = optimizer.state_dict()
            if way == "reversed":
                optimizer = _trained(optim_info, pairs[::-1])
            return lambda: optimizer.load_state_dict(_counted(saved))

        self.assert_linear(prepare)

    @parametrize("cast", [True, False])
    @parametrize("layout", LAYOUTS)
    @parametrize("way", ["unnamed", "named", "reversed"])
    def test_load_of_each_layout(self, device, way, layout, cast):
        def prepare(count: int) -> Callable[[], object]:
            params = _params(SGD_INFO, count)
            given = LAYOUTS[layout](params, way != "unnamed")
            saved = _trained(SGD_INFO, given).state_dict()
            # Anew, since an optimizer changes the groups that it is built from
            given = LAYOUTS[layout](params, way != "unnamed")
            for state in saved["state"].values() if cast else ():
                state["momentum_buffer"] = state["momentum_buffer"].double()
            order = -1 if way == "reversed" else 1
            optimizer = _trained(SGD_INFO, given[::order])
            return lambda: optimizer.load_state_dict(_counted(saved))

        self.assert_linear(prepare)

    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    def test_load_of_many_groups(self, device, dtype, optim_info, named):
        def prepare(count: int) -> Callable[[], object]:
            params = _params(optim_info, count)
            optimizer = _trained(optim_info, _in_groups(params, named))
            saved = optimizer.state_dict()
            return lambda: optimizer.load_state_dict(_counted(saved))

        self.assert_linear(prepare)

    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("layout", LAYOUTS)
    def test_load_of_a_part(self, device, dtype, optim_info, layout):
        def prepare(count: int) -> Callable[[], object]:
            params = _params(optim_info, count)
            saved = _trained(optim_info, LAYOUTS[layout](params, True)).state_dict()
            for name in list(params)[::2]:
                params[f"other.{name}"] = params.pop(name)
            optimizer = _trained(optim_info, LAYOUTS[layout](params, True))
            return lambda: optimizer.load_state_dict(_counted(saved), strict=False)

        self.assert_linear(prepare)

    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    def test_construction_with_many_groups(self, device, dtype, optim_info, named):
        def prepare(count: int) -> Callable[[], object]:
            groups = _in_groups(_params(optim_info, count), named)
            return lambda: build(optim_info, groups)

        self.assert_linear(prepare)

    @parametrize("named", [True, False])
    def test_adding_a_group(self, device, named):
        def prepare(count: int) -> Callable[[], object]:
            first, *others = _in_groups(_params(SGD_INFO, count), named)
            optimizer = build(SGD_INFO, others)
            return lambda: optimizer.add_param_group(first)

        self.assert_linear(prepare)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    def test_state_dict(self, device, dtype, optim_info, named):
        layout = _in_groups if optim_info.supports_param_groups else _in_one_group

        def prepare(count: int) -> Callable[[], object]:
            params = _params(optim_info, count)
            optimizer = _trained(optim_info, layout(params, named))
            for group in optimizer.param_groups:
                group["params"] = _Params(group["params"])
            return optimizer.state_dict

        self.assert_linear(prepare)

    def _assert_seen(self, scan: Callable[[Optimizer, dict[str, Any]], object]) -> None:
        """A load that also scans is not taken for a linear one."""

        def prepare(count: int) -> Callable[[], object]:
            pairs = _in_one_group(_params(SGD_INFO, count), True)
            optimizer = _trained(SGD_INFO, pairs)
            saved = _counted(optimizer.state_dict())

            def load() -> None:
                scan(optimizer, saved)
                optimizer.load_state_dict(saved)

            return load

        with self.assertRaisesRegex(AssertionError, "operations for"):
            self.assert_linear(prepare)

    def test_a_scan_of_ids_is_seen(self, device):
        def scan(optimizer: Optimizer, saved: dict[str, Any]) -> None:
            # What the release does for each value that it casts
            for key in saved["state"]:
                any(key in group["params"] for group in saved["param_groups"])

        self._assert_seen(scan)

    def test_a_scan_of_params_is_seen(self, device):
        def scan(optimizer: Optimizer, saved: dict[str, Any]) -> None:
            # What the release does for each group that it adds
            for group in optimizer.param_groups:
                for _ in group["params"]:
                    seen = set()
                    for param in group["params"]:
                        seen.add(param)

        self._assert_seen(scan)


instantiate_device_type_tests(TestLinear, globals(), only_for="cpu")


if __name__ == "__main__":
    run_tests()
