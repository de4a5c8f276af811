# Owner(s): ["module: optimizer"]

"""Properties of named loading, for random names, orders, groups and subsets.

The oracle knows the state and the options of each parameter by its name, and
nothing of how an optimizer or a state dict keeps them.
"""

import os
from copy import deepcopy
from typing import Any

from _common import (
    annotated,
    build,
    GROUPED,
    indexed,
    make_params,
    OptimTestCase,
    options_by_name,
    saved,
    snapshot,
    state_by_name,
    train,
)
from _describe import describe
from hypothesis import assume, given, settings, strategies as st

from torch.nn import Parameter
from torch.optim import Optimizer, rename_parameters
from torch.testing._internal.common_optimizers import optim_db, OptimizerInfo
from torch.testing._internal.common_utils import run_tests


# Reproducible by default. More examples find more: set the number of them.
_EXAMPLES = int(os.environ.get("OPTIM_NAMES_EXAMPLES", "0"))
check = settings(
    max_examples=_EXAMPLES or 25,
    derandomize=not _EXAMPLES,
    deadline=None,
    database=None,
)

any_optimizer = st.sampled_from(optim_db)
any_grouped = st.sampled_from(GROUPED)
loads = st.sampled_from([saved, lambda optimizer: annotated(saved(optimizer))])


def names_of(info: OptimizerInfo) -> list[str]:
    """All names that there may be for an optimizer."""
    return list(make_params(info))


@st.composite
def groupings(
    draw: st.DrawFn, info: OptimizerInfo, names: list[str]
) -> list[list[str]]:
    """Names in a random order, in groups if there can be several of them."""
    order = draw(st.permutations(names))
    if not info.supports_param_groups:
        return [order]
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(order) - 1)), max_size=3)))
    ends = [*(cut for cut in cuts if cut < len(order)), len(order)]
    groups = [order[a:b] for a, b in zip([0, *ends], ends)]
    if draw(st.booleans()):
        groups.insert(draw(st.integers(0, len(groups))), [])
    return groups


@st.composite
def subsets(draw: st.DrawFn, info: OptimizerInfo) -> list[str]:
    """Some of the names, at least one."""
    return draw(st.lists(st.sampled_from(names_of(info)), min_size=1, unique=True))


def trained(
    info: OptimizerInfo, groups: list[list[str]], steps: int, first_lr: float
) -> tuple[Optimizer, dict[str, Parameter]]:
    """An optimizer whose groups have options of their own, after some steps."""
    params = make_params(info, order=[name for group in groups for name in group])
    optimizer = build(
        info,
        [
            {"params": {name: params[name] for name in group}, "lr": first_lr * (i + 1)}
            for i, group in enumerate(groups)
        ],
    )
    train(info, optimizer, params, range(steps))
    return optimizer, params


def reorder(draw: Any, groups: list[list[str]]) -> list[list[str]]:
    """The same groups in another order, each in another order."""
    groups = draw(st.permutations(groups))
    return [draw(st.permutations(group)) for group in groups]


