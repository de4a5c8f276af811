# Owner(s): ["oncall: distributed checkpointing"]

"""Distributed checkpoints of optimizers with and without names, in one process."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

from _common import OptimTestCase
from test_linear import _counted, _work, LARGE, MOST_GROWTH, SMALL

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.optim import Adam, Optimizer, SGD
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


OPTIONS = [
    subtest({}, "plain"),
    subtest({"flatten_optimizer_state_dict": True}, "flattened"),
    subtest({"full_state_dict": True}, "full"),
    subtest({"cpu_offload": True}, "offloaded"),
    subtest(
        {"full_state_dict": True, "flatten_optimizer_state_dict": True},
        "full_and_flattened",
    ),
]


class Wrapper(nn.Module):
    """Puts ``module.`` before the names of parameters, as DDP does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def make_optimizer(
    model: nn.Module, *, named: bool, lr: float, backwards: bool = False
) -> Adam:
    pairs = list(model.named_parameters())
    groups = [pairs[:2], pairs[2:]]
    if backwards:
        groups = [pairs[:1:-1], pairs[1::-1]]
    params = [g if named else [p for _, p in g] for g in groups]
    return Adam([{"params": params[0], "lr": lr}, {"params": params[1]}], lr=lr / 10)


def train(model: nn.Module, optimizer: Adam, steps: int) -> None:
    for _ in range(steps):
        model(torch.ones(5, 3)).pow(2).sum().backward()
        optimizer.step()
        # Where there are gradients, no state is made for a load.
        model.zero_grad()


