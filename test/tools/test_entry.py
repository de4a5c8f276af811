"""Tests of what a person sees who runs ``python test/test_optim.py``."""

import re
import subprocess
import sys

import pytest

from tools import layout


sys.path.append(str(layout.ROOT / "test" / "optim"))

from _guard import problem


@pytest.mark.skipif(problem() is not None, reason="needs a patched torch")
def test_progress_is_a_line_that_a_person_can_read() -> None:
    done = subprocess.run(
        [sys.executable, "test/test_optim.py", "-k", "*CompiledSteps*Adafactor*"],
        cwd=layout.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[-1] == "OK" or lines[-1].startswith("OK (")
    progress = r" +(\d+) of (\d+) tests, +\d+ %, +\d+ s, none failed"
    found = [re.fullmatch(progress, line) for line in lines]
    last = [match for match in found if match][-1]
    assert last[1] == last[2]
    # No warnings of the compiler, and no row of dots.
    assert not re.search(r"^W\d{4} |^\.+$", done.stderr, re.MULTILINE)