class TestNamedProperties(OptimTestCase):
    def _assert_state(self, optimizer: Optimizer, params: Any, expected: Any) -> None:
        """Each parameter has the state that is expected for its name."""
        actual = {
            name: describe(s) for name, s in state_by_name(optimizer, params).items()
        }
        self.assertEqual(actual.keys(), expected.keys())
        self.assertEqual(len(optimizer.state), len(expected))
        for name, state in expected.items():
            self.assertEqual(actual[name], state, msg=name)

    def _described(self, optimizer: Optimizer, params: Any) -> dict[str, Any]:
        return {
            name: describe(s) for name, s in state_by_name(optimizer, params).items()
        }

    @check
    @given(st.data(), any_grouped, st.integers(0, 2), loads)
    def test_same_groups_in_any_order(self, data, info, steps, load):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        source, source_params = trained(info, groups, 2, 0.01)
        target, params = trained(info, reorder(data.draw, groups), steps, 0.5)
        names = [group["param_names"] for group in target.param_groups]
        file = load(source)
        before = describe(file)
        result = target.load_state_dict(file)
        self.assertEqual(tuple(result), ([], []))
        self._assert_state(target, params, self._described(source, source_params))
        self.assert_same(
            {n: options_by_name(target, params)[n] for n in source_params},
            options_by_name(source, source_params),
        )
        self.assertEqual([g["param_names"] for g in target.param_groups], names)
        self.assertEqual(describe(file), before)

    @check
    @given(st.data(), any_grouped, loads)
    def test_not_strict_with_any_names_and_groups(self, data, info, load):
        saved_groups = data.draw(groupings(info, data.draw(subsets(info))))
        source, source_params = trained(info, saved_groups, 2, 0.01)
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        target, params = trained(info, groups, 1, 0.5)
        own_state = self._described(target, params)
        own_options = options_by_name(target, params)
        there = self._described(source, source_params)
        their_options = options_by_name(source, source_params)

        result = target.load_state_dict(load(source), strict=False)

        order = [name for group in groups for name in group]
        self.assertEqual(result.missing_keys, [n for n in order if n not in there])
        self.assertEqual(
            result.unexpected_keys, [n for n in source_params if n not in params]
        )
        self._assert_state(target, params, {**own_state, **_only(there, params)})
        options = options_by_name(target, params)
        saved_in = {n: i for i, names in enumerate(saved_groups) for n in names}
        sources = [{saved_in[n] for n in group if n in saved_in} for group in groups]
        for group, own_sources in zip(groups, sources):
            # No two groups have the same learning rate, on either side.
            agreed = len(own_sources) == 1
            alone = sum(not own_sources.isdisjoint(s) for s in sources) == 1
            for name in group:
                lr = own_options[name]["lr"]
                if agreed and alone:
                    lr = their_options[saved_groups[min(own_sources)][0]]["lr"]
                self.assertEqual(options[name]["lr"], lr, msg=name)

    @check
    @given(st.data(), any_optimizer, loads)
    def test_strict_with_other_names_or_groups_changes_nothing(self, data, info, load):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        other = data.draw(groupings(info, data.draw(subsets(info))))
        assume(_as_sets(groups) != _as_sets(other))
        # Annotated files without a common name are loaded by position.
        assume(_common(groups, other))
        source, _ = trained(info, groups, 2, 0.01)
        target, _ = trained(info, other, 1, 0.5)
        file = load(source)
        before, file_before = snapshot(target), describe(file)
        with self.assertRaisesRegex(ValueError, "loading state_dict"):
            target.load_state_dict(file)
        self.assert_unchanged(target, before)
        self.assertEqual(describe(file), file_before)

    @check
    @given(st.data(), any_optimizer, st.booleans())
    def test_own_state_dict_is_the_identity(self, data, info, strict):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        optimizer, params = trained(info, groups, data.draw(st.integers(0, 2)), 0.01)
        before = describe([optimizer.state_dict(), self._described(optimizer, params)])
        optimizer.load_state_dict(optimizer.state_dict(), strict=strict)
        after = describe([optimizer.state_dict(), self._described(optimizer, params)])
        self.assertEqual(before, after)

    @check
    @given(st.data(), any_grouped, st.booleans(), loads)
    def test_two_loads_equal_one(self, data, info, strict, load):
        names = data.draw(subsets(info))
        groups = data.draw(groupings(info, names))
        source, _ = trained(info, groups, 2, 0.01)
        if strict:
            target, _ = trained(info, reorder(data.draw, groups), 1, 0.5)
        else:
            other = data.draw(groupings(info, data.draw(subsets(info))))
            target, _ = trained(info, other, 1, 0.5)
        file = load(source)
        target.load_state_dict(deepcopy(file), strict=strict)
        once = describe(target.state_dict())
        target.load_state_dict(deepcopy(file), strict=strict)
        self.assertEqual(describe(target.state_dict()), once)

    @check
    @given(st.data(), any_grouped, loads)
    def test_renamed_state_dict(self, data, info, load):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        source, source_params = trained(info, groups, 2, 0.01)
        # A permutation of names is the hardest renaming: all of them stay in use.
        new = data.draw(st.permutations(list(source_params)))
        rename = dict(zip(source_params, new))
        file = load(source)
        before = describe(file)
        shifted = rename_parameters(file, rename)
        self.assertEqual(describe(file), before)
        back = rename_parameters(shifted, {b: a for a, b in rename.items()}.__getitem__)
        self.assertEqual(describe(back), before)

        params = make_params(info)
        result = build(
            info,
            [
                {"params": {rename[n]: params[n] for n in group}}
                for group in reorder(data.draw, groups)
            ],
        )
        result.load_state_dict(shifted)
        state = {name: describe(s) for name, s in result.named_state()}
        there = self._described(source, source_params)
        self.assertEqual(state, {rename[name]: s for name, s in there.items()})

    @check
    @given(st.data(), any_optimizer)
    def test_indexed_loads_by_position(self, data, info):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        source, source_params = trained(info, groups, 2, 0.01)
        target, params = trained(info, groups, 1, 0.5)
        target.load_state_dict(indexed(saved(source)))
        self._assert_state(target, params, self._described(source, source_params))

    @check
    @given(
        st.data(), st.sampled_from([i for i in optim_db if i.name == "LBFGS"]), loads
    )
    def test_flat_history_follows_its_parameters(self, data, info, load):
        groups = data.draw(groupings(info, data.draw(subsets(info))))
        source, source_params = trained(info, groups, 2, 0.01)
        target, params = trained(info, reorder(data.draw, groups), 1, 0.5)
        target.load_state_dict(load(source))
        self.assertEqual([n for n, _ in target.named_state()], list(params)[:1])
        expected, actual = source.state, target.state
        (expected,), (actual,) = expected.values(), actual.values()
        for key in ("d", "prev_flat_grad"):
            there = _parts(expected[key], source_params)
            self.assertEqual(_parts(actual[key], params), there)
        for key in ("old_dirs", "old_stps"):
            for one, other in zip(expected[key], actual[key], strict=True):
                self.assertEqual(_parts(other, params), _parts(one, source_params))


def _parts(flat: Any, params: dict[str, Parameter]) -> dict[str, Any]:
    """What belongs to each parameter in a flat vector over all of them."""
    pieces = flat.split([param.numel() for param in params.values()])
    return {name: piece.tolist() for name, piece in zip(params, pieces, strict=True)}


def _only(values: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _as_sets(groups: list[list[str]]) -> list[list[str]]:
    return sorted(sorted(group) for group in groups)


def _common(groups: list[list[str]], other: list[list[str]]) -> set[str]:
    return {n for g in groups for n in g} & {n for g in other for n in g}


if __name__ == "__main__":
    run_tests()
