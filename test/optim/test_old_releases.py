# Owner(s): ["module: optimizer"]

"""Files of real releases, from 1.13.1 on, load and training goes on from them.

What wrote them is in ``test/compat/``; ``docs/compatibility.md`` has the results,
and those of the other direction.
"""

import sys
import warnings
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from _common import names_of, OptimTestCase, shuffled, state_by_name
from _describe import describe

import torch
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


COMPAT = Path(__file__).resolve().parent.parent / "compat"
sys.path.insert(0, str(COMPAT))

from tiny_training import (  # noqa: E402
    AFTER,
    BEFORE,
    build,
    Case,
    cases,
    cpu,
    difference,
    make_groups,
    make_params,
    NAMES_SINCE,
    set_values,
    SINGLE,
    train,
    version,
)


#: The releases whose files are here; one with this series is ``+named``.
RELEASES = (
    "1.13.1",
    "2.0.1",
    "2.5.1",
    "2.6.0",
    "2.10.0",
    "2.13.0",
    "2.13.0+named",
    "2.15.0",
)


class Change(NamedTuple):
    """What a release computes otherwise than those before it."""

    optimizers: tuple[str, ...]
    release: tuple[int, int]
    tolerance: float
    reason: str


#: Everything else continues with the same bits.
CHANGES = (
    Change(
        ("Adam", "AdamW", "Adamax"),
        (2, 5),
        1e-14,
        "the average of gradients, once a product and a sum, is an interpolation",
    ),
    Change(("NAdam",), (2, 5), 1e-6, "likewise, and in single precision"),
    Change(("NAdam",), (2, 0), 1e-3, "1.13 used the decay of a step twice"),
)

#: The files' instruction sets. They give the same bits, and others about the same.
SAME_BITS = ("AVX2", "AVX512")

#: LBFGS adds up all parameters in their order.
OTHER_ORDER = 1e-12


class File(NamedTuple):
    """A stored file."""

    release: str
    kind: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return COMPAT / "checkpoints" / self.release / f"{self.kind}.pt"

    def __str__(self) -> str:
        return f"{self.release}_{self.kind}".replace(".", "_").replace("+", "_")


FILES = [
    File(release, kind)
    for release in RELEASES
    for kind in ("unnamed", "named")
    if kind == "unnamed" or version(release) >= NAMES_SINCE
]


def by_name(files: Iterable[File]) -> list[Any]:
    """Files as values of a parameter of tests."""
    return [subtest(file, name=str(file)) for file in files]


@cache
def _read(file: File) -> Any:
    return torch.load(file.path, weights_only=True)


def _checkpoint(file: File, case: Case) -> Any:
    # A copy, since loading does not copy tensors that fit as they are.
    return deepcopy(_read(file)["cases"][str(case)])


def _tolerance(file: File, case: Case) -> float:
    """How far the continuation may be from the release's own."""
    allowed = [
        change.tolerance
        for change in CHANGES
        if case.optimizer in change.optimizers
        and version(file.release) < change.release
    ]
    if not (sys.platform == "linux" and cpu() in SAME_BITS):
        # Muon multiplies matrices in bfloat16.
        rounding = 1e-5 if case.optimizer in SINGLE else 1e-12
        allowed.append(1e-2 if case.optimizer == "Muon" else rounding)
    return max(allowed, default=0.0)


def _names(case: Case) -> list[list[str]]:
    """The names in each group, as they were when the file was written."""
    groups = make_groups(case, make_params(case), named=True)
    return [[name for name, _ in group["params"]] for group in groups]


def _saved_state(case: Case, state_dict: Any) -> dict[str, Any]:
    """The state in a file by name, found by position."""
    ids = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    names = chain.from_iterable(_names(case))
    return {
        name: state_dict["state"][i]
        for name, i in zip(names, ids, strict=True)
        if i in state_dict["state"]
    }


