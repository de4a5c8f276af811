"""What the tests of the tools share; lets them import the helpers beside them."""

import shutil
import sys
from pathlib import Path


sys.path.append(str(Path(__file__).parent))

import pytest
from small_torch import Workplace, with_series


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with a series, to be copied; building it takes longest."""
    return with_series(tmp_path_factory.mktemp("template"))


@pytest.fixture
def workplace(template: Workplace, tmp_path: Path) -> Workplace:
    """A made-up PyTorch with a series of two patches, materialized and exported."""
    shutil.copytree(template.root, tmp_path / "work", symlinks=True)
    return Workplace(tmp_path / "work")
