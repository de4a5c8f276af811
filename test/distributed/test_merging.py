# Owner(s): ["oncall: distributed checkpointing"]

"""Optimizers over disjoint shards: their state dicts merge, and split again.

Each rank owns some embedding tables of the model in :mod:`_tables`. The state dicts
of all ranks' optimizers are joined by plain dict union; each optimizer takes back
its part, also where the tables are on other ranks and in other optimizers.
"""

import copy
import os
import tempfile
from typing import Any


from _distributed import in_processes  # usort: skip

import _tables
from _describe import describe, difference

import torch
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    TestCase,
)


SAVING = 3


class TestMergedTables(TestCase):
    folder: tempfile.TemporaryDirectory
    #: On each rank, the run that never stopped.
    straight: list[dict[str, Any]]
    #: What continued, by the number of ranks.
    continued: dict[int, list[dict[str, Any]]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.straight = in_processes(SAVING, _tables.train_and_save, cls.folder.name)
        cls.continued = {
            # One rank needs no process group.
            1: [_tables.continue_both_ways(0, cls.folder.name)],
            2: in_processes(2, _tables.continue_both_ways, cls.folder.name),
        }

    def saved(self) -> dict[str, Any]:
        file = os.path.join(self.folder.name, "file")
        return torch.load(file, weights_only=True)["optimizer"]

    def assert_equal(self, first: Any, second: Any) -> None:
        self.assertIsNone(difference(describe(first), describe(second)))

    def test_merged_has_every_parameter_once(self):
        saved = self.saved()
        names = {f"tables.{name}.weight" for name in _tables.TABLES}
        names |= {"over.weight", "over.bias"}
        self.assertEqual(set(saved["state"]), names)
        in_groups = [name for g in saved["param_groups"] for name in g["params"]]
        self.assertEqual(sorted(in_groups), sorted(names))

    def test_runs_are_the_same_on_all_ranks(self):
        for found in self.straight:
            self.assert_equal(found, self.straight[0])

    @parametrize("way", ["file", "dcp"])
    @parametrize("world_size", [1, 2])
    def test_resume_with_tables_elsewhere(self, world_size, way):
        self.assertEqual(len(self.continued[world_size]), world_size)
        for found in self.continued[world_size]:
            self.assert_equal(found[way]["outcome"], self.straight[0])

    @parametrize("way", ["file", "dcp"])
    @parametrize("world_size", [1, 2])
    def test_each_optimizer_says_what_is_not_its_own(self, world_size, way):
        saved = set(self.saved()["state"])
        placement = _tables.PLACEMENTS[world_size]
        for own, found in zip(placement, self.continued[world_size], strict=True):
            for optimizer, (missing, unexpected) in found[way]["said"].items():
                mine = {
                    f"tables.{name}.weight"
                    for name in own
                    if _tables.OPTIMIZERS[name][0].__name__ == optimizer
                }
                if optimizer == "over":
                    mine = {"over.weight", "over.bias"}
                self.assertEqual(missing, [])
                # With a distributed checkpoint, only the groups are those of all.
                self.assertEqual(set(unexpected), saved - mine)

    @parametrize("way", ["file", "dcp"])
    @parametrize("world_size", [1, 2])
    def test_merged_again_has_the_same_parts(self, world_size, way):
        # However the tables are placed, only the order differs.
        for found in self.continued[world_size]:
            again = found[way]["again"]
            for name, expected in self.straight[0].items():
                state = dict(sorted(again["state"][name].items()))
                self.assert_equal(state, dict(sorted(expected["state"].items())))
                (group,) = [g for g in again["param_groups"] if name in g["params"]]
                options = {k: v for k, v in group.items() if k[:5] != "param"}
                self.assert_equal(options, expected["options"])

    def test_one_strict_optimizer_takes_all_of_one_kind(self):
        # Merged from two optimizers with a group each.
        a, b = (torch.nn.Parameter(torch.ones(3) * i) for i in (1, 2))
        parts = []
        for name, param in (("a", a), ("b", b)):
            optimizer = torch.optim.Adagrad([(name, param)], lr=len(parts) + 1)
            param.grad = param.detach().clone()
            optimizer.step()
            parts.append(copy.deepcopy(optimizer.state_dict()))
        one = torch.optim.Adagrad([{"params": [("b", b)]}, {"params": [("a", a)]}])
        one.load_state_dict(_tables.merged(parts))
        self.assertEqual([group["lr"] for group in one.param_groups], [2, 1])
        for name, param, part in (("a", a, parts[0]), ("b", b, parts[1])):
            self.assert_equal(one.state[param], part["state"][name])

    @parametrize("strict", [True, False])
    def test_state_without_its_group_is_an_error(self, strict):
        # As a distributed checkpoint gives it if it is asked for too few groups.
        params = [(name, torch.nn.Parameter(torch.ones(2))) for name in "ab"]
        optimizer = torch.optim.Adagrad([{"params": [pair]} for pair in params])
        saved = copy.deepcopy(optimizer.state_dict())
        del saved["param_groups"][1]
        before = describe(vars(optimizer))
        message = 'In no param group of the state_dict, though it has state: "b"'
        with self.assertRaisesRegex(ValueError, message):
            optimizer.load_state_dict(saved, strict=strict)
        self.assertIsNone(difference(describe(vars(optimizer)), before))

    def test_without_names_they_collide(self):
        # What the same does to optimizers without names: most of it is lost.
        parts = []
        for own in _tables.PLACEMENTS[SAVING]:
            model = _tables.Model(own)
            for name, table in model.tables.items():
                kind, options = _tables.OPTIMIZERS[name]
                optimizer = kind(table.parameters(), **options)
                table.weight.grad = torch.ones_like(table.weight)
                optimizer.step()
                parts.append(optimizer.state_dict())
        self.assertEqual(len(parts), len(_tables.TABLES))
        self.assertEqual(list(_tables.merged(parts)["state"]), [0])


instantiate_parametrized_tests(TestMergedTables)


if __name__ == "__main__":
    run_tests()
