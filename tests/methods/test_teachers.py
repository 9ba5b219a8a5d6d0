"""Frozen teachers: the models of unimodal training, never trained again, shared between runs."""

import pytest
import torch
from tests.train.jobs import make_job, same

from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import train_job
from mla_lightning.run_folder import CHECKPOINTS, read_metrics

STEP = (MultimodalModule, "training_step")
WORDS = ("trainer.max_epochs=4", "trainer.clip_norm=0.05", "scheduler.step_size=2")


def last_state(job):
    checkpoint = RunCheckpoint(job.run_dir / CHECKPOINTS)
    return read_checkpoint(checkpoint.path_after(job.config.trainer.num_epochs))["state_dict"]


@pytest.fixture(scope="module")
def unimodal(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("unimodal"), "method=unimodal", *WORDS)
    train_job(job)
    return job


def best_of(job, name):
    path = RunCheckpoint(job.run_dir / CHECKPOINTS).best_path(f"acc/{name}")
    return read_checkpoint(path)


@pytest.mark.parametrize("source", ["teacher_epochs", "teachers"])
def test_teachers_are_the_models_of_unimodal_training(tmp_path, unimodal, source):
    if source == "teachers":
        job = make_job(tmp_path, "method=umt", f"method.teachers='{unimodal.run_dir}'")
    else:
        job = make_job(
            tmp_path, "method=umt", *WORDS, "trainer.max_epochs=6", "method.teacher_epochs=4"
        )
    train_job(job)
    state = last_state(job)
    for row, name in enumerate(("audio", "visual")):
        best = best_of(unimodal, name)
        assert int(state["best_epochs"][row]) == best["epoch"]
        for own, theirs in (
            (f"teachers.encoders.{name}.", f"encoders.{name}."),
            (f"teachers.fusion.heads.{name}.", f"fusion.heads.{name}."),
        ):
            taught = {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
            model = {
                k.removeprefix(theirs): v
                for k, v in best["state_dict"].items()
                if k.startswith(theirs)
            }
            assert taught
            assert same(taught, model)
    scores = state["score_bits"].view(torch.float64).tolist()
    rows = read_metrics(unimodal.run_dir)
    assert scores == [max(row[f"val/acc/{m}"] for row in rows) for m in ("audio", "visual")]
