"""Runs of regression and multi-label data: records, predictions, refusals, resume, weights."""

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, f1_score
from tests.train.jobs import in_child, killed, make_job, outcome, same

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs, plan
from mla_lightning.errors import ConfigError
from mla_lightning.identity import identity_of
from mla_lightning.module import MultimodalModule
from mla_lightning.run.finished import evaluate_run, load_run
from mla_lightning.run.predict import predict_split
from mla_lightning.run.train import run_job

SMALL = (
    *("data=synthetic", "data.num_train=80", "data.num_val=40", "data.num_test=40"),
    *("trainer.max_epochs=3", "scheduler=null"),
)
MISSING = ("missing=anchor", "missing.rate=0.3")


@pytest.fixture(scope="module", params=["regression", "multilabel"])
def run(request, tmp_path_factory):
    words = (*SMALL, *MISSING, f"data.task={request.param}", "method=mla", "diagnostics=epoch")
    return mla.train(*words, folder=tmp_path_factory.mktemp(request.param))


def rows_of(run):
    with (run.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_recorded_scores_are_those_of_the_recorded_predictions(run):
    """With an independent oracle, in the target's own unit, per modality where it is present."""
    content = json.loads((run.folder / "result.json").read_text())
    arrays = np.load(run.folder / "predictions.npz")
    label = arrays["label"]
    assert content["task"] == run.result.task
    for name, scores in content["test"].items():
        rows = arrays.get(f"present_{name}", np.ones(40, bool)) if name != "multi" else slice(None)
        z, y = arrays[f"logits_{name}"][rows], label[rows]
        if content["task"] == "regression":
            assert scores["mae"] == pytest.approx(np.abs(z[:, 0] - y).mean(), rel=1e-5)
            assert scores["correlation"] == pytest.approx(np.corrcoef(z[:, 0], y)[0, 1], rel=1e-4)
            assert scores.keys() == {"mae", "correlation", "r2"}  # targets beyond [-3, 3]
        else:
            assert scores["micro_f1"] == pytest.approx(f1_score(y, z > 0, average="micro"))
            precisions = [average_precision_score(y[:, k], z[:, k]) for k in range(4)]
            assert scores["mean_ap"] == pytest.approx(np.mean(precisions), rel=1e-5)
    assert arrays["logits_multi"].dtype == np.float32
    if content["task"] == "regression":
        assert 3 < arrays["logits_multi"].mean() < 7  # the target's mean is 5
        assert arrays["class_names"].shape == (0,)


def test_the_best_epoch_is_the_first_best_by_the_primary_metric(run):
    column, best = {"regression": ("val/mae", min), "multilabel": ("val/f1_micro", max)}[
        run.result.task
    ]
    values = [float(row[column]) for row in rows_of(run)]
    assert run.result.best_epoch == values.index(best(values)) + 1
    metric = {"regression": "mae", "multilabel": "micro_f1"}[run.result.task]
    assert run.result.val["multi"][metric] == pytest.approx(best(values), rel=1e-6)
    assert run.result.select_by == metric
    assert not any("acc" in key for key in rows_of(run)[0])


def test_diagnostics_are_of_the_task(run):
    content = json.loads((run.folder / "diagnostics.json").read_text())
    assert not content.keys() & {"agreement", "calibration", "entropy"}
    metric = {"regression": "mae", "multilabel": "micro_f1"}[run.result.task]
    whole = content["subsets"]["audio+visual"]
    assert whole == pytest.approx(run.result.test["multi"][metric], rel=1e-5)
    total = sum(content["shapley"].values())
    assert total == pytest.approx(whole - content["subsets"][""], rel=1e-6)
    assert content["uncounted"] == []
    assert {*content["fusion"]["audio"]} == {"mean"}
    assert run.result.probe_accuracy is None
    assert run.result.probe_scores.keys() == {"val", "test"}
    column = {"regression": "mae", "multilabel": "f1_micro"}[run.result.task]
    assert {f"probe/{column}/audio", f"forgetting/{column}/audio/visual"} <= rows_of(run)[0].keys()


def test_missing_patterns_have_the_primary_metric(run):
    metric = {"regression": "mae", "multilabel": "micro_f1"}[run.result.task]
    patterns = run.result.missing["patterns"]["test"]
    assert all(set(values) == {"num", metric} for values in patterns.values())
    if metric == "mae":  # a mean over samples, so the patterns add up
        total = sum(v["num"] * v["mae"] for v in patterns.values()) / 40
        assert total == pytest.approx(run.result.test["multi"]["mae"], rel=1e-5)


def test_a_finished_run_evaluates_and_predicts_the_same(run, tmp_path):
    scores = evaluate_run(run.folder, "test", eval_batch_size=7)
    for name, by_metric in run.result.test.items():
        assert scores[name] == pytest.approx(by_metric, rel=1e-4)
    loaded = load_run(run.folder)
    prediction = predict_split(loaded, loaded.data, "test", 7)
    recorded = np.load(run.folder / "predictions.npz")
    np.testing.assert_allclose(prediction.logits["multi"], recorded["logits_multi"], rtol=1e-4)
    np.testing.assert_allclose(prediction.label, recorded["label"])
    path = tmp_path / "p.csv"
    assert main(["predict", str(run.folder), f"output={path}"]) == 0
    with path.open() as file:
        row = next(csv.DictReader(file))
    if run.result.task == "regression":
        assert float(row["prediction"]) == pytest.approx(float(recorded["logits_multi"][0, 0]))
        assert float(row["label"]) == pytest.approx(float(recorded["label"][0]))
        assert not any(key.startswith("p_") for key in row)
        np.testing.assert_allclose(prediction.values, recorded["logits_multi"][:, 0], rtol=1e-4)
        with pytest.raises(ConfigError, match="predictions are in values"):
            prediction.classes  # noqa: B018
    else:
        names = recorded["class_names"]
        predicted = [n for n, z in zip(names, recorded["logits_multi"][0], strict=True) if z > 0]
        assert row["prediction"] == ";".join(predicted) == prediction.classes[0]
        p = 1 / (1 + np.exp(-recorded["logits_multi"][0]))
        assert [float(row[f"p_{n}"]) for n in names] == pytest.approx(p.tolist(), abs=2e-6)


def test_changed_predictions_are_noticed(run, tmp_path):
    """The recorded score is compared with the predictions, as for classes."""
    import shutil

    from mla_lightning.run_folder.integrity import _prediction_problems
    from mla_lightning.run_folder.reader import RunFiles

    folder = tmp_path / run.folder.name
    shutil.copytree(run.folder, folder)
    assert list(_prediction_problems(RunFiles(folder))) == []
    arrays = dict(np.load(folder / "predictions.npz"))
    np.savez_compressed(
        folder / "predictions.npz", **arrays | {"logits_multi": arrays["logits_multi"] + 3}
    )
    (problem,) = _prediction_problems(RunFiles(folder))
    assert problem.startswith(("the test mae of multi", "the test micro_f1 of multi"))


# ---------------------------------------------------------------------- references


def test_references_of_a_number_are_ridge_regression_and_the_median(tmp_path):
    words = (*SMALL, "data.task=regression")
    logistic = mla.train(*words, "method=logistic", folder=tmp_path)
    loaded = load_run(logistic.folder)
    loaded.data.setup()
    splits = loaded.data.splits
    x, y = (
        {s: splits[s].inputs["audio"].double().numpy() for s in ("train", "val", "test")},
        {s: splits[s].label.double().numpy() for s in ("train", "val", "test")},
    )
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {split: (values - mean) / std for split, values in x.items()}
    models = [
        Ridge(alpha=80 * 10.0**power).fit(x["train"], y["train"]) for power in range(2, -6, -1)
    ]
    errors = [np.abs(model.predict(x["val"]) - y["val"]).mean() for model in models]
    best = models[int(np.argmin(errors))]
    expected = np.abs(best.predict(x["test"]) - y["test"]).mean()
    assert logistic.result.test["audio"]["mae"] == pytest.approx(expected, rel=1e-4)
    majority = mla.train(*words, "method=majority", folder=tmp_path)
    median = np.sort(y["train"])[39]
    expected = np.abs(median - y["test"]).mean()
    assert majority.result.test["multi"]["mae"] == pytest.approx(expected, rel=1e-5)
    assert majority.result.test["multi"]["correlation"] == 0
    assert logistic.result.test["multi"]["mae"] < majority.result.test["multi"]["mae"] / 2


def test_metrics_of_sentiment_are_recorded_where_they_are_defined(tmp_path, monkeypatch):
    monkeypatch.setattr("mla_lightning.data.synthetic.TARGET_SCALE", (0.0, 0.7))
    words = (*SMALL, "data.task=regression", "method=concat")
    result = mla.train(*words, folder=tmp_path).result
    assert {"acc2", "f1_2", "acc5", "acc7"} < result.test["multi"].keys()
    assert {"acc2", "acc7"} < result.metrics.keys()


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data.task=regression", "method=qmf"), "QMF is not for regression: one number has no"),
        (("data.task=multilabel", "method=cca"), "CCA is not for multilabel: it ends with"),
        (("data.task=regression", "select_by=accuracy"), "write mae or correlation"),
        (("data.task=multilabel", "select_by=mae"), "write micro_f1, macro_f1 or mean_ap"),
        (("select_by=mae",), "write accuracy, macro_f1 or balanced_accuracy"),
        (("task=regression",), "task=regression does not fit synthetic, whose labels are"),
        (("data.task=regression", "task=multilabel"), "those of regression"),
        (("data.task=regression", "loss.class_weights=balanced"), "regression has no classes"),
        (("method=majority", "loss.class_weights=balanced"), "has no effect on Majority"),
        (("method=dcca", "loss.class_weights=balanced"), "has no effect on DCCA"),
        (("data.task=regression", "task=regression", "task.loss=huber"), "task.loss must be one"),
        (("loss.class_weights=equal",), "loss.class_weights must be balanced"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_errors_before_anything_starts(words, message):
    words = (*words, *(["method=concat"] * (not any("method=" in word for word in words))))
    with pytest.raises(ConfigError, match=message):
        compose_jobs([*SMALL, *words])


def test_the_identity_of_classification_is_that_of_configs_without_tasks():
    (job,) = compose_jobs([*SMALL, "method=mla"])
    old = {key: value for key, value in job.config.tree.items() if key not in ("task", "loss")}
    assert identity_of({**old, "select_by": "accuracy"}, job.data_fingerprint) == job.identity
    del old["select_by"]
    assert identity_of(old, job.data_fingerprint) == job.identity
    for word in ("task=classification", "select_by=accuracy"):
        (same_job,) = compose_jobs([*SMALL, "method=mla", word])
        assert same_job.identity == job.identity
    assert job.config.tree["metrics"].keys() == {
        *("accuracy", "ece", "macro_f1", "macro_recall", "weighted_f1")
    }


def test_the_task_of_the_data_is_chosen_and_its_settings_change_the_run():
    base = [*SMALL, "method=mla", "data.task=regression"]
    (job,), (named,) = compose_jobs(base), compose_jobs([*base, "task=regression"])
    (l1,) = compose_jobs([*base, "task=regression", "task.loss=l1"])
    (by_correlation,) = compose_jobs([*base, "select_by=correlation"])
    assert job.identity == named.identity
    assert len({job.identity, l1.identity, by_correlation.identity}) == 3
    assert job.config.select_by == "mae"
    assert plan(base)[0].config["select_by"] is None


def test_another_loss_and_another_selection_have_an_effect(tmp_path):
    words = (*SMALL, "data.task=regression", "method=concat")
    mse = mla.train(*words, folder=tmp_path)
    l1 = mla.train(*words, "task=regression", "task.loss=l1", folder=tmp_path)
    first, other = (float(rows_of(run)[0]["train/loss/joint"]) for run in (mse, l1))
    assert first != other
    chosen = mla.train(*words, "select_by=correlation", folder=tmp_path)
    values = [float(row["val/correlation"]) for row in rows_of(chosen)]
    assert chosen.result.best_epoch == values.index(max(values)) + 1


# ---------------------------------------------------------------------- class weights


def test_balanced_weights_raise_the_balanced_accuracy_of_imbalanced_classes():
    """Nine samples of one class for one of the other, normal with means sqrt(2) apart.

    The best balanced accuracy is Phi(sqrt(2) / 2) = 0.76.
    """
    from functools import partial

    from lightning.pytorch import Trainer

    from mla_lightning.methods import Joint
    from mla_lightning.tasks import Classification, balanced_class_weights

    rng = torch.Generator().manual_seed(0)
    label = (torch.arange(400) % 10 == 0).long()
    x = torch.randn(400, 2, generator=rng) + label[:, None]
    loader = torch.utils.data.DataLoader([{"a": x, "b": x, "label": label}], batch_size=None)
    recalls = []
    for weights in (None, balanced_class_weights(label, 2)):
        torch.manual_seed(0)
        module = Joint(
            encoders={name: torch.nn.Linear(2, 4) for name in "ab"},
            num_classes=2,
            optimizer=partial(torch.optim.SGD, lr=0.5),
            task=Classification(class_weights=weights),
            select_by="balanced_accuracy",
        )
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(max_epochs=60, accelerator="cpu", enable_model_summary=False, **quiet)
        trainer.fit(module, loader, loader)
        recalls.append(module.epoch_metrics["val/recall_macro"])
    assert recalls[0] < 0.65
    assert recalls[1] == pytest.approx(0.76, abs=0.03)


@pytest.mark.parametrize("method", ["logistic", "late_fusion"])
def test_class_weights_of_a_run_are_those_of_its_training_split(tmp_path, method):
    words = (*SMALL, "data.task=multilabel", f"method={method}")
    plain = mla.train(*words, folder=tmp_path)
    weighted = mla.train(*words, "loss.class_weights=balanced", folder=tmp_path)
    loaded = load_run(weighted.folder)
    loaded.data.setup()
    label = loaded.data.splits["train"].label
    counts = label.sum(dim=0)
    torch.testing.assert_close(loaded.module.task.class_weights, (80 - counts) / counts)
    first, other = (np.load(run.folder / "predictions.npz") for run in (plain, weighted))
    assert (other["logits_multi"][:, 0] > 0).sum() > (first["logits_multi"][:, 0] > 0).sum()


# ---------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    "words",
    [
        ("data.task=regression", "method=mla", "missing=anchor"),
        ("data.task=multilabel", "method=qmf"),
        ("method=ogm_ge", "loss.class_weights=balanced"),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(tmp_path, words):
    whole = make_job(tmp_path / "whole", *words)
    assert in_child(lambda: run_job(whole)) == 0
    job = make_job(tmp_path / "killed", *words, "checkpoint.every_n_batches=1")
    assert killed(job, (MultimodalModule, "training_step", 14), before=True) == -9
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), outcome(whole.run_dir))
