# Owner(s): ["module: optimizer"]

"""What the release answers, in an interpreter of its own, is answered here, too."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import _bad_files
import torch
from _common import DEVICE_TYPES, OptimTestCase
from _compiled import three_steps
from _scheduler_setups import (
    build,
    continue_runs,
    rates,
    run,
    SETUPS,
    unnamed_pickles,
)
from _stock import in_stock
from test_bad_files import CASES, SEED
from test_named_schedulers import LIVE, load
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


# The release searches the ids of a group with ``in``, and what that answers depends
# on the elements of the Tensor.
_TENSOR_AS_ID = re.compile(r"params/\d+ is (a|an empty) .*Tensor")


class TestBadFilesAsTheRelease(OptimTestCase):
    def test_unnamed_optimizers(self):
        there = in_stock(_bad_files.answers, SEED, CASES // 4)
        here = _bad_files.answers(SEED, CASES // 4)
        for ours, stock in zip(here, there.result(), strict=True):
            if not _TENSOR_AS_ID.search(ours[0]):
                self.assertTrue(ours == stock, (ours, stock))


class TestCompiledAsTheRelease(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    def test_steps(self, device, dtype, optim_info):
        there = in_stock(three_steps, optim_info.name, device, False)
        unnamed, guards = three_steps(optim_info.name, device, False)
        stock, stock_guards = there.result()
        self.assert_same(unnamed, stock)
        self.assertEqual(guards, stock_guards)


class TestSchedulersAsTheRelease(OptimTestCase):
    def test_without_names_nothing_changes(self):
        """State dicts of unnamed optimizers are those of the release, in bytes."""
        there = in_stock(unnamed_pickles).result()
        self.assertEqual(unnamed_pickles(), there)
        self.assertEqual(set(there), set(SETUPS))

    @parametrize("steps", [0, 3])
    def test_the_release_reads_a_file_and_is_read_again(self, steps):
        runs = {name: build(make) for name, make in SETUPS.items()}
        for parts in runs.values():
            run(*parts, 4)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "runs.pt"
            saved = {name: [p.state_dict() for p in runs[name]] for name in runs}
            torch.save(saved, file)
            in_stock(continue_runs, str(file), steps).result()
            saved = torch.load(file, weights_only=True)
        for name, parts in runs.items():
            # The release has kept the names.
            self.assertIn("_saved_groups", saved[name][1])
            resumed = build(SETUPS[name], LIVE["reordered"])
            load(*resumed, saved[name])
            run(*parts, steps)
            for _ in range(3):
                run(*parts, 1)
                run(*resumed, 1)
                self.assertEqual(rates(resumed[0]), rates(parts[0]), name)


instantiate_device_type_tests(
    TestCompiledAsTheRelease, globals(), only_for=DEVICE_TYPES
)
instantiate_parametrized_tests(TestSchedulersAsTheRelease)


if __name__ == "__main__":
    run_tests()
