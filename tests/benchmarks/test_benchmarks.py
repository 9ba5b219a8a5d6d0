"""Every group of benchmarks can be imported, and the small cases run."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.__main__ import GROUPS, README, to_markdown
from benchmarks.setups import RESNETS, TINY, Setup

from benchmarks import (
    allocator,
    checkpoints,
    diagnostics,
    evaluation,
    loader,
    many_jobs,
    measure,
    memory,
    projection,
    resnet_step,
    small_loop,
    startup,
    sweeps,
)

SMALL = (*TINY, "data.num_train=640", "data.num_val=64", "data.num_test=64")


@pytest.mark.parametrize("name", GROUPS)
def test_each_group_measures_something(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_examples():
    options = doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(measure, optionflags=options) == doctest.TestResults(0, 4)


def test_help_and_unknown_names():
    command = [sys.executable, "-m", "benchmarks"]
    root = Path(__file__).parents[2]
    shown = subprocess.run([*command, "--help"], cwd=root, capture_output=True, text=True)
    assert shown.returncode == 0
    assert "small_loop" in shown.stdout
    unknown = subprocess.run([*command, "small_lop"], cwd=root, capture_output=True, text=True)
    assert unknown.returncode == 2
    assert "unknown: small_lop; known: startup" in unknown.stderr


def test_the_page_is_written_by_the_same_code():
    row = measure.Measurement("P1", "a step", 0.5, 1.0, "x", "Once", "1 → 2 ms")
    lines = to_markdown([row], 3.0).splitlines()
    committed = README.read_text(encoding="utf-8").splitlines()
    assert "| P1 | a step | 0.50 × | ≤ 1.00 × | ok | 1 → 2 ms |" in lines
    assert "- **P1** a step: Once." in lines
    assert lines[:5] == committed[:5]
    assert next(line for line in lines if line.startswith("| id")) in committed
    for text in (small_loop.PROCEDURE, memory.PROCEDURE_PEAK, sweeps.PROCEDURE_KILL):
        assert any(line.endswith(f": {text}.") for line in committed)


def test_projection():
    assert [row.id for row in projection.measure(rounds=1)] == ["P6"] * 3


def test_evaluation():
    assert evaluation.measure_classes(3, 1.0, rounds=1).value > 0
    seconds, memory = evaluation.cost(50, 4)
    assert seconds > 0
    assert memory >= 0
    torch.use_deterministic_algorithms(False)


def test_loader():
    assert loader.batch_seconds(1, *SMALL) > 0


def test_small_loop_times_logging_within_the_whole_loop():
    bare, whole, logging = small_loop.train(1, *SMALL)
    assert 0 < logging < whole
    assert bare > 0


def test_logging_has_a_measurement():
    row = small_loop.measure_logging("logging", 100e-6, 4e-6)
    assert (row.value, row.is_met, row.detail) == (pytest.approx(0.04), True, "4.0 of 100 µs")


def test_encoders_run_first_give_the_same_weights(tmp_path):
    """Only the memory differs: features do not depend on the steps of other modalities."""
    states = []
    for name, kind in (("alternating", memory.MLA), ("first", memory.AllFirst)):
        setup = Setup(tmp_path / name, *SMALL, "trainer.max_epochs=1")
        setup.module.__class__ = kind
        setup.trainer.fit(setup.module, setup.data.train_dataloader(), setup.data.val_dataloader())
        states.append(setup.module.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_memory_growth():
    assert memory.growth_mb(num_warmup=2, num_steps=3) >= 0


def test_diagnostics(tmp_path):
    diagnostics.train(tmp_path, "epoch", num_epochs=1)
    assert (tmp_path / "epoch" / "diagnostics.json").is_file()


def test_allocator():
    small = ("data.num_train=64", "data.batch_size=32", "trainer.max_epochs=1")
    assert min(allocator.compare(1, *small)) > 0


def test_startup_finds_out_whether_torch_is_loaded():
    assert not startup._loads_torch(["--help"])
    assert startup._loads_torch(["-c", "import torch"])


def test_a_call_in_a_new_process():
    assert measure.call_in_new_process("measure._format", 0.5, "x") == "0.50 ×"
    with pytest.raises(RuntimeError, match=r"measure\._format failed in its own process"):
        measure.call_in_new_process("measure._format", "a", "x")


@pytest.mark.slow
def test_resnets(tmp_path):
    assert checkpoints.measure()[0].value > 0
    assert memory.peak_mb(True, batch_size=2) > 0
    setup = Setup(tmp_path / "run", *RESNETS, "trainer.max_epochs=1")
    seconds = resnet_step.time_steps(setup, setup.bare_loop(), rounds=1, batch_size=2)
    assert min(seconds) > 0


@pytest.mark.slow
def test_one_job_is_lost_by_a_kill(tmp_path):
    assert sweeps.count_lost_jobs(str(tmp_path)) == 1


def test_a_second_sweep_of_many_jobs_skips_them():
    first_s, again_s = many_jobs.time_sweeps(5)
    assert 0 < again_s < first_s
