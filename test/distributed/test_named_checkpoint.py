# Owner(s): ["oncall: distributed checkpointing"]

"""Distributed checkpoints of optimizers with names, in processes."""

import tempfile
from pathlib import Path
from typing import Any

from _distributed import in_processes

import _files_dcp  # isort: skip
from _cases_dcp import (  # isort: skip
    ARGUMENTS,
    BACKWARDS,
    comparable,
    OPTIONS,
    run,
    WORLD_SIZE,
    WRAPPERS,
)
from _describe import describe, difference  # isort: skip
from _stock import in_stock  # isort: skip
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
    TestCase,
)


def _with_and_without_names(rank: int) -> dict[str, dict[str, Any]]:
    """Run each case without names and with names; describe what happened."""
    found = {}
    for case, (layout, wrapper, option) in ARGUMENTS.items():
        for suffix in ("", BACKWARDS):
            kwargs = {"backwards": bool(suffix)}
            unnamed = run(layout, wrapper, OPTIONS[option], **kwargs)
            named = run(layout, wrapper, OPTIONS[option], named=True, **kwargs)
            found[case + suffix] = _described(unnamed, named)
    for wrapper in WRAPPERS:
        for saved_named in (False, True):
            names = {"named": saved_named, "loaded_named": not saved_named}
            unnamed = run("two groups", wrapper, {}, backwards=True)
            mixed = run("two groups", wrapper, {}, backwards=True, **names)
            found[f"{wrapper}, {saved_named}"] = _described(unnamed, mixed)
    return found


def _described(unnamed: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {
        "unnamed": describe(comparable(unnamed)),
        "other": describe(comparable(other)),
        "values": describe(other["values"]),
        "uninterrupted": describe(other["uninterrupted"]),
        "names": other["names"],
    }


class TestNamedDCP(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.found = in_processes(WORLD_SIZE, _with_and_without_names)

    def assert_goes_on(self, case: str, *, named: bool = True) -> None:
        """The run goes on as without names, and as if it had not stopped."""
        self.assertEqual(len(self.found), WORLD_SIZE)
        for rank, found in enumerate(self.found):
            found = found[case]
            about = f"on rank {rank}, without names, with names"
            self.assertIsNone(difference(found["unnamed"], found["other"]), about)
            about = f"on rank {rank}, resumed, not interrupted"
            self.assertIsNone(
                difference(found["values"], found["uninterrupted"]), about
            )
            before, after = found["names"]
            self.assertEqual(after, before)
            all_names = [names for optimizer in after for names in optimizer]
            self.assertTrue(all((names is not None) == named for names in all_names))

    @parametrize("case", [subtest(name, name=name) for name in ARGUMENTS])
    def test_round_trip(self, case):
        self.assert_goes_on(case)

    @parametrize("case", [subtest(name, name=name) for name in ARGUMENTS])
    def test_reordered(self, case):
        self.assert_goes_on(case + BACKWARDS)

    @parametrize("wrapper", [subtest(name, name=name) for name in WRAPPERS])
    def test_load_into_unnamed(self, wrapper):
        self.assert_goes_on(f"{wrapper}, True", named=False)

    @parametrize("wrapper", [subtest(name, name=name) for name in WRAPPERS])
    def test_load_from_unnamed(self, wrapper):
        self.assert_goes_on(f"{wrapper}, False")

    @parametrize(
        "wrapper, prefix",
        [
            subtest(("DDP", "module."), name="DDP"),
            subtest(("compiled", "_orig_mod."), name="compiled"),
            subtest(
                ("checkpointed", "block._checkpoint_wrapped_module."),
                name="checkpointed",
            ),
        ],
    )
    def test_prefixes(self, wrapper, prefix):
        # FQNs have none, as the comparison with no names shows.
        (_, (groups,)) = self.found[0][f"two groups, {wrapper}, plain"]["names"]
        names = [name for names in groups for name in names]
        self.assertTrue(any(name.startswith(prefix) for name in names), names)


class TestFiles(TestCase):
    """Files on disk, of the release and of this torch, on as many ranks and fewer."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        stock, ours = Path(folder.name, "stock"), Path(folder.name, "ours")
        there = in_stock(_files_dcp.write_on_all_ranks, str(stock))
        _files_dcp.write_on_all_ranks(str(ours))
        there.result()
        folders = {"stock": str(stock), "ours": str(ours)}
        cls.found = {
            ranks: in_processes(ranks, _files_dcp.read_all, folders) for ranks in (1, 2)
        }

    @parametrize("ranks", [1, 2])
    @parametrize("writer", ["stock", "ours"])
    @parametrize("form, saved_named, loaded_named", _files_dcp.READS)
    def test_resume(self, ranks, writer, form, saved_named, loaded_named):
        case = (writer, form, saved_named, loaded_named)
        for rank, found in enumerate(self.found[ranks]):
            result = found[case]
            self.assertEqual(result["values"], result["expected"], rtol=0, atol=0)
            self.assertEqual(result["lr"], result["expected_lr"])
            self.assertEqual(result["named"], loaded_named, f"on rank {rank}")


instantiate_parametrized_tests(TestNamedDCP)
instantiate_parametrized_tests(TestFiles)


if __name__ == "__main__":
    run_tests()
