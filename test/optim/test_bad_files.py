# Owner(s): ["module: optimizer"]

"""Damaged state dicts: clear errors, and nothing lost."""

import json
import os
import re
import traceback
import warnings
from pathlib import Path
from typing import Any

import _bad_files
from _common import OptimTestCase
from _stock import run_in_stock
from torch.testing._internal.common_utils import run_tests


#: How many damaged state dicts are tried; a longer run sets it.
CASES = int(os.environ.get("OPTIM_NAMES_FUZZ_CASES", "20000"))
SEED = int(os.environ.get("OPTIM_NAMES_FUZZ_SEED", "0"))

_SAYS_WHERE = re.compile(
    r"state|param|group|name|loading|different number|size of optimizer"
)


# The release searches the ids of a group with ``in``, and what that answers depends
# on the elements of the Tensor.
_TENSOR_AS_ID = re.compile(r"params/\d+ is (a|an empty) .*Tensor")


def fingerprint(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """The containers and values that a state dict consists of, by identity."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return id(value)
    if isinstance(value, dict):
        seen[id(value)] = value
        items = [(k, id(k), fingerprint(v, seen)) for k, v in value.items()]
        return id(value), items
    if isinstance(value, list):
        seen[id(value)] = value
        return id(value), [fingerprint(item, seen) for item in value]
    return id(value)


def held(optimizer: Any) -> Any:
    """What an optimizer holds, by identity, with the versions of its tensors."""
    return (
        {key: id(value) for key, value in vars(optimizer).items()},
        [
            (id(group), {key: id(value) for key, value in group.items()})
            for group in optimizer.param_groups
        ],
        [list(map(id, group["params"])) for group in optimizer.param_groups],
        [list(group.get("param_names", ())) for group in optimizer.param_groups],
        [
            (id(param), id(state), [(k, id(v)) for k, v in state.items()])
            for param, state in optimizer.state.items()
        ],
        [
            value._version
            for state in optimizer.state.values()
            for value in state.values()
            if hasattr(value, "_version")
        ],
    )


class TestBadFiles(OptimTestCase):
    # Plain comparisons: assertEqual would take most of the time.
    def test_named_optimizers(self):
        refused = loaded = 0
        for optimizer, file, done in _bad_files.cases(SEED, CASES, named=True):
            before, file_before = held(optimizer), _fingerprint(file)
            attributes = vars(optimizer).copy()
            names = [list(group["param_names"]) for group in optimizer.param_groups]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    optimizer.load_state_dict(file)
                except (ValueError, TypeError, KeyError, RuntimeError) as error:
                    refused += 1
                    # What a class's own __setstate__ raises is left as it is.
                    if "__setstate__" not in _functions_of(error):
                        self.assertRegex(str(error), _SAYS_WHERE, done)
                    self.assertTrue(held(optimizer) == before, done)
                except Exception as error:
                    self.fail(f"{done}: {type(error).__name__}: {error}")
                else:
                    loaded += 1
                    after = [list(g["param_names"]) for g in optimizer.param_groups]
                    self.assertTrue(after == names, done)
                    # What was loaded can be saved.
                    optimizer.state_dict()
                    vars(optimizer).clear()
                    vars(optimizer).update(attributes)
            self.assertTrue(_fingerprint(file) == file_before, done)
        # The damage is neither always fatal nor always harmless.
        self.assertGreater(refused, CASES // 10)
        self.assertGreater(loaded, CASES // 100)

    def test_unnamed_optimizers_answer_as_stock_does(self):
        number = CASES // 4
        script = Path(_bad_files.__file__)
        there = json.loads(run_in_stock(script, str(SEED), str(number)))
        here = _bad_files.answers(SEED, number)
        for (done, answer), stock in zip(here, there, strict=True):
            if not _TENSOR_AS_ID.search(done):
                self.assertTrue([done, answer] == stock, (done, answer, stock))


def _functions_of(error: Exception) -> set[str]:
    return {f.f_code.co_name for f, _ in traceback.walk_tb(error.__traceback__)}


def _fingerprint(file: Any) -> Any:
    try:
        return fingerprint(file)
    except RecursionError:
        return None


if __name__ == "__main__":
    run_tests()
