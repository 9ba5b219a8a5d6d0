"""Checks between config and training, and errors of torch in words that name the remedy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs
from mla_lightning.encoders import BagOfTokens
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.fusion.film import FiLM
from mla_lightning.fusion.tagged import Tagged
from mla_lightning.run.explain import describe_unknown, errors_explained
from mla_lightning.run.preflight import check_before_start
from mla_lightning.run_folder import read_json

TINY = (
    *("data=synthetic", "data.num_train=65", "data.num_val=16", "data.num_test=16"),
    "trainer.max_epochs=1",
)
ENCODER = """
from torch import nn

class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(16, 8), nn.BatchNorm1d(8))
        self.in_features, self.out_features = 16, 8
"""
METHOD = """
import os
from mla_lightning.methods import MLA

class Telling(MLA):
    def fit_batch(self, batch):
        raise ValueError("password " + os.environ["PGPASSWORD"])
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs of a user, with an encoder and a method."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "normed_code.py").write_text(ENCODER)
    (tmp_path / "telling_code.py").write_text(METHOD)
    for group, text in (
        ("encoder/normed", "audio: {_target_: normed_code.Normed}\nvisual: ${.audio}\n"),
        ("method/telling", "defaults: [mla]\n_target_: telling_code.Telling\n"),
    ):
        path = tmp_path / "conf" / f"{group}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "conf"


def test_a_last_batch_of_one_sample_is_refused_before_training(conf: Path, tmp_path: Path) -> None:
    options = {"config_dir": conf, "allow": ["normed_code"], "folder": tmp_path / "runs"}
    message = r"batch_size=32: the last batch of the 65 .* encoder\.audio .* data\.batch_size=33"
    with pytest.raises(ConfigError, match=message):
        mla.train(*TINY, "encoder=normed", **options)
    assert not (tmp_path / "runs").exists()
    run = mla.train(*TINY, "encoder=normed", "data.batch_size=33", **options)
    assert run.scores


def test_batch_normalisation_of_one_sample_in_training_names_the_place() -> None:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    with (
        pytest.raises(RunError, match=r"Epoch 1, batch 1: batch normalisation .* data\.batch_size"),
        errors_explained(trainer),
    ):
        nn.BatchNorm1d(2)(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="mine") as caught, errors_explained(trainer):
        raise ValueError("mine")  # unknown errors pass, with a note of the place
    expected = "Failed in training, epoch 1, batch 1: ValueError: mine"
    assert describe_unknown(caught.value) == expected


@pytest.mark.parametrize("method", ["mla_paper", "concat"])
def test_a_rate_that_is_too_large_ends_in_advice(method: str, tmp_path: Path) -> None:
    words = (*TINY, f"method={method}", "optimizer.lr=1e30", "evaluate_probe=false")
    with pytest.raises(RunError, match=r"(?i)epoch 1, batch \d.*optimizer\.lr") as caught:
        mla.train(*words, folder=tmp_path)
    assert "linalg" not in str(caught.value)


def test_a_schedule_that_is_cut_off_is_noted_in_the_result(tmp_path: Path) -> None:
    words = ("data=synthetic", "data.num_train=32", "trainer.max_epochs=2")
    run = mla.train(*words, folder=tmp_path)
    (note,) = read_json(run.folder / "result.json")["notes"]
    assert note.startswith("The learning rate stays at 0.05 in all 2 epochs")
    run = mla.train(*words, "scheduler=null", folder=tmp_path)
    assert read_json(run.folder / "result.json")["notes"] == []


def test_no_file_of_a_run_holds_a_secret(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PGPASSWORD", "pearl-swan")
    words = ["train", "--config-dir", str(conf), "--allow-target", "telling_code", *TINY]
    words += ["method=telling", f"paths.output_dir={tmp_path / 'runs'}"]
    assert main(words) == 1
    assert "password ***" in capsys.readouterr().err
    paths = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "error.txt" for path in paths)
    for path in paths:
        assert b"pearl-swan" not in path.read_bytes(), path


def test_a_finished_job_is_not_checked_again(tmp_path: Path) -> None:
    words = (*TINY, f"run_dir={tmp_path / 'run'}")
    (job,) = compose_jobs([*words, "trainer.accelerator=mps"])
    with pytest.raises(ConfigError, match="no GPU of Apple"):
        check_before_start([job])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text("{}")
    check_before_start([job])


