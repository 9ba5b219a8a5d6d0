"""The ensemble of unimodal models: what is averaged, and with which weights."""

import itertools

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from tests.methods.harness import NUM_CLASSES, Loader, batches, build, fit, weights
from tests.train.jobs import in_child, killed, make_job, outcome, same

import mla_lightning as mla
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import LateFusion
from mla_lightning.methods.ensemble import Ensemble
from mla_lightning.methods.unimodal import Unimodal
from mla_lightning.module import MultimodalModule
from mla_lightning.run.finished import evaluate_run
from mla_lightning.run.train import run_job, train_job
from mla_lightning.run_folder import CHECKPOINTS, RESULT, read_json
from mla_lightning.tasks import Multilabel, Regression

ALL = torch.tensor([[True], [True]])


@pytest.mark.parametrize("weighting", ["mean", "validation"])
def test_training_is_unimodal_training(weighting):
    data = batches(3)
    one = build(Ensemble, LateFusion, data, weighting=weighting)
    other = build(Unimodal, LateFusion, data)
    assert one.selections() == other.selections()
    fit(one, data, epochs=2)
    fit(other, data, epochs=2)
    assert torch.equal(weights(one), weights(other))


def test_what_is_averaged():
    logits = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])
    ensemble = build(Ensemble, LateFusion, batches(1))
    torch.testing.assert_close(ensemble.combine(logits, ALL), torch.tensor([[1.5, 0.5]]))
    ensemble = build(Ensemble, LateFusion, batches(1), average="probabilities")
    expected = logits.softmax(dim=-1).mean(dim=0)
    torch.testing.assert_close(ensemble.combine(logits, ALL).exp(), expected)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_absent_modalities_are_left_out(average):
    ensemble = build(Ensemble, LateFusion, batches(1), average=average)
    ensemble.ensemble_weights.copy_(torch.tensor([1.0, 0.0]))
    logits = torch.tensor([[[3.0, 0.0]] * 3, [[0.0, 1.0]] * 3])
    present = torch.tensor([[True, False, True], [True, True, False]])
    p = ensemble.combine(logits, present).softmax(dim=1)
    expected = torch.stack([logits[0, 0], logits[1, 0], logits[0, 0]]).softmax(dim=1)
    torch.testing.assert_close(p, expected)  # the second has the modality of weight zero alone


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_weights_are_the_best_of_a_grid(num_modalities):
    module = build(Ensemble, LateFusion, batches(1, num_modalities), weighting="validation")
    rng = torch.Generator().manual_seed(2)
    logits = torch.randn(num_modalities, 40, NUM_CLASSES, generator=rng)
    label = torch.randint(NUM_CLASSES, (40,), generator=rng)
    present = torch.ones(num_modalities, 40, dtype=torch.bool)
    found = module._best_weights(logits, label, present).double().numpy()
    tenths = [t for t in itertools.product(range(11), repeat=num_modalities) if sum(t) == 10]
    grid = [np.full(num_modalities, 1 / num_modalities), *(np.array(t) / 10 for t in tenths)]
    right = [
        int((np.tensordot(w, logits.numpy(), 1).argmax(1) == label.numpy()).sum()) for w in grid
    ]
    best = [w for w, number in zip(grid, right, strict=True) if number == max(right)]
    distances = [np.abs(w - grid[0]).sum() for w in best]
    assert max(right) > right[0]
    assert any(np.allclose(found, w) for w in best)
    assert np.abs(found - grid[0]).sum() == pytest.approx(min(distances), abs=1e-6)


def test_of_equal_scores_the_equal_weights_are_taken():
    module = build(Ensemble, LateFusion, batches(1, 3), weighting="validation")
    logits, label = torch.ones(3, 5, NUM_CLASSES), torch.zeros(5, dtype=torch.long)
    found = module._best_weights(logits, label, torch.ones(3, 5, dtype=torch.bool))
    torch.testing.assert_close(found, torch.full((3,), 1 / 3))


WORDS = ("method=ensemble", "method.weighting=validation", "trainer.max_epochs=3")


def test_selected_weights_are_those_of_the_best_models(tmp_path):
    job = make_job(tmp_path, *WORDS, "data.num_val=60")
    train_job(job)
    result = read_json(job.run_dir / RESULT)
    mean = make_job(tmp_path, "method=unimodal", "trainer.max_epochs=3", "data.num_val=60")
    train_job(mean)
    plain = read_json(mean.run_dir / RESULT)
    for name in ("audio", "visual"):
        assert result["val"][name] == plain["val"][name]
    assert result["val"]["multi"]["accuracy"] >= plain["val"]["multi"]["accuracy"]
    assert any("selected by its score on validation" in note for note in result["notes"])
    assert evaluate_run(job.run_dir, "test") == result["test"]
    samples = {"audio": torch.randn(3, 16), "visual": torch.randn(3, 16)}
    prediction = mla.load(job.run_dir).predict(samples)
    own = torch.stack([prediction.logits[m] for m in ("audio", "visual")])
    latest = max(
        (read_checkpoint(path) for path in (job.run_dir / CHECKPOINTS).glob("best-*.ckpt")),
        key=lambda content: content["epoch"],
    )
    selected = latest["state_dict"]["ensemble_weights"]
    expected = (selected[:, None, None] * own).sum(dim=0)
    torch.testing.assert_close(prediction.logits["multi"], expected)


def test_a_killed_run_has_the_same_weights(tmp_path):
    whole = make_job(tmp_path / "whole", *WORDS)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *WORDS, "checkpoint.every_n_batches=1")
    assert killed(job, (MultimodalModule, "training_step", 14)) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))


@pytest.mark.filterwarnings("ignore:.*val_dataloader.*")
@pytest.mark.parametrize("loaders", ["every second epoch", "no validation"])
def test_weights_are_not_selected_without_validation_of_every_epoch(loaders):
    data = batches(1)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        check_val_every_n_epoch=2 if loaders == "every second epoch" else 1,
        enable_model_summary=False,
        **quiet,
    )
    validated = [Loader(data)] if loaders == "every second epoch" else []
    module = build(Ensemble, LateFusion, data, weighting="validation")
    message = r"Weights of the models are selected by val/acc/audio.*check_val_every_n_epoch=1"
    with pytest.raises(ConfigError, match=message):
        trainer.fit(module, Loader(data), *validated)
    assert not any("selected by its score" in note for note in module.notes)


def test_the_note_is_of_weights_that_were_selected():
    module = build(Ensemble, LateFusion, batches(1), weighting="validation")
    assert not module.notes
    fit(module, batches(1))
    assert any("selected by its score on validation" in note for note in module.notes)
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    again = build(Ensemble, LateFusion, batches(1), weighting="validation")
    again.on_load_checkpoint(checkpoint)
    assert again.notes == module.notes
    assert module._seen is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "logit"}, r"method.average='logit' is unknown. Did you mean 'logits'"),
        ({"weighting": "entropy"}, "method.weighting='entropy' is unknown"),
        (
            {"average": "probabilities", "parts": {"task": Multilabel()}},
            "is not defined for multilabel",
        ),
        (
            {
                "average": "probabilities",
                "parts": {"task": Regression(mean=0.0, std=1.0), "num_classes": 1},
            },
            "Use method.average=logits",
        ),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(Ensemble, LateFusion, batches(1), **options)
