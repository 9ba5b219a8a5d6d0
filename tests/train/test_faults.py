"""Non-finite losses, signals, odd batches and unknown folders."""

import os
import signal
import time

import pytest
import torch
from tests.train.jobs import in_child, make_job, outcome, same

from mla_lightning.errors import RunError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import build_data, build_module
from mla_lightning.run.finished import evaluate_run
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, ERROR, RESULT, STATUS, read_json, read_metrics


def poison(batch_number, modality):
    """Set a modality's input to NaN in a batch of the run, counted from 1."""
    original, count = MultimodalModule.training_step, [0]

    def training_step(self, batch, batch_idx):
        count[0] += 1
        if count[0] == batch_number:
            batch["inputs"][modality] = torch.full_like(batch["inputs"][modality], torch.nan)
        return original(self, batch, batch_idx)

    MultimodalModule.training_step = training_step


@pytest.mark.parametrize("logged", [1, 50])
@pytest.mark.parametrize("at", [3, 17])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capfd, at, logged):
    job = make_job(tmp_path, "method=mla", f"trainer.log_every_n_batches={logged}")
    name = job.config.data["names"][1]

    def action():
        poison(at, name)
        return run_job(job)

    assert in_child(action) == 1
    epoch, batch = divmod(at - 1, 10)
    message = f"{name} loss is nan in epoch {epoch + 1}, batch {batch + 1}"
    assert message in capfd.readouterr().err
    assert message in (job.run_dir / ERROR).read_text()
    assert read_json(job.run_dir / STATUS)["state"] == "failed"
    assert not (job.run_dir / RESULT).exists()
    for path in (job.run_dir / CHECKPOINTS).glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


def signalled(job, *signals, pause=0.0):
    """Run a job slowly in a child and send it signals in its second epoch."""
    started, release = os.pipe()

    def action():
        original = MultimodalModule.training_step

        def slow(self, batch, batch_idx):
            if self.current_epoch == 1 and batch_idx == 2:
                os.write(release, b"x")
                time.sleep(0.5)
            return original(self, batch, batch_idx)

        MultimodalModule.training_step = slow
        return run_job(job)

    pid = os.fork()
    if pid == 0:
        os._exit(action())
    os.read(started, 1)
    for number in signals:
        os.kill(pid, number)
        time.sleep(pause)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(started), os.close(release)
    return code


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "preempted")],
)
def test_a_signal_leaves_a_checkpoint_and_an_exit_code(tmp_path, number, code, state):
    whole = make_job(tmp_path / "whole", "method=mla")
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "stopped", "method=mla")
    assert signalled(job, number) == code
    status = read_json(job.run_dir / STATUS)
    assert (status["state"], status["exit_code"]) == (state, code)
    assert status["overrides"] == job.distinguishing_overrides != {}
    assert (job.run_dir / CHECKPOINTS / "epoch=0001-batch=000003.ckpt").exists()
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))


def test_a_second_interrupt_ends_at_once(tmp_path):
    job = make_job(tmp_path, "method=mla")
    assert signalled(job, signal.SIGINT, signal.SIGINT, pause=0.1) == 130
    assert in_child(lambda: run_job(job)) == 0


@pytest.mark.parametrize("method", ["mla", "concat", "qmf", "ogm_ge"])
@pytest.mark.parametrize("sizes", [(1, 8), (9, 8), (5, 100)])
def test_odd_batches(tmp_path, method, sizes):
    """A last batch of one sample, batches of one, fewer samples than a batch."""
    num_train, batch_size = sizes
    job = make_job(
        tmp_path,
        f"method={method}",
        f"data.num_train={max(num_train, 4)}",
        f"data.batch_size={batch_size}",
        "data.num_classes=3",
    )
    assert in_child(lambda: run_job(job)) == 0


@pytest.mark.parametrize("method", ["mla", "concat", "film", "bigated", "qmf", "late_fusion"])
def test_evaluation_does_not_depend_on_batches(tmp_path, method):
    job = make_job(tmp_path, f"method={method}")
    assert in_child(lambda: run_job(job)) == 0
    reported = read_json(job.run_dir / RESULT)["test"]
    for size in (1, 7, 64):
        again = evaluate_run(job.run_dir, "test", eval_batch_size=size)
        assert again.keys() == reported.keys()
        for modality, values in again.items():
            assert values == pytest.approx(reported[modality])


def test_the_released_fusion_depends_on_batches(tmp_path):
    job = make_job(tmp_path, "method=mla_released", "method.df=true")
    data = build_data(job.config)
    module = build_module(job.config, data)
    module.eval()
    batch = next(iter(data.loader("test")))
    half = {
        k: ({m: v[:3] for m, v in x.items()} if isinstance(x, dict) else x[:3])
        for k, x in batch.items()
    }
    with torch.no_grad():
        assert not torch.allclose(
            module.evaluate_batch(batch)["multi"][:3], module.evaluate_batch(half)["multi"]
        )


def test_an_unknown_run_folder(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        evaluate_run(tmp_path, "test")


def test_an_unfinished_run_folder(tmp_path):
    job = make_job(tmp_path, "method=mla")

    def action():
        poison(3, job.config.data["names"][0])
        return run_job(job)

    assert in_child(action) == 1
    with pytest.raises(RunError, match="not finished"):
        evaluate_run(job.run_dir, "test")


def test_paper_protocol_selects_on_test(tmp_path):
    job = make_job(tmp_path, "method=concat", "protocol=paper")
    assert in_child(lambda: run_job(job)) == 0
    result = read_json(job.run_dir / RESULT)
    best = max(row["val/acc"] for row in read_metrics(job.run_dir))
    assert result["protocol"] == "paper"
    assert result["test"]["multi"]["accuracy"] == pytest.approx(best)


def test_tuning_runs_never_see_the_test_set(tmp_path):
    job = make_job(tmp_path, "method=concat", "evaluate_test=false")
    assert in_child(lambda: run_job(job)) == 0
    assert read_json(job.run_dir / RESULT)["test"] is None
    assert not (job.run_dir / "predictions.npz").exists()


def test_unimodal_reports_each_modality_at_its_own_best_epoch(tmp_path):
    job = make_job(tmp_path, "method=unimodal")
    assert in_child(lambda: run_job(job)) == 0
    result, rows = read_json(job.run_dir / RESULT), read_metrics(job.run_dir)
    for name in result["modalities"]:
        best = max(row[f"val/acc/{name}"] for row in rows)
        assert result["val"][name]["accuracy"] == pytest.approx(best)
