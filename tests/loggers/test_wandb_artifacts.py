"""Model and predictions on W&B: what they hold, and that nothing is sent unless asked for."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.loggers.test_loggers import IDENTITY, config_with
from tests.loggers.wandb_files import records_named

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs
from mla_lightning.loggers.build import build_loggers, finish_loggers

WORDS = [
    *("data=synthetic", "method=mla", "seed=3", "trainer.max_epochs=2", "data.num_train=96"),
    *("data.num_val=40", "data.num_test=40", "logger=wandb"),
]
BOTH = ["logger.wandb.log_model=true", "logger.wandb.log_predictions=true"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["train", *WORDS, *BOTH, "run_dir=run"]) == 0
    return root / "run"


def artifacts_in(folder):
    """Return the artifacts by type, without those of tables."""
    records = records_named(folder, "artifact")
    return {record.type: record for record in records if record.type != "run_table"}


def test_artifacts_hold_the_files_of_the_run_folder(run_dir):
    (run,) = records_named(run_dir, "run")[:1]
    artifacts = artifacts_in(run_dir)
    assert artifacts.keys() == {"model", "predictions"}
    result = json.loads((run_dir / "result.json").read_text())
    provenance = json.loads((run_dir / "provenance.json").read_text())
    for kind, artifact in artifacts.items():
        assert artifact.name == f"{kind}-{run.run_id}"
        assert set(artifact.aliases) == {"latest", "best", "seed-3"}
        metadata = json.loads(artifact.metadata)
        assert metadata["best_epoch"] == result["best_epoch"]
        assert metadata["result.val.multi.accuracy"] == result["val"]["multi"]["accuracy"]
        assert metadata["provenance.data_fingerprint"] == provenance["data_fingerprint"]
        for entry in artifact.manifest.contents:
            path = run_dir / entry.path
            assert Path(entry.local_path) == path  # no copy is made
            digest = base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()
            assert entry.digest == digest
    paths = {kind: {e.path for e in a.manifest.contents} for kind, a in artifacts.items()}
    assert paths["predictions"] == {"predictions.npz"}
    weights = {"checkpoints/best-acc.ckpt", "checkpoints/best-acc.ckpt.sha256"}
    assert weights | {"config.yaml", "result.json", "provenance.json"} <= paths["model"]
    assert not any("epoch=" in path for path in paths["model"])  # those to resume from


def test_the_model_can_be_loaded_from_its_artifact(run_dir, tmp_path):
    for entry in artifacts_in(run_dir)["model"].manifest.contents:
        target = tmp_path / entry.path
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(entry.local_path, target)
    downloaded, original = mla.load(tmp_path), mla.load(run_dir)
    assert downloaded.result == original.result
    states = [run.module.state_dict() for run in (downloaded, original)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("options", "types"),
    [
        ([], set()),
        (["--log-model"], {"model"}),
        (["--log-predictions"], {"predictions"}),
        (["--log-model", "--log-predictions"], {"model", "predictions"}),
    ],
)
def test_runs_sent_later_have_the_artifacts_that_are_asked_for(run_dir, tmp_path, options, types):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("wandb"))
    words = ["report", "runs", str(copy), "--output", str(tmp_path / "out"), "--to-wandb", "p"]
    assert main([*words, *options]) == 0
    sent, live = artifacts_in(copy), artifacts_in(run_dir)
    assert sent.keys() == types
    for kind, artifact in sent.items():
        assert artifact.metadata == live[kind].metadata
        assert artifact.digest == live[kind].digest


def test_weights_that_are_gone_are_named_and_the_rest_is_sent(run_dir, tmp_path, capfd):
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy, ignore=shutil.ignore_patterns("wandb", "best-*"))
    words = ["report", "runs", str(copy), "--output", str(tmp_path / "out"), "--to-wandb", "p"]
    assert main([*words, "--log-model", "--log-predictions"]) == 0
    out = capfd.readouterr().out
    assert f"W&B: {copy} has no model to send: the selected weights in" in out
    assert "1 kept for wandb sync." in out
    assert artifacts_in(copy).keys() == {"predictions"}


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_job_without_a_result_has_no_artifact(tmp_path, code, capfd):
    (logger,) = build_loggers(config_with(log_model=True), tmp_path, IDENTITY)
    logger.log_metrics({"val/acc": 0.5}, step=0)
    finish_loggers([logger], code)
    assert artifacts_in(tmp_path) == {}
    assert "to send" not in capfd.readouterr().out


def test_artifacts_change_no_identity():
    (plain,), (asking,) = compose_jobs(WORDS), compose_jobs([*WORDS, *BOTH])
    assert asking.config.logger["wandb"]["log_model"]
    assert not plain.config.logger["wandb"]["log_model"]
    assert plain.run_id == asking.run_id
    assert plain.run_dir == asking.run_dir