@contextmanager
def single_process() -> Iterator[None]:
    """Ignore the warning that there are no other processes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def pop_names(saved: dict) -> dict[str, list[str]] | list[list[str]]:
    """Take ``param_names`` out of what ``get_optimizer_state_dict`` returned."""
    if "param_groups" in saved:
        return [group.pop("param_names") for group in saved["param_groups"]]
    prefix, suffix = "param_groups.", ".param_names"
    keys = [key for key in saved if key.endswith(suffix)]
    return {k.removeprefix(prefix).removesuffix(suffix): saved.pop(k) for k in keys}


class TestNamedDCP(OptimTestCase):
    @parametrize("options", OPTIONS)
    @parametrize("source_named", [True, False])
    @parametrize("target_named", [True, False])
    def test_resume_in_another_order(self, options, source_named, target_named):
        model = make_model()
        optimizer = make_optimizer(model, named=source_named, lr=0.1)
        train(model, optimizer, 3)
        options = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, optimizer, options=options)

        again = make_model()
        again.load_state_dict(model.state_dict())
        resumed = make_optimizer(again, named=target_named, lr=0.9, backwards=True)
        names = [group.get("param_names") for group in resumed.param_groups]
        set_optimizer_state_dict(again, resumed, deepcopy(saved), options=options)

        after = [group.get("param_names") for group in resumed.param_groups]
        self.assertEqual(after, names)
        train(model, optimizer, 2)
        train(again, resumed, 2)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            self.assertEqual(one, other, rtol=0, atol=0)

    @parametrize("options", OPTIONS)
    def test_names_make_no_difference(self, options):
        flattened = "flatten_optimizer_state_dict" in options
        checkpoints = []
        for named in (False, True):
            model = make_model()
            optimizer = make_optimizer(model, named=named, lr=0.1)
            train(model, optimizer, 2)
            checkpoints.append(
                get_optimizer_state_dict(
                    model, optimizer, options=StateDictOptions(**options)
                )
            )
        unnamed, named = checkpoints
        if flattened:
            expected = {
                "0.weight": ["0.weight", "0.bias"],
                "0.bias": ["0.bias"],
                "2.weight": ["2.weight", "2.bias"],
                "2.bias": ["2.bias"],
            }
        else:
            expected = [["0.weight", "0.bias"], ["2.weight", "2.bias"]]
        self.assertEqual(pop_names(named), expected)
        self.assert_same(unnamed, named)

    @parametrize("flattened", [True, False])
    @parametrize("names", ["no_names", "names"])
    def test_only_names_may_be_missing_in_a_file(self, names, flattened):
        # A template of an optimizer with names has an entry for them.
        options = StateDictOptions(flatten_optimizer_state_dict=flattened)
        model = make_model()
        optimizer = make_optimizer(model, named=names == "names", lr=0.1)
        train(model, optimizer, 2)
        saved = get_optimizer_state_dict(model, optimizer, options=options)
        resumed = make_optimizer(model, named=True, lr=0.9)
        template = get_optimizer_state_dict(model, resumed, options=options)
        with tempfile.TemporaryDirectory() as folder, single_process():
            dcp.save(saved, checkpoint_id=folder)
            dcp.load(template, checkpoint_id=folder)
            for missing in ("other", "param_names", "other.param_names"):
                with self.assertRaisesRegex(
                    dcp.CheckpointException, f"Missing key .*: {missing}"
                ):
                    dcp.load({missing: torch.ones(1)}, checkpoint_id=folder)
        set_optimizer_state_dict(model, resumed, template, options=options)
        self.assertEqual(resumed.param_groups[0]["lr"], 0.1)

    def test_names_with_a_wrapper_prefix(self):
        # As of an optimizer that was built from the parameters of the wrapped model.
        model = make_model()
        wrapped = Wrapper(model)
        optimizer = make_optimizer(wrapped, named=True, lr=0.1)
        train(model, optimizer, 2)
        saved = get_optimizer_state_dict(model, optimizer)
        self.assertEqual(list(saved["state"]), list(dict(model.named_parameters())))
        names = [name for name, _ in optimizer.named_parameters()]
        set_optimizer_state_dict(model, optimizer, saved)
        self.assertEqual([name for name, _ in optimizer.named_parameters()], names)
        self.assertTrue(names[0].startswith("module."))

    @parametrize("flattened", [True, False])
    @parametrize("full", [True, False])
    def test_checkpoint_of_a_release_that_stores_names(self, flattened, full):
        model = make_model()
        optimizer = make_optimizer(model, named=True, lr=0.1)
        train(model, optimizer, 2)
        options = StateDictOptions(
            flatten_optimizer_state_dict=flattened, full_state_dict=full
        )
        saved = get_optimizer_state_dict(model, optimizer, options=options)
        names = [group["param_names"] for group in optimizer.param_groups]
        if flattened:
            for group in names:
                for name in group:
                    saved[f"param_groups.{name}.param_names"] = group
        else:
            for group, own in zip(saved["param_groups"], names, strict=True):
                group["param_names"] = own
        for named in (True, False):
            target = make_optimizer(model, named=named, lr=0.9, backwards=True)
            before = [group.get("param_names") for group in target.param_groups]
            set_optimizer_state_dict(model, target, deepcopy(saved), options=options)
            after = [group.get("param_names") for group in target.param_groups]
            self.assertEqual(after, before)
            # The groups are in the other order.
            lrs = [group["lr"] for group in target.param_groups]
            self.assertEqual(lrs, [g["lr"] for g in optimizer.param_groups][::-1])

    def test_flattened_size_is_linear(self):
        sizes = []
        for number in (10, 100):
            model = nn.ParameterDict(
                {f"p{i}": nn.Parameter(torch.zeros(1)) for i in range(number)}
            )
            optimizer = Adam(model.named_parameters())
            saved = get_optimizer_state_dict(
                model,
                optimizer,
                options=StateDictOptions(flatten_optimizer_state_dict=True),
            )
            values = [v if isinstance(v, list) else [v] for v in saved.values()]
            sizes.append(sum(map(len, values)))
            # A list of all names, and one name for each parameter but the first
            self.assertEqual(sum(len(v) for v in values if "p0" in v), number)
        self.assertEqual(sizes[1], 10 * sizes[0] + 9)

    @parametrize("named", [True, False])
    @parametrize("options", OPTIONS)
    def test_split_group(self, options, named):
        model = make_model()
        params = list(model.named_parameters() if named else model.parameters())
        optimizer = Adam(params, lr=0.1)
        train(model, optimizer, 2)
        options = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, optimizer, options=options)

        again = make_model()
        again.load_state_dict(model.state_dict())
        params = list(again.named_parameters() if named else again.parameters())
        groups = [{"params": params[2:]}, {"params": params[:2]}]
        resumed = Adam(groups, lr=0.9, weight_decay=0.5)
        set_optimizer_state_dict(again, resumed, deepcopy(saved), options=options)
        self.assertEqual([g["weight_decay"] for g in resumed.param_groups], [0, 0])
        train(model, optimizer, 2)
        train(again, resumed, 2)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            self.assertEqual(one, other, rtol=0, atol=0)

    @parametrize("named", [True, False])
    @parametrize("options", OPTIONS)
    def test_parameters_that_were_not_saved(self, options, named):
        model = make_model()
        params = list(model.named_parameters() if named else model.parameters())
        optimizer = Adam(params[2:], lr=0.1)
        train(model, optimizer, 2)
        strict = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, optimizer, options=strict)

        resumed = Adam([{"params": params[:2]}, {"params": params[:1:-1]}], lr=0.9)
        with self.assertRaisesRegex(
            RuntimeError, "Missing optimizer state for parameter '0.weight'"
        ):
            set_optimizer_state_dict(model, resumed, deepcopy(saved), options=strict)
        not_strict = StateDictOptions(**options, strict=False)
        set_optimizer_state_dict(model, resumed, deepcopy(saved), options=not_strict)
        self.assertEqual([group["lr"] for group in resumed.param_groups], [0.9, 0.1])
        for param in model[2].parameters():
            exp_avg = optimizer.state[param]["exp_avg"]
            self.assertEqual(resumed.state[param]["exp_avg"], exp_avg)
        for param in model[0].parameters():
            # Full ones are loaded into what the optimizer has: moments of zero.
            state = resumed.state.get(param, {})
            self.assertEqual("exp_avg" in state, "full_state_dict" in options)
            self.assertFalse(state.get("exp_avg", torch.zeros(1)).any())
        train(model, resumed, 1)

    @parametrize("named", [True, False])
    @parametrize("options", OPTIONS)
    def test_load_into_a_part(self, options, named):
        model = make_model()
        optimizer = make_optimizer(model, named=named, lr=0.1)
        train(model, optimizer, 2)
        options = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, optimizer, options=options)

        params = list(model.named_parameters() if named else model.parameters())
        part = Adam(params[2:][::-1], lr=0.9)
        set_optimizer_state_dict(model, part, deepcopy(saved), options=options)
        self.assertEqual(part.param_groups[0]["lr"], 0.1 / 10)
        self.assertEqual(len(part.state), 2)
        for param in model[2].parameters():
            exp_avg = optimizer.state[param]["exp_avg"]
            self.assertEqual(part.state[param]["exp_avg"], exp_avg)

    @parametrize("options", OPTIONS)
    def test_submodules(self, options):
        options = StateDictOptions(**options)
        found = []
        for named in (False, True):
            model = make_model()
            optimizer = make_optimizer(model, named=named, lr=0.1)
            train(model, optimizer, 2)
            with self.assertWarnsRegex(FutureWarning, "submodules"):
                found.append(
                    get_optimizer_state_dict(
                        model, optimizer, submodules={model[2]}, options=options
                    )
                )
        pop_names(found[1])
        self.assert_same(*found)

    @parametrize("named", [True, False])
    @parametrize("options", OPTIONS)
    def test_no_state(self, options, named):
        model = make_model()
        params = list(model.named_parameters() if named else model.parameters())
        first, second = SGD(params[:2], lr=0.1), SGD(params[2:], lr=0.2)
        options = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, [first, second], options=options)
        groups = [{"params": params[3:1:-1]}, {"params": params[:2]}]
        one = SGD(groups, lr=0.9)
        set_optimizer_state_dict(model, one, deepcopy(saved), options=options)
        self.assertEqual([group["lr"] for group in one.param_groups], [0.2, 0.1])

    @parametrize("named", [True, False])
    def test_plain_save_and_load(self, named):
        # An optimizer may be saved as it is, too: it has a state_dict().
        for stateful in (False, True):
            model = make_model()
            optimizer = make_optimizer(model, named=named, lr=0.1)
            train(model, optimizer, 2)
            resumed = make_optimizer(model, named=named, lr=0.9)
            with tempfile.TemporaryDirectory() as folder, single_process():
                item = optimizer if stateful else optimizer.state_dict()
                dcp.save({"optimizer": item}, checkpoint_id=folder)
                get_optimizer_state_dict(model, resumed)
                item = resumed if stateful else resumed.state_dict()
                dcp.load({"optimizer": item}, checkpoint_id=folder)
            if not stateful:
                resumed.load_state_dict(item)
            self.assert_same(resumed.state_dict(), optimizer.state_dict())

    @parametrize("flattened", [True, False])
    @parametrize("plain_first", [True, False])
    def test_named_state_dict_is_keyed_as_a_checkpoint(self, flattened, plain_first):
        # Provided that the names are the model's: no form needs the optimizer that
        # wrote it to be read in the other.
        if flattened:
            options = StateDictOptions(flatten_optimizer_state_dict=True)
        else:
            options = StateDictOptions()
        model = make_model()
        optimizer = make_optimizer(model, named=True, lr=0.1)
        train(model, optimizer, 2)
        checkpoint = get_optimizer_state_dict(model, optimizer, options=options)
        state = optimizer.state_dict()["state"]
        if flattened:
            for name, entries in state.items():
                for key, value in entries.items():
                    self.assertIs(checkpoint[f"state.{name}.{key}"], value)
            return
        self.assertEqual(list(checkpoint["state"]), list(state))
        resumed = make_optimizer(model, named=True, lr=0.9, backwards=True)
        if plain_first:
            saved = deepcopy(optimizer.state_dict())
            set_optimizer_state_dict(model, resumed, saved)
        else:
            resumed.load_state_dict(deepcopy(checkpoint))
        for name, entries in resumed.named_state():
            self.assertEqual(entries, state[name])


class _Nesting(SGD):
    """Keeps state in dicts, as Shampoo does."""

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state["factors"] = {"left": torch.ones(1), "right": torch.ones(1)}


def _one_group(params: list) -> list[Optimizer]:
    return [Adam(params)]


def _many_groups(params: list) -> list[Optimizer]:
    return [Adam([{"params": [param]} for param in params])]


def _nesting(params: list) -> list[Optimizer]:
    return [_Nesting(params, momentum=0.9)]


def _without_state(params: list) -> list[Optimizer]:
    return [SGD([{"params": [param]} for param in params])]


def _many_optimizers(params: list) -> list[Optimizer]:
    return [Adam([param]) for param in params]


WAYS = {
    "one_group": _one_group,
    "many_groups": _many_groups,
    "nested_state": _nesting,
    "without_state": _without_state,
    "many_optimizers": _many_optimizers,
}


class TestLinearDCP(OptimTestCase):
    """Four times the parameters, about four times the work."""

    def assert_linear(self, prepare: Callable[[int], Callable[[], object]]) -> None:
        prepare(2)()  # what is done once
        small, large = (_work(prepare(count)) for count in (SMALL, LARGE))
        self.assertGreater(small, SMALL, "nothing was counted")
        self.assertLessEqual(large / small, MOST_GROWTH, f"{large}, {small}")

    def prepare(self, way: str, count: int, named: bool) -> tuple[nn.Module, list]:
        model = nn.Sequential(*[nn.Linear(1, 1, bias=False) for _ in range(count)])
        params = list(model.named_parameters() if named else model.parameters())
        return model, WAYS[way](params)

    @parametrize("way", list(WAYS))
    @parametrize("options", [o for o in OPTIONS if o.name != "offloaded"])
    @parametrize("named", [True, False])
    def test_get(self, way, options, named):
        def prepare(count: int) -> Callable[[], object]:
            model, optimizers = self.prepare(way, count, named)
            given = StateDictOptions(**options)
            return lambda: get_optimizer_state_dict(model, optimizers, options=given)

        self.assert_linear(prepare)

    @parametrize("way", list(WAYS))
    @parametrize("options", [o for o in OPTIONS if o.name != "offloaded"])
    @parametrize("named", [True, False])
    def test_set(self, way, options, named):
        def prepare(count: int) -> Callable[[], object]:
            model, optimizers = self.prepare(way, count, named)
            given = StateDictOptions(**options)
            saved = get_optimizer_state_dict(model, optimizers, options=given)
            if "param_groups" in saved:
                saved = _counted(saved)
            return lambda: set_optimizer_state_dict(
                model, optimizers, saved, options=given
            )

        self.assert_linear(prepare)


instantiate_parametrized_tests(TestNamedDCP)
instantiate_parametrized_tests(TestLinearDCP)


if __name__ == "__main__":
    run_tests()
