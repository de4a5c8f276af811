# Owner(s): ["oncall: distributed"]
"""Optimizers with parameter names over models wrapped by FullyShardedDataParallel."""

import copy
import warnings
from typing import Any


from _distributed import GlooContinuousTestCase  # usort: skip

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel as FSDP,
    OptimStateKeyType,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictType,
)
from torch.distributed.fsdp._common_utils import clean_tensor_name
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.optim import _NamedOptimizer
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)
from torch.utils._pytree import tree_map_only


CPU = torch.device("cpu")
#: In the model's order. The shapes make FSDP split parameters between two ranks.
FQNS = [
    f"{module}.{kind}"
    for module in ("first", "inner.0", "inner.1", "outer", "last")
    for kind in ("weight", "bias")
]


class Model(nn.Module):
    """Some of its parameters are in FSDP modules of their own, others remain."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.inner = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))
        self.outer = nn.Linear(4, 2)
        self.last = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.first(x).tanh()).tanh()
        return self.last(self.outer(x).tanh())


def wrap(use_orig_params: bool, model: nn.Module | None = None, **kwargs: Any) -> FSDP:
    model = Model() if model is None else model
    kwargs = {"use_orig_params": use_orig_params, "device_id": CPU, **kwargs}
    if "auto_wrap_policy" not in kwargs:
        model.inner = FSDP(model.inner, **kwargs)
        model.outer = FSDP(model.outer, **kwargs)
    return FSDP(model, **kwargs)


def make_groups(model: nn.Module, *, flip: bool = False) -> list[dict[str, Any]]:
    """Two groups with learning rates of their own, or the same from back to front."""
    pairs = list(model.named_parameters())
    groups = [
        {"params": [(n, p) for n, p in pairs if "inner" in n], "lr": 0.1},
        {"params": [(n, p) for n, p in pairs if "inner" not in n], "lr": 0.2},
    ]
    if flip:
        groups = [{**g, "params": g["params"][::-1]} for g in reversed(groups)]
    return groups


def unnamed(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**group, "params": [p for _, p in group["params"]]} for group in groups]


def adam(params: Any, **kwargs: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, foreach=False, **kwargs)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        model.zero_grad()
        x = torch.arange(15.0).reshape(5, 3) / 7 + dist.get_rank() + step
        model(x).square().sum().backward()
        optimizer.step()


def set_type(model: nn.Module, kind: str, **kwargs: Any) -> None:
    """Choose full or sharded state dicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "full":
            kwargs = {"rank0_only": False, "offload_to_cpu": False, **kwargs}
            FSDP.set_state_dict_type(
                model,
                StateDictType.FULL_STATE_DICT,
                FullStateDictConfig(),
                FullOptimStateDictConfig(**kwargs),
            )
        else:
            FSDP.set_state_dict_type(
                model,
                StateDictType.SHARDED_STATE_DICT,
                ShardedStateDictConfig(),
                ShardedOptimStateDictConfig(**kwargs),
            )


