"""Summary, tables and charts of a finished run on Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.loggers.parameters import flatten
from mla_lightning.run_folder.columns import parse_forgetting
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY, REGRESSION

#: Keys of a result that are copied to the summary.
SUMMARY_KEYS = (
    *("best_epoch", "epochs", "train_time_s", "epoch_time_s", "peak_memory_mb", "num_parameters"),
    *("dataset", "method", "ablation", "seed", "split", "unimodal_rule"),
)

#: W&B draws at most 10000 rows, and the chart of confusion has one per pair of classes.
MAX_CLASSES_OF_CHART = 100


def summary_of(run_dir: Path) -> dict[str, Any]:
    """Collect the summary of a finished run.

    Args:
        run_dir: The run folder.

    Returns:
        Dotted key -> number or text: scores, probes, costs, contribution, calibration; empty for a
        run without a result.

    Example:
        >>> run = mla.train("data=synthetic", "method=mla", "trainer.max_epochs=1", folder=tmp)
        >>> summary = summary_of(run.folder)
        >>> summary["method"], summary["epochs"]
        ('mla', 1)
        >>> summary["result.test.multi.accuracy"] == run.result.test["multi"]["accuracy"]
        True
    """
    run = RunFiles(run_dir)
    if run.result is None:
        return {}
    content = run.result.to_json()
    summary = {key: content[key] for key in SUMMARY_KEYS}
    summary |= flatten({"val": run.result.val or {}, "test": run.result.test or {}}, "result.")
    if run.result.task != CLASSIFICATION:
        summary["task"] = run.result.task
    summary |= flatten({"probe": _probes(run.result)}, "result.")
    numbers = run.diagnostics or {}
    for key in ("shapley", "agreement", "fusion", "gap", "parameters"):
        summary |= flatten({key: numbers.get(key) or {}})
    for name, calibration in (numbers.get("calibration") or {}).items():
        summary[f"calibration.{name}.temperature"] = calibration["temperature"]
        for when in ("before", "after"):
            summary[f"calibration.{name}.ece_{when}"] = calibration[when]["width"]["ece"]
    return {key: value for key, value in summary.items() if value is not None}


def charts_of(run_dir: Path, wandb: Any) -> dict[str, Any]:
    """Build the tables and charts of a finished run from its folder.

    Args:
        run_dir: The run folder.
        wandb: The module ``wandb``.

    Returns:
        Key -> table or chart; empty for a run without a result.
    """
    run = RunFiles(run_dir)
    if run.result is None:
        return {}
    charts: dict[str, Any] = {"tables/scores": _scores(run.result, wandb)}
    if run.diagnostics is not None:
        charts |= _diagnostics(run.diagnostics, run.result.task, wandb)
    charts |= _forgetting(run, wandb)
    charts |= _PREDICTIONS[run.result.task](run, wandb)
    return charts


def _scores(result: Result, wandb: Any) -> Any:
    scores = {"val": result.val or {}, "test": result.test or {}}
    metrics = dict.fromkeys(
        metric
        for by_modality in scores.values()
        for values in by_modality.values()
        for metric in values
    )
    columns = ["split", "modality", *metrics, f"probe_{PRIMARY[result.task].metric}"]
    probes = _probes(result)
    rows = [
        [split, name, *map(values.get, metrics), (probes.get(split) or {}).get(name)]
        for split, by_modality in scores.items()
        for name, values in by_modality.items()
    ]
    return wandb.Table(columns=columns, data=rows)


def _probes(result: Result) -> dict[str, Any]:
    return result.probe_accuracy or result.probe_scores or {}


def _diagnostics(numbers: Mapping[str, Any], task: str, wandb: Any) -> Iterator[tuple[str, Any]]:
    for key, column, title in (
        ("shapley", "modality", f"Shapley value of {PRIMARY[task].metric}"),
        ("agreement", "correct", "Fraction of samples by correct modalities"),
    ):
        if numbers.get(key):
            rows = [[name, value] for name, value in numbers[key].items()]
            table = wandb.Table(columns=[column, "value"], data=rows)
            yield f"tables/{key}", table
            yield f"charts/{key}", wandb.plot.bar(table, column, "value", title=title)
    if "calibration" not in numbers:
        return  # of a task without classes
    rows = []
    for name, calibration in numbers["calibration"].items():
        for when in ("before", "after"):
            bins = calibration[when]["mass"]
            pairs = zip(bins["confidence"], bins["accuracy"], strict=True)
            rows += [[name, when, confidence, accuracy] for confidence, accuracy in pairs]
    columns = ["modality", "scaling", "confidence", "accuracy"]
    yield "tables/reliability", wandb.Table(columns=columns, data=rows)
    multi = [row[2:] for row in rows if row[:2] == ["multi", "before"]]
    if multi:
        table = wandb.Table(columns=columns[2:], data=multi)
        title = "Reliability of the fused prediction"
        yield "charts/reliability", wandb.plot.line(table, "confidence", "accuracy", title=title)


def _forgetting(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    changes: dict[tuple[str, str], list[float]] = {}
    for row in run.metrics:
        for key, value in row.items():
            measure, step, name = parse_forgetting(key) or ("", "", "")
            if measure == "loss":
                changes.setdefault((step, name), []).append(value)
    if changes:
        rows = [[step, name, sum(v) / len(v)] for (step, name), v in changes.items()]
        columns = ["step on", "modality", "mean change of loss"]
        yield "tables/forgetting", wandb.Table(columns=columns, data=rows)


def _confusion(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    from mla_lightning.counts import confusion_matrix, predict_classes

    arrays = run.predictions
    if arrays is None:
        return
    label, (predicted, _) = arrays["label"], predict_classes(arrays["logits_multi"])
    names = [str(name) for name in arrays["class_names"]]
    counts = confusion_matrix(label, predicted, len(names))
    rows = [[names[a], names[b], int(counts[a, b])] for a, b in zip(*counts.nonzero(), strict=True)]
    columns = ["class", "predicted class", "samples"]
    yield "tables/confusion", wandb.Table(columns=columns, data=rows)
    if len(names) <= MAX_CLASSES_OF_CHART:
        chart = wandb.plot.confusion_matrix(
            y_true=label.tolist(),
            preds=predicted.tolist(),
            class_names=names,
            title="Confusion on test, multi",
        )
        yield "charts/confusion", chart


def _values(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    arrays = run.predictions
    if arrays is None:
        return
    pairs = zip(arrays["label"], arrays["logits_multi"][:, 0], strict=True)
    rows = [[float(true), float(predicted)] for true, predicted in pairs]
    columns = ["true value", "predicted value"]
    table = wandb.Table(columns=columns, data=rows)
    yield "tables/predictions", table
    title = "Predicted and true values of test, multi"
    yield "charts/predictions", wandb.plot.scatter(table, *columns, title=title)


def _labels(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    from mla_lightning.counts import f1_by_label

    arrays = run.predictions
    if arrays is None:
        return
    names = [str(name) for name in arrays["class_names"]]
    scores = f1_by_label(arrays["label"], arrays["logits_multi"])
    rows = [[name, float(score)] for name, score in zip(names, scores, strict=True)]
    table = wandb.Table(columns=["label", "F1"], data=rows)
    yield "tables/label_f1", table
    title = "F1 of each label on test, multi"
    yield "charts/label_f1", wandb.plot.bar(table, "label", "F1", title=title)


#: Task -> tables and charts of the predictions.
_PREDICTIONS = {CLASSIFICATION: _confusion, REGRESSION: _values, MULTILABEL: _labels}
