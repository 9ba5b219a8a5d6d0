"""Jobs that ask for a GPU that this machine does not have."""

import pytest
import torch

from mla_lightning.cli.main import main

WORDS = ("train", "data=synthetic", "method=concat", "--dry-run")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trainer.accelerator=cuda"], "trainer.accelerator=cpu"),
        (["trainer.accelerator=gpu"], "trainer.accelerator=cpu"),
        (["trainer.accelerator=auto", "trainer.precision=16-mixed"], "bf16-mixed"),
        (["trainer.precision=16-mixed"], "bf16-mixed"),
    ],
)
def test_a_dry_run_refuses_them(capsys, words, named):
    assert main([*WORDS, *words]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("words", [["launcher=slurm"], ["trainer.accelerator=cpu"]])
def test_jobs_for_another_machine_or_the_cpu_are_listed(capsys, monkeypatch, words):
    monkeypatch.setattr("mla_lightning.cli.train.print_submission", lambda *_: None)  # asks SLURM
    gpu = [] if "trainer.accelerator=cpu" in words else ["trainer.accelerator=cuda"]
    assert main([*WORDS, *gpu, *words]) == 0
    assert "1 jobs: 1 missing" in capsys.readouterr().out