def _numbers(value: Any) -> Any:
    """The same for a number and a tensor of it, since releases differ there."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


class TestOldReleases(OptimTestCase):
    def _continue(self, file, case, named, *, reordered=False):
        """Load what is stored, and go on as the release did."""
        checkpoint = _checkpoint(file, case)
        state_dict = checkpoint["state_dict"]
        expected = _numbers(_saved_state(case, state_dict))
        params = make_params(case)
        groups = make_groups(case, params, named=named)
        if reordered:
            groups.reverse()
            for group in groups:
                pairs = dict(group["params"])
                if len(pairs) > 1:
                    group["params"] = [(name, pairs[name]) for name in shuffled(pairs)]
        for group in groups:
            # It has to come from the file.
            group["lr"] = 123.0
        optimizer = build(case, groups)
        names = names_of(optimizer)
        if not named and file.kind == "named":
            names = _names(case)
        self.assertEqual(reordered, named and names != _names(case))

        # Releases write names by position, so that they may be wrong in such a file.
        annotated = not isinstance(state_dict["param_groups"][0]["params"][0], str)
        before = describe(state_dict)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = optimizer.load_state_dict(state_dict)
        self.assertEqual(len(caught), reordered and annotated)
        for warning in caught:
            self.assertIn("in another order", str(warning.message))
        self.assertEqual(tuple(result), ([], []))
        self.assert_still(state_dict, before)

        self.assertEqual(names_of(optimizer), names)
        step = -1 if reordered else 1
        for group, packed in zip(
            optimizer.param_groups, state_dict["param_groups"][::step], strict=True
        ):
            for key in packed.keys() - {"params", "param_names"}:
                self.assertEqual(group[key], packed[key], msg=key)
        allowed = _tolerance(file, case)
        if reordered and case.optimizer == "LBFGS":
            allowed = max(allowed, OTHER_ORDER)
        else:
            self.assertEqual(_numbers(state_by_name(optimizer, params)), expected)
        set_values(params, checkpoint["saved"])
        train(case, optimizer, params, AFTER)
        self.assertLessEqual(difference(params, checkpoint["continued"]), allowed)

    @parametrize("file", by_name(FILES))
    @parametrize("named", [True, False])
    def test_loads_by_position(self, file, named):
        for case in cases(file.release):
            with self.subTest(str(case)):
                self._continue(file, case, named)

    @parametrize("file", by_name(f for f in FILES if f.kind == "named"))
    def test_loads_in_another_order(self, file):
        for case in cases(file.release):
            with self.subTest(str(case)):
                self._continue(file, case, True, reordered=True)

    def test_what_is_loaded_matters(self):
        # Without the state, the run would not be the same.
        for case in cases("2.13.0"):
            checkpoint = _checkpoint(File("2.13.0", "unnamed"), case)
            params = make_params(case)
            optimizer = build(case, make_groups(case, params, named=False))
            set_values(params, checkpoint["saved"])
            train(case, optimizer, params, AFTER)
            self.assertGreater(
                difference(params, checkpoint["continued"]), 1e-4, str(case)
            )

    @parametrize("file", by_name(FILES))
    def test_the_file_is_what_it_says(self, file):
        content = _read(file)
        release, _, patched = file.release.partition("+")
        self.assertEqual(content["torch"].partition("+")[0], release)
        self.assertIn(content["cpu"], SAME_BITS)
        self.assertEqual(list(content["cases"]), list(map(str, cases(release))))
        for text, checkpoint in content["cases"].items():
            case = Case.parse(text)
            groups = checkpoint["state_dict"]["param_groups"]
            names = _names(case) if file.kind == "named" else [None] * case.groups
            self.assertEqual([group.get("param_names") for group in groups], names)
            count = iter(range(len(make_params(case))))
            ids = [[next(count) for _ in group] for group in _names(case)]
            keyed_by_name = file.kind == "named" and patched
            self.assertEqual(
                [group["params"] for group in groups], names if keyed_by_name else ids
            )

    @parametrize("kind", ["unnamed", "named"])
    def test_the_same_file_would_be_written_today(self, kind):
        file = File("2.13.0+named", kind)
        for case in cases(file.release):
            with self.subTest(str(case)):
                params = make_params(case)
                groups = make_groups(case, params, named=kind == "named")
                optimizer = build(case, groups)
                train(case, optimizer, params, BEFORE)
                expected = _checkpoint(file, case)["state_dict"]
                state_dict = optimizer.state_dict()
                # Later releases have more options.
                for group, old in zip(
                    state_dict["param_groups"], expected["param_groups"], strict=True
                ):
                    for option in group.keys() - old.keys():
                        del group[option]
                if _tolerance(file, case):
                    self.assertEqual(state_dict, expected)
                else:
                    self.assert_same(state_dict, expected)


instantiate_parametrized_tests(TestOldReleases)


if __name__ == "__main__":
    run_tests()
