"""Tests of ``python -m tools status``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_torch


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tiny_torch.repository(tmp_path / "repository")


@pytest.fixture
def site(tmp_path: Path, repository: Path) -> Path:
    """A folder with the wheel's files that the repository builds."""
    official = tiny_torch.make(tmp_path / "official", tags="py3-none-any")
    subprocess.run(
        [sys.executable, "setup.py", "bdist_wheel", "--base-wheel", official],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (built,) = (repository / "dist").iterdir()
    shutil.unpack_archive(built, tmp_path / "site", "zip")
    return tmp_path / "site"


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    official = tiny_torch.make(tmp_path / "official", tags="py3-none-any")
    shutil.unpack_archive(official, tmp_path / "stock", "zip")
    return tmp_path / "stock"


def status(repository: Path, site: Path) -> tuple[int, str]:
    done = subprocess.run(
        # Without the site-packages folder, where a real torch may be.
        [sys.executable, "-S", "-m", "tools", "status"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_release_with_the_patches_of_optimizers_alone(
    repository: Path, site: Path, tmp_path: Path
) -> None:
    listed = repository / "patches" / "releases"
    text = listed.read_text()
    listed.write_text(text.replace("python 3.10\n", "python 3.10  optimizers\n"))
    limits = "Of PyTorch 2.13.0, the optimizers alone are patched"
    assert limits in status(repository, site)[1]
    official = next((tmp_path / "official").iterdir())
    built = subprocess.run(
        [sys.executable, "setup.py", "bdist_wheel", "--base-wheel", official],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert built.stderr.startswith(limits)


def test_patched(repository: Path, site: Path) -> None:
    code, said = status(repository, site)
    label = tiny_torch.label(repository)
    revision = label.partition(".")[2]
    assert code == 0
    assert f"torch 2.13.0+cpu.{label} in {site / 'torch'}: patched" in said
    assert f"with revision {revision}, as in this repository" in said
    assert said.splitlines()[-1] == f"torch==2.13.0+cpu.{label}"


def test_other_revision(repository: Path, site: Path) -> None:
    before = tiny_torch.label(repository).partition(".")[2]
    new = repository / "torch_overlay" / "torch" / "optim" / "_names" / "keys.py"
    new.write_text("KEYS = 2\n")
    after = tiny_torch.label(repository).partition(".")[2]
    code, said = status(repository, site)
    assert code == 1
    assert f"patched, with revision {before} of the series" in said
    assert f"This repository has {after}; to install it: pip install ." in said


def test_official_one(repository: Path, stock: Path) -> None:
    code, said = status(repository, stock)
    assert code == 1
    assert "torch 2.13.0+cpu in" in said
    assert "not patched; state is loaded by position" in said


def test_official_files_over_the_patched_ones(
    repository: Path, site: Path, stock: Path
) -> None:
    name = "torch/optim/optimizer.py"
    shutil.copyfile(stock / name, site / name)
    code, said = status(repository, site)
    assert code == 1
    assert "but its files are others" in said
    assert "--force-reinstall" in said


def test_none(repository: Path, tmp_path: Path) -> None:
    code, said = status(repository, tmp_path)
    assert code == 1
    assert said.startswith(f"No torch is installed for {sys.executable}")
