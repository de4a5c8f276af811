# Owner(s): ["module: optimizer"]

"""Damaged state dicts: clear errors, and nothing lost."""

import operator
import os
import re
import traceback
import warnings
from typing import Any

import _bad_files
from _common import OptimTestCase
from torch.testing._internal.common_utils import run_tests


#: How many damaged state dicts are tried; a longer run sets it.
CASES = int(os.environ.get("OPTIM_NAMES_FUZZ_CASES", "8000"))
SEED = int(os.environ.get("OPTIM_NAMES_FUZZ_SEED", "0"))

_SAYS_WHERE = re.compile(
    r"state|param|group|name|loading|different number|size of optimizer"
)


def contents(file: Any) -> list[tuple[Any, list[Any]]]:
    """The containers that a state dict consists of, each with what is in it."""
    found, seen = [], set()
    queue = [file]
    for value in queue:
        if type(value) in (dict, list) and id(value) not in seen:
            seen.add(id(value))
            found.append((value, _items(value)))
            queue += value.values() if type(value) is dict else value
    return found


def _items(value: Any) -> list[Any]:
    return [*value, *value.values()] if type(value) is dict else list(value)


def is_unchanged(found: list[tuple[Any, list[Any]]]) -> bool:
    """Whether the same is in each container, in the same order."""
    for value, before in found:
        now = _items(value)
        if len(now) != len(before) or not all(map(operator.is_, now, before)):
            return False
    return True


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
            before, file_before = held(optimizer), contents(file)
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
            self.assertTrue(is_unchanged(file_before), done)
        # The damage is neither always fatal nor always harmless.
        self.assertGreater(refused, CASES // 10)
        self.assertGreater(loaded, CASES // 100)


def _functions_of(error: Exception) -> set[str]:
    return {f.f_code.co_name for f, _ in traceback.walk_tb(error.__traceback__)}


if __name__ == "__main__":
    run_tests()
