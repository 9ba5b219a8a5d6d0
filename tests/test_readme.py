"""Every code block of the README, run from top to bottom exactly as it is printed."""

import os
import subprocess
import sys
import wave
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from mla_lightning.run_folder import find_runs, read_json
from tests.documents import read_blocks

ROOT = Path(__file__).parent.parent
MAKE, *BLOCKS = read_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
FILES = [block for block in BLOCKS if block.path]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder in which all blocks have run; its ``output`` holds what each printed."""
    folder = tmp_path_factory.mktemp("readme")
    write_media(folder)
    outputs, script = [], ""
    for block in BLOCKS:
        if block.path:
            (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.path).write_text(block.code)
        elif block.language == "python":
            script += block.code  # later blocks use the names of earlier ones
            outputs.append(call([sys.executable, "-c", script], folder))
        else:
            assert block.language == "bash", block
            outputs.append(call(["bash", "-euo", "pipefail", "-c", block.code], folder))
    (folder / "output").write_text("\n".join(outputs))
    return folder


def call(command, folder, **variables):
    """Run a command with this Python's `mla` first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write_media(folder):
    """Write the pictures and sounds that `my.csv` names."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    (folder / "sounds").mkdir()
    for number in range(1, 7):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"pictures/{number}.jpg")
        with wave.open(str(folder / f"sounds/{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(rng.integers(-3000, 3000, 16000, dtype=np.int16).tobytes())


def accuracies(folder, *words):
    """Return the test accuracies (multi) of the runs whose names hold all words."""
    runs = [run for run in find_runs(folder / "runs") if all(word in run.name for word in words)]
    return [read_json(run / "result.json")["test"]["multi"]["accuracy"] for run in runs]


def test_the_readme_shows_each_way_in():
    assert [block.path for block in FILES] == [
        "my.csv",
        "my_lab/flooding.py",
        "conf/method/flooding.yaml",
        "grid.sbatch",
    ]
    assert {block.language for block in BLOCKS} == {"python", "bash", "yaml", "csv"}


def test_the_two_commands_are_targets():
    assert "make test" in MAKE.code
    for line in MAKE.code.splitlines():
        plan = call(["bash", "-c", line.replace("make", "make -n")], ROOT)
        assert "pip" in plan or "mla" in plan or "pytest" in plan


def test_own_arrays_become_a_table_and_a_page(workspace):
    for method in ("mla", "concat", "unimodal"):
        scores = accuracies(workspace, f"store-{method}-", "data_my")
        assert len(scores) == (4 if method == "mla" else 3)  # one more from Python
        assert min(scores) > 0.4  # three classes; 60 test samples have a standard error of 6 points
        assert fmean(scores) > 0.55
    output = (workspace / "output").read_text()
    assert "9 jobs: 9 finished" in output
    assert "my, compared with Concat" in output
    page = (workspace / "runs/report/page.html").read_text()
    assert "Learning curves" in page


def test_own_files_are_imported_and_trained_on(workspace):
    assert len(accuracies(workspace, "store-mla-", "data_pets")) == 1
    assert (workspace / "pets.png").is_file()


def test_an_own_method_is_a_column_of_the_table(workspace):
    (accuracy,) = accuracies(workspace, "openmoji-flooding-")
    assert accuracy > 0.4
    assert "Flooding" in (workspace / "output").read_text()


def test_python_finds_what_the_shell_trained(workspace):
    output = (workspace / "output").read_text()
    assert "tensor([[" in output
    assert len(accuracies(workspace, "data_my")) == 10


def test_an_array_task_skips_what_is_finished(workspace):
    task = call(["bash", "grid.sbatch"], workspace, SLURM_ARRAY_TASK_ID="1")
    assert "3 jobs: 3 finished" in task


def test_missing_modalities_have_a_table(workspace):
    assert len(accuracies(workspace, "missing_anchor")) == 4
    output = (workspace / "output").read_text()
    assert "90 jobs: 90 missing" in output
    assert "Late Fusion" in output.partition("Table 2: missing modalities")[2]


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in MAKE.code.splitlines() if "reproduce" in line])
def test_the_main_job_runs_in_a_copy_of_the_project(line, tmp_path):
    tracked = ["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")]
    subprocess.run(tracked, check=True)
    output = call(["bash", "-c", line], tmp_path / "clone")
    assert "Table 1" in output
    assert "MLA" in output
