"""The workers of pytest: one of them has all tests of a file whose fixtures are shared."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = """
import os, pathlib, pytest

@pytest.fixture(scope="{scope}")
def costly():
    with pathlib.Path("workers").open("a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")

@pytest.mark.parametrize("number", range(8))
def test_it(costly, number):
    pass
"""


@pytest.mark.parametrize(("scope", "num_computed"), [("module", 1), ("function", 8)])
def test_a_fixture_that_a_file_shares_is_computed_once(tmp_path, scope, num_computed):
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_shared.py").write_text(SHARED.format(scope=scope))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == num_computed
    assert len(set(workers)) == (1 if scope == "module" else 2)