def test_problems_of_several_jobs_are_listed_together(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = [*TINY, f"paths.output_dir={tmp_path / 'file'}", "trainer.accelerator=cuda"]
    with pytest.raises(ConfigError, match=r"(?s)^\d problems:.*is a file.*no GPU"):
        check_before_start(compose_jobs([*words, "seed=0,1"], multirun=True))


def test_the_global_random_state_is_left_alone() -> None:
    jobs = compose_jobs([*TINY])
    torch.manual_seed(torch.initial_seed() + 1)  # not the state that an earlier job has left
    state = torch.get_rng_state()
    check_before_start(jobs)
    assert torch.equal(torch.get_rng_state(), state)


def test_parts_of_models_name_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="FiLM modulates one modality by the others, and audio"):
        FiLM({"audio": 4}, 3)
    with pytest.raises(ConfigError, match=r"width 33 is no multiple of num_heads 4. Use width 32"):
        Tagged({"audio": 4, "text": 4}, 3, width=33, num_heads=4)
    with pytest.raises(ConfigError, match=r"token ids 0 to 9, the data have 3 to 12"):
        BagOfTokens(10)(torch.tensor([[3, 12]]))


def test_several_values_in_python_lead_to_a_sweep() -> None:
    with pytest.raises(ConfigError, match=r"several values.*mla\.sweep"):
        mla.train("method=mla,concat")


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*")
def test_a_schedule_that_follows_accuracy_needs_validation() -> None:
    batch = {"a": torch.randn(4, 3), "b": torch.randn(4, 3), "label": torch.tensor([0, 1, 0, 1])}
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    module = mla.methods.Joint(
        encoders={name: nn.Linear(3, 4) for name in "ab"},
        num_classes=2,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max"),
    )
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with pytest.raises(ConfigError, match="this epoch was not validated: give"):
        Trainer(max_epochs=1, accelerator="cpu", **options).fit(module, loader)
    Trainer(max_epochs=1, accelerator="cpu", **options).fit(module, loader, loader)


@pytest.mark.parametrize(
    ("words", "is_refused"),
    [
        ((), True),
        (("encoder.audio.tune=last_1",), True),
        (("encoder.audio.tune=none",), False),
        (("encoder.audio.checkpoint=null",), False),
        (("optimizer.lr=1e-4",), False),
        (("optimizer.lr=5e-3",), False),
        (("recipe=paper",), False),
        (("modalities=[visual]", "method=unimodal"), False),
    ],
)
def test_pretrained_weights_are_not_trained_at_the_rate_of_small_networks(
    words: tuple[str, ...], is_refused: bool, tmp_path: Path
) -> None:
    cav_mae = {
        "_target_": "mla_lightning.encoders.cav_mae.CAVMAEAudio",
        "num_frames": 32,
        "num_mels": 16,
        "width": 24,
        "depth": 3,
        "num_heads": 3,
        "tune": "all",
        "checkpoint": "cav.pth",
    }
    mlp = {"_target_": "mla_lightning.encoders.mlp.MLP", "in_features": 16}
    (tmp_path / "encoder").mkdir()
    content = yaml.safe_dump({"audio": cav_mae, "visual": mlp})
    (tmp_path / "encoder" / "pretrained.yaml").write_text(content)
    base = ["data=synthetic", "encoder=pretrained", "trainer.max_epochs=1"]
    recipe = () if "recipe=paper" in words else ("recipe=small",)
    jobs = compose_jobs([*base, *recipe, *words], config_dir=tmp_path)
    if is_refused:
        with pytest.raises(ConfigError, match=r"encoder\.audio starts from.*optimizer\.lr=1e-4"):
            check_before_start(jobs)
    else:
        check_before_start(jobs)


@pytest.mark.parametrize("select_by", ["accuracy", "macro_f1"])
def test_a_schedule_follows_the_metric_that_selects_the_epoch(select_by: str) -> None:
    label = torch.tensor([0] * 9 + [1])
    batch = {"a": torch.zeros(10, 3), "b": torch.zeros(10, 3), "label": label}
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    module = mla.methods.Joint(
        encoders={name: nn.Linear(3, 4) for name in "ab"},
        num_classes=2,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max"),
        select_by=select_by,
    )
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", **options)
    trainer.fit(module, loader, loader)
    constant = {"accuracy": (0.1, 0.9), "macro_f1": (1 / 11, 9 / 19)}  # of all 1 and of all 0
    best = trainer.lr_scheduler_configs[0].scheduler.best
    assert min(abs(best - value) for value in constant[select_by]) < 1e-6
