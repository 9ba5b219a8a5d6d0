"""What a finished run shows on Weights & Biases beside its curves: summary, tables, charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.run_folder import DIAGNOSTICS, PREDICTIONS, RESULT, read_json, read_metrics

#: Numbers of a result that go to the summary as they are.
SUMMARY = (
    *("best_epoch", "epochs", "train_time_s", "epoch_time_s", "peak_memory_mb", "num_parameters"),
    *("dataset", "method", "ablation", "seed", "split", "unimodal_rule"),
)


def summary_of(run_dir: Path) -> dict[str, Any]:
    """Collect a finished run's numbers.

    Args:
        run_dir: The run folder.

    Returns:
        Dotted key -> number or text: scores, probes, costs, contribution, calibration; empty for a
        run without a result.
    """
    result = read_json(run_dir / RESULT)
    if result is None:
        return {}
    found = {key: result[key] for key in SUMMARY if result.get(key) is not None}
    found |= dict(_flat({split: result.get(split) or {} for split in ("val", "test")}, "result."))
    found |= dict(_flat({"probe": result.get("probe_accuracy") or {}}, "result."))
    numbers = read_json(run_dir / DIAGNOSTICS) or {}
    for key in ("shapley", "agreement", "fusion", "gap", "parameters"):
        found |= dict(_flat({key: numbers.get(key) or {}}))
    for name, of in (numbers.get("calibration") or {}).items():
        found[f"calibration.{name}.temperature"] = of["temperature"]
        for when in ("before", "after"):
            found[f"calibration.{name}.ece_{when}"] = of[when]["width"]["ece"]
    return found


def charts_of(run_dir: Path, wandb: Any) -> dict[str, Any]:
    """Make a finished run's tables and charts, from its folder alone.

    Args:
        run_dir: The run folder.
        wandb: The module.

    Returns:
        Key -> table or chart; empty for a run without a result.
    """
    result = read_json(run_dir / RESULT)
    if result is None:
        return {}
    found: dict[str, Any] = {"tables/scores": _scores(result, wandb)}
    numbers = read_json(run_dir / DIAGNOSTICS)
    if numbers is not None:
        found |= dict(_diagnosed(numbers, wandb))
    found |= dict(_forgetting(run_dir, wandb))
    found |= dict(_confusion(run_dir, wandb))
    return found


def _scores(result: Mapping[str, Any], wandb: Any) -> Any:
    columns = ["split", "modality", "accuracy", "macro_f1", "ece", "probe_accuracy"]
    probes = result.get("probe_accuracy") or {}
    rows = [
        [
            split,
            name,
            *(values.get(key) for key in columns[2:5]),
            (probes.get(split) or {}).get(name),
        ]
        for split in ("val", "test")
        for name, values in (result.get(split) or {}).items()
    ]
    return wandb.Table(columns=columns, data=rows)


def _diagnosed(numbers: Mapping[str, Any], wandb: Any) -> Iterator[tuple[str, Any]]:
    for key, title in (("shapley", "Shapley value"), ("agreement", "Who is right")):
        if numbers.get(key):
            rows = [[name, value] for name, value in numbers[key].items()]
            table = wandb.Table(columns=["part", "value"], data=rows)
            yield f"tables/{key}", table
            yield f"charts/{key}", wandb.plot.bar(table, "part", "value", title=title)
    rows = [
        [name, when, confidence, accuracy]
        for name, of in numbers["calibration"].items()
        for when in ("before", "after")
        for confidence, accuracy in zip(
            of[when]["mass"]["confidence"], of[when]["mass"]["accuracy"], strict=True
        )
    ]
    columns = ["modality", "scaling", "confidence", "accuracy"]
    yield "tables/reliability", wandb.Table(columns=columns, data=rows)
    multi = [row[2:] for row in rows if row[:2] == ["multi", "before"]]
    if multi:
        table = wandb.Table(columns=columns[2:], data=multi)
        title = "Reliability of the fused answer"
        yield "charts/reliability", wandb.plot.line(table, "confidence", "accuracy", title=title)


def _forgetting(run_dir: Path, wandb: Any) -> Iterator[tuple[str, Any]]:
    sums: dict[tuple[str, str], list[float]] = {}
    for row in read_metrics(run_dir):
        for key, value in row.items():
            if key.startswith("forgetting/loss/"):
                step, name = key.removeprefix("forgetting/loss/").rsplit("/", 1)
                sums.setdefault((step, name), []).append(value)
    if sums:
        rows = [[step, name, sum(v) / len(v)] for (step, name), v in sums.items()]
        columns = ["step on", "modality", "mean change of loss"]
        yield "tables/forgetting", wandb.Table(columns=columns, data=rows)


def _confusion(run_dir: Path, wandb: Any) -> Iterator[tuple[str, Any]]:
    import numpy as np

    if not (run_dir / PREDICTIONS).is_file():
        return
    with np.load(run_dir / PREDICTIONS) as arrays:
        label, answer = arrays["label"], arrays["logits_multi"].argmax(axis=1)
        names = [str(name) for name in arrays["class_names"]]
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (label, answer), 1)
    rows = [[names[a], names[b], int(counts[a, b])] for a, b in zip(*counts.nonzero(), strict=True)]
    columns = ["class", "answer", "samples"]
    yield "tables/confusion", wandb.Table(columns=columns, data=rows)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