def full(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer holds, for comparison: its full state dict."""
    set_type(model, "full")
    # Parameters that are flattened together share one "step", which only FSDP bears
    return tree_map_only(
        torch.Tensor, torch.clone, FSDP.optim_state_dict(model, optimizer)
    )


def names_of(optimizer: torch.optim.Optimizer) -> list[list[str] | None]:
    return [group.get("param_names") for group in optimizer.param_groups]


def annotated(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The state dict that releases from 2.6 on write for a named optimizer."""
    names = [n for group in state_dict["param_groups"] for n in group["params"]]
    index = {name: i for i, name in enumerate(names)}
    return {
        "state": {index[name]: s for name, s in state_dict["state"].items()},
        "param_groups": [
            {**group, "params": [index[n] for n in group["params"]]}
            for group in state_dict["param_groups"]
        ],
    }


class FSDPTestCase(GlooContinuousTestCase):
    def run_trained(
        self, use_orig_params: bool, named: bool = True, **kwargs: Any
    ) -> tuple[FSDP, torch.optim.Optimizer]:
        model = wrap(use_orig_params, **kwargs)
        groups = make_groups(model)
        optimizer = adam(groups if named else unnamed(groups))
        train(model, optimizer, 2)
        return model, optimizer

    def twin(self, model: FSDP, **kwargs: Any) -> FSDP:
        """A model of its own with the same parameters."""
        other = wrap(model._use_orig_params, **kwargs)
        with torch.no_grad():
            for ours, theirs in zip(other.parameters(), model.parameters()):
                ours.copy_(theirs)
        return other

    def assert_same_state(self, found: dict[str, Any], expected: dict[str, Any]):
        """Compare full state dicts, whatever the order of parameters and groups."""
        self.assertEqual(found["state"].keys(), expected["state"].keys())
        for name, state in expected["state"].items():
            self.assertEqual(found["state"][name], state, rtol=0, atol=0, msg=name)
        self.assertEqual(options_by_name(found), options_by_name(expected))

    def assert_same_run(
        self,
        model: FSDP,
        optimizer: torch.optim.Optimizer,
        other: FSDP,
        other_optimizer: torch.optim.Optimizer,
    ):
        train(model, optimizer, 2)
        train(other, other_optimizer, 2)
        for (name, ours), theirs in zip(
            other.named_parameters(), model.parameters(), strict=True
        ):
            self.assertEqual(ours, theirs, rtol=0, atol=0, msg=name)


def options_by_name(state_dict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {k: v for k, v in group.items() if k not in ("params", "param_names")}
        for group in state_dict["param_groups"]
        for name in group["params"]
    }


class TestNamedFSDP(FSDPTestCase):
    @parametrize("kind", ["full", "sharded"])
    @parametrize("use_orig_params", [True, False])
    def test_named_round_trip(self, use_orig_params: bool, kind: str):
        model, optimizer = self.run_trained(use_orig_params)
        names = names_of(optimizer)
        set_type(model, kind)
        saved = FSDP.optim_state_dict(model, optimizer)
        # Clean FQNs throughout, also where parameters are flattened
        self.assertEqual(set(saved["state"]), set(FQNS))
        listed = [n for g in saved["param_groups"] for n in g["params"]]
        self.assertEqual(set(listed), set(FQNS))
        self.assertEqual(len(listed), len(FQNS))
        for group in saved["param_groups"]:
            self.assertEqual(group["param_names"], group["params"])

        other = self.twin(model)
        set_type(other, kind)
        resumed = adam(make_groups(other), lr=0.9)
        to_load = FSDP.optim_state_dict_to_load(other, resumed, saved)
        result = resumed.load_state_dict(to_load)
        self.assertEqual((result.missing_keys, result.unexpected_keys), ([], []))
        self.assertEqual(names_of(resumed), names)
        self.assert_same_state(full(other, resumed), full(model, optimizer))
        self.assert_same_run(model, optimizer, other, resumed)

    @parametrize("kind", ["full", "sharded"])
    @parametrize("use_orig_params", [True, False])
    def test_reordered(self, use_orig_params: bool, kind: str):
        for named in (True, False):
            model, optimizer = self.run_trained(use_orig_params, named)
            set_type(model, kind)
            saved = FSDP.optim_state_dict(model, optimizer)
            other = self.twin(model)
            set_type(other, kind)
            resumed = adam(make_groups(other, flip=True), lr=0.9)
            names = names_of(resumed)
            to_load = FSDP.optim_state_dict_to_load(other, resumed, saved)
            resumed.load_state_dict(to_load)
            self.assertEqual(names_of(resumed), names)
            self.assert_same_state(full(other, resumed), full(model, optimizer))
            self.assert_same_run(model, optimizer, other, resumed)

    @parametrize("to_orig_params", [True, False])
    def test_resharded(self, to_orig_params: bool):
        """Into modules that are wrapped otherwise, by a policy, and back."""
        model, optimizer = self.run_trained(not to_orig_params)
        saved = full(model, optimizer)
        policy = ModuleWrapPolicy({nn.Linear})
        other = wrap(to_orig_params, auto_wrap_policy=policy)
        resumed = adam(make_groups(other, flip=True), lr=0.9)
        set_type(other, "full")
        resumed.load_state_dict(FSDP.optim_state_dict_to_load(other, resumed, saved))
        again = full(other, resumed)
        self.assert_same_state(again, saved)

        back = self.twin(model)
        set_type(back, "sharded")
        original = adam(make_groups(back, flip=True))
        set_type(back, "full")
        original.load_state_dict(FSDP.optim_state_dict_to_load(back, original, again))
        self.assert_same_run(model, optimizer, back, original)

    @parametrize("use_orig_params", [True, False])
    def test_without_wrapping(self, use_orig_params: bool):
        """A model without FSDP trains with the names and the state of one with it."""
        model, optimizer = self.run_trained(use_orig_params)
        saved = full(model, optimizer)
        plain = Model()
        reference = adam(make_groups(plain))
        for step in range(2):
            reference.zero_grad()
            for rank in range(self.world_size):
                x = torch.arange(15.0).reshape(5, 3) / 7 + rank + step
                loss = plain(x).square().sum() / self.world_size
                loss.backward()
            reference.step()
        expected = reference.state_dict()
        self.assertEqual(saved["state"], expected["state"])
        # One loads what the other saved, in another order too
        flipped = adam(make_groups(plain, flip=True), lr=0.9)
        flipped.load_state_dict(saved)
        self.assertEqual(flipped.state_dict()["state"], saved["state"])
        self.assertEqual([group["lr"] for group in flipped.param_groups], [0.2, 0.1])
        other = self.twin(model)
        resumed = adam(make_groups(other, flip=True))
        set_type(other, "full")
        resumed.load_state_dict(FSDP.optim_state_dict_to_load(other, resumed, expected))
        self.assert_same_state(full(other, resumed), expected)

    @parametrize("kind", ["full", "sharded"])
    @parametrize("use_orig_params", [True, False])
    def test_unnamed_stays_unnamed(self, use_orig_params: bool, kind: str):
        model, optimizer = self.run_trained(use_orig_params)
        set_type(model, kind)
        saved = FSDP.optim_state_dict(model, optimizer)
        other = self.twin(model)
        set_type(other, kind)
        resumed = adam(unnamed(make_groups(other)), lr=0.9)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            FSDP.optim_state_dict_to_load(other, resumed, saved, load_directly=True)
        self.assertEqual(names_of(resumed), [None, None])
        self.assert_same_run(model, optimizer, other, resumed)

    def test_names_of_the_user(self):
        """The optimizer's names need not be those that the wrapped model gives."""
        namings = [
            clean_tensor_name,
            "module.{}".format,
            "".join,
            # Names that are FQNs, but of other parameters
            lambda name: FQNS[FQNS.index(clean_tensor_name(name)) - 3],
        ]
        for naming in namings:
            model = wrap(True)
            groups = make_groups(model)
            renamed = [
                {**g, "params": [(naming(n), p) for n, p in g["params"]]}
                for g in groups
            ]
            optimizer = adam(renamed)
            reference_model, reference = self.run_trained(True)
            train(model, optimizer, 2)
            expected = full(reference_model, reference)
            self.assert_same_state(full(model, optimizer), expected)
            names = names_of(optimizer)
            train(model, optimizer, 1)
            to_load = FSDP.optim_state_dict_to_load(model, optimizer, expected)
            optimizer.load_state_dict(to_load)
            self.assertEqual(names_of(optimizer), names)
            self.assert_same_state(full(model, optimizer), expected)

    @parametrize("use_orig_params", [True, False])
    def test_passed_state_dict(self, use_orig_params: bool):
        """``optim_state_dict=``, from this release or an older one, in any order."""
        model, optimizer = self.run_trained(use_orig_params)
        expected = full(model, optimizer)
        own = optimizer.state_dict()
        flipped = adam(make_groups(model, flip=True))
        for passed in (own, annotated(own)):
            for by in (optimizer, flipped):
                found = FSDP.optim_state_dict(model, by, passed)
                self.assert_same_state(found, expected)
        nothing_else = {"state": own["state"]}
        found = FSDP.optim_state_dict(model, flipped, nothing_else)
        self.assertEqual(found, {"state": expected["state"]}, rtol=0, atol=0)
        # Positions, as DCP passes them, get no names
        positions = annotated(own)
        for group in positions["param_groups"]:
            del group["param_names"]
        found = FSDP.optim_state_dict(model, optimizer, positions)
        self.assert_same_state(found, expected)
        self.assertNotIn("param_names", found["param_groups"][0])
        # Names that are only in part the optimizer's
        other = annotated(own)
        other["param_groups"][1]["param_names"] = [
            f"x{i}" for i in range(len(other["param_groups"][1]["params"]))
        ]
        with self.assertRaisesRegex(ValueError, 'no parameter named "x0"'):
            FSDP.optim_state_dict(model, optimizer, other)
        # What a release from 2.6 on saved has the optimizer's names in the groups
        for group in expected["param_groups"]:
            group["param_names"] = ["_fsdp_wrapped_module._flat_param"]
        for named in (True, False):
            groups = make_groups(model)
            resumed = adam(groups if named else unnamed(groups))
            names = names_of(resumed)
            set_type(model, "full")
            resumed.load_state_dict(
                FSDP.optim_state_dict_to_load(model, resumed, expected)
            )
            self.assertEqual(names_of(resumed), names)
            self.assert_same_state(full(model, resumed), expected)

    def test_what_differs(self):
        """Loading tells what differs, or skips it."""
        model, optimizer = self.run_trained(True)
        saved = full(model, optimizer)
        # Groups
        pairs = list(model.named_parameters())
        regrouped = adam([{"params": pairs[:3]}, {"params": pairs[3:]}])
        to_load = FSDP.optim_state_dict_to_load(model, regrouped, saved)
        with self.assertRaisesRegex(ValueError, "(?s)Groups differ.*inner"):
            regrouped.load_state_dict(to_load)
        regrouped.load_state_dict(to_load, strict=False)
        self.assertEqual(full(model, regrouped)["state"], saved["state"])
        self.assertEqual([g["lr"] for g in regrouped.param_groups], [1e-3, 1e-3])
        # Parameters that the optimizer does not have
        part = adam([(n, p) for n, p in pairs if "inner" not in n])
        to_load = FSDP.optim_state_dict_to_load(model, part, saved)
        with self.assertRaisesRegex(ValueError, '"inner.0.weight"'):
            part.load_state_dict(to_load)
        result = part.load_state_dict(to_load, strict=False)
        self.assertEqual(result.unexpected_keys, FQNS[2:6])
        # Some parameters are not on this rank
        own = {p for p in part.param_groups[0]["params"] if p.numel()}
        self.assertEqual(set(part.state), own)
        # Parameters that the model does not have
        more = copy.deepcopy(saved)
        more["state"]["new"] = more["state"]["first.bias"]
        more["param_groups"][0]["params"].append("new")
        to_load = FSDP.optim_state_dict_to_load(model, optimizer, more)
        with self.assertRaisesRegex(ValueError, 'Unexpected.*"new"'):
            optimizer.load_state_dict(to_load)
        result = optimizer.load_state_dict(to_load, strict=False)
        self.assertEqual(result.unexpected_keys, ["new"])
        self.assert_same_state(full(model, optimizer), saved)
        # An FQN of the saved model that is another parameter's name here
        odd = adam([("new" if "last.bias" in n else n, p) for n, p in pairs])
        with self.assertRaisesRegex(
            ValueError, 'has "new", which is not the parameter'
        ):
            FSDP.optim_state_dict_to_load(model, odd, more)

    @parametrize("use_orig_params", [True, False])
    def test_rank0_only(self, use_orig_params: bool):
        """Saved on rank 0 and broadcast from there, offloaded to the CPU."""
        model, optimizer = self.run_trained(use_orig_params)
        expected = full(model, optimizer)
        # Without flattening, offloading from the CPU to the CPU does not copy
        set_type(model, "full", rank0_only=True, offload_to_cpu=not use_orig_params)
        saved = FSDP.optim_state_dict(model, optimizer)
        if self.rank == 0:
            self.assert_same_state(saved, expected)
        else:
            self.assertEqual(saved, {})
        other = self.twin(model)
        set_type(other, "full", rank0_only=True)
        resumed = adam(make_groups(other, flip=True), lr=0.9)
        names = names_of(resumed)
        resumed.load_state_dict(FSDP.optim_state_dict_to_load(other, resumed, saved))
        self.assertEqual(names_of(resumed), names)
        self.assert_same_state(full(other, resumed), expected)

    @parametrize("use_orig_params", [True, False])
    def test_older_functions(self, use_orig_params: bool):
        warnings.simplefilter("ignore", FutureWarning)
        model, optimizer = self.run_trained(use_orig_params)
        expected = full(model, optimizer)
        on_all = FSDP.full_optim_state_dict(model, optimizer, rank0_only=False)
        on_first = FSDP.full_optim_state_dict(model, optimizer)
        by_input = FSDP.full_optim_state_dict(
            model, optimizer, unnamed(make_groups(model)), rank0_only=False
        )
        if not use_orig_params:  # which on the CPU mixes up full states
            self.assert_same_state(on_all, expected)
            self.assert_same_state(by_input, expected)
        sharded = FSDP.sharded_optim_state_dict(model, optimizer)
        other = self.twin(model)
        set_type(other, "full")
        for load in (
            lambda o: FSDP.shard_full_optim_state_dict(expected, other, optim=o),
            lambda o: FSDP.scatter_full_optim_state_dict(
                expected if self.rank == 0 else None, other, optim=o
            ),
            lambda o: FSDP.flatten_sharded_optim_state_dict(sharded, other, o),
        ):
            resumed = adam(make_groups(other, flip=True), lr=0.9)
            resumed.load_state_dict(load(resumed))
            self.assert_same_state(full(other, resumed), expected)
        self.assertEqual(on_first == {}, self.rank != 0)

    @parametrize("scatter", [True, False])
    @parametrize("named_by", ["model", "optimizer"])
    @parametrize("use_orig_params", [True, False])
    def test_older_functions_without_the_optimizer(
        self, use_orig_params: bool, named_by: str, scatter: bool
    ):
        warnings.simplefilter("ignore", FutureWarning)
        model, _ = self.run_trained(use_orig_params)
        # One group of all parameters, in another order than model.parameters()
        pairs = list(model.named_parameters())[::-1]
        optimizer = adam(pairs)
        train(model, optimizer, 2)
        saved = full(model, optimizer)
        (group,) = saved["param_groups"]
        if named_by == "optimizer":  # as releases without names in state do
            group["param_names"] = [name for name, _ in pairs]
        if scatter:
            given = saved if self.rank == 0 else None
            result = FSDP.scatter_full_optim_state_dict(given, model)
        else:
            result = FSDP.shard_full_optim_state_dict(saved, model)
        (group,) = result["param_groups"]
        self.assertEqual(group["params"], list(range(len(pairs))))
        if named_by == "optimizer":
            names = [name for name, _ in pairs[::-1]]
            self.assertEqual(group["param_names"], names)
        elif use_orig_params:
            self.assertEqual(group["param_names"], FQNS)
        else:  # The first one in each flat parameter
            names = ["first.weight", "inner.0.weight", "outer.weight"]
            self.assertEqual(group["param_names"], names)
        # Positions in model.parameters()
        plain = adam(list(model.parameters()))
        plain.load_state_dict(result)
        self.assertEqual(names_of(plain), [group["param_names"]])
        self.assert_same_state(full(model, plain), saved)

    def test_rekey(self):
        ids, fqns = OptimStateKeyType.PARAM_ID, OptimStateKeyType.PARAM_NAME
        plain = Model()
        for named in (True, False):
            model, optimizer = self.run_trained(False, named)
            saved = full(model, optimizer)
            target = adam(make_groups(plain, flip=True), lr=0.9)
            names = names_of(target)
            rekeyed = FSDP.rekey_optim_state_dict(saved, ids, plain, optim=target)
            self.assertEqual(set(rekeyed["state"]), set(range(len(FQNS))))
            target.load_state_dict(rekeyed)
            self.assertEqual(names_of(target), names)
            self.assert_same_state(target.state_dict(), saved)
            # From the plain model back, by FQN, whatever the optimizer's names
            for prefix in ("", "module."):
                groups = make_groups(plain, flip=True)
                for group in groups:
                    group["params"] = [(prefix + n, p) for n, p in group["params"]]
                source = adam(groups)
                source.load_state_dict(
                    torch.optim.rename_parameters(saved, lambda n, x=prefix: x + n)
                    if named
                    else FSDP.rekey_optim_state_dict(saved, ids, plain, optim=source)
                )
                own = source.state_dict()
                for passed in (own, annotated(own)):
                    result = FSDP.rekey_optim_state_dict(
                        passed, fqns, plain, optim=source
                    )
                    self.assert_same_state(result, saved)
                    for group in result["param_groups"]:
                        self.assertEqual(group["param_names"], group["params"])
                    by_id = FSDP.rekey_optim_state_dict(
                        passed, ids, plain, optim=source
                    )
                    again = adam(groups, lr=0.9)
                    again.load_state_dict(by_id)
                    self.assertEqual(again.state_dict(), own, rtol=0, atol=0)
                resumed = adam(make_groups(model, flip=True))
                set_type(model, "full")
                resumed.load_state_dict(
                    FSDP.optim_state_dict_to_load(model, resumed, result)
                )
                self.assert_same_state(full(model, resumed), saved)
        # Without the optimizer, positions are those in model.parameters()
        single = torch.optim.SGD(plain.named_parameters(), momentum=0.5)
        for param in plain.parameters():
            param.grad = torch.full_like(param, float(param.sum()))
        single.step()
        own = single.state_dict()
        by_id = FSDP.rekey_optim_state_dict(own, ids, plain)
        self.assertEqual(by_id["param_groups"][0]["param_names"], FQNS)
        flipped = torch.optim.SGD(list(plain.named_parameters())[::-1])
        flipped.load_state_dict(by_id)
        self.assertEqual(flipped.state_dict()["state"], own["state"])
        # Without state, too
        for optimizer in (torch.optim.SGD(plain.named_parameters()), single):
            optimizer.state.clear()
            own = optimizer.state_dict()
            for passed in (own, annotated(own)):
                for kind, expected in ((ids, list(range(10))), (fqns, sorted(FQNS))):
                    result = FSDP.rekey_optim_state_dict(
                        passed, kind, plain, optim=optimizer
                    )
                    self.assertEqual(result["param_groups"][0]["params"], expected)

    @parametrize("use_orig_params", [True, False])
    def test_kinds_of_keys(self, use_orig_params: bool):
        """What the groups list tells names from positions, not a key of ``state``."""
        # No state at all
        for named in (True, False):
            model = wrap(use_orig_params)
            groups = make_groups(model)
            groups = groups if named else unnamed(groups)
            optimizer = torch.optim.SGD(groups)
            train(model, optimizer, 1)
            saved = full(model, optimizer)
            self.assertEqual(options_by_name(saved)["last.bias"]["lr"], groups[1]["lr"])
            self.assertEqual(saved["state"], {})
            for group in optimizer.param_groups:
                group["lr"] = 0.9
            FSDP.optim_state_dict_to_load(model, optimizer, saved, load_directly=True)
            self.assertEqual([g["lr"] for g in optimizer.param_groups], [0.1, 0.2])
        # An entry of the user before those of parameters
        for named in (True, False):
            model = wrap(use_orig_params)
            groups = make_groups(model)
            optimizer = adam(groups if named else unnamed(groups))
            optimizer.state["epoch"] = {"number": 3}
            train(model, optimizer, 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                saved = full(model, optimizer)
            self.assertEqual(saved["state"]["epoch"], {"number": 3})
            self.assertEqual(set(saved["state"]), {"epoch", *FQNS})
            resumed = adam(
                make_groups(model, flip=True) if named else unnamed(make_groups(model))
            )
            FSDP.optim_state_dict_to_load(model, resumed, saved, load_directly=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.assert_same_state(full(model, resumed), saved)
            self.assertEqual(resumed.state["epoch"], {"number": 3})

    @parametrize("use_orig_params", [True, False])
    def test_optimizers_keyed_by_fqn(self, use_orig_params: bool):
        """``_NamedOptimizer`` and torchrec's ``KeyedOptimizer`` keep FQNs as keys."""
        reference_model, reference = self.run_trained(use_orig_params, False)
        expected = full(reference_model, reference)
        for kind in (_named_optimizer, Keyed, KeyedWithNames):
            model = wrap(use_orig_params)
            optimizer = kind(model)
            set_type(model, "full")
            without_state = FSDP.optim_state_dict(model, optimizer)
            self.assertEqual(set(options_by_name(without_state)), set(FQNS))
            train(model, optimizer, 2)
            saved = copy.deepcopy(FSDP.optim_state_dict(model, optimizer))
            self.assert_same_state(saved, expected)
            train(model, optimizer, 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of states on the other rank
                to_load = FSDP.optim_state_dict_to_load(
                    model, optimizer, saved, is_named_optimizer=True
                )
            current = {name for name, _ in model.named_parameters()}
            self.assertLessEqual(set(to_load["state"]), current)
            self.assertNotIn("param_names", to_load["param_groups"][0])
            optimizer.load_state_dict(to_load)
            found = FSDP.optim_state_dict(model, optimizer)
            self.assert_same_state(found, expected)
        # The flag on an optimizer of torch.optim, which goes by its own names
        model = wrap(use_orig_params)
        groups = make_groups(model)
        for group in groups:
            group["params"] = [(f"my {n}", p) for n, p in group["params"]]
        optimizer = adam(groups)
        train(model, optimizer, 1)
        set_type(model, "full")
        optimizer.load_state_dict(
            FSDP.optim_state_dict_to_load(
                model, optimizer, expected, is_named_optimizer=True
            )
        )
        self.assert_same_state(full(model, optimizer), expected)


def _named_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _NamedOptimizer(
            model.named_parameters(),
            torch.optim.Adam,
            unnamed(make_groups(model)),
            foreach=False,
        )


class Keyed(torch.optim.Adam):
    """Keys its state dict by FQN, though its groups have no names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(self.groups(model), foreach=False)
        self.keys = {param: name for name, param in model.named_parameters()}

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return unnamed(make_groups(model))

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": {self.keys[p]: s for p, s in self.state.items()},
            "param_groups": [
                {**g, "params": sorted(self.keys[p] for p in g["params"])}
                for g in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for param, name in self.keys.items():
            if name in state_dict["state"]:
                self.state[param] = state_dict["state"][name]


class KeyedWithNames(Keyed):
    """Keys its state dict by FQN, though its groups have other names."""

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        groups = make_groups(model)
        return [
            {**g, "params": [(f"my {n}", p) for n, p in g["params"]]} for g in groups
        ]


instantiate_parametrized_tests(TestNamedFSDP)


if __name__ == "__main__":
    run_tests()
