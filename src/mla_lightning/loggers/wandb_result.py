"""What a finished run shows on Weights & Biases beside its curves: summary, tables, charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mla_lightning.run_folder.columns import parse_forgetting
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result

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
    run = RunFiles(run_dir)
    if run.result is None:
        return {}
    content = run.result.to_json()
    found = {key: content[key] for key in SUMMARY if content[key] is not None}
    found |= dict(_flat({"val": run.result.val or {}, "test": run.result.test or {}}, "result."))
    found |= dict(_flat({"probe": run.result.probe_accuracy or {}}, "result."))
    numbers = run.diagnostics or {}
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
    run = RunFiles(run_dir)
    if run.result is None:
        return {}
    found: dict[str, Any] = {"tables/scores": _scores(run.result, wandb)}
    if run.diagnostics is not None:
        found |= dict(_diagnosed(run.diagnostics, wandb))
    found |= dict(_forgetting(run, wandb))
    found |= dict(_confusion(run, wandb))
    return found


def _scores(result: Result, wandb: Any) -> Any:
    scored = {"val": result.val or {}, "test": result.test or {}}
    names = dict.fromkeys(m for by in scored.values() for values in by.values() for m in values)
    columns = ["split", "modality", *names, "probe_accuracy"]
    probes = result.probe_accuracy or {}
    rows = [
        [
            split,
            name,
            *(values.get(key) for key in names),
            (probes.get(split) or {}).get(name),
        ]
        for split, by_modality in scored.items()
        for name, values in by_modality.items()
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


def _forgetting(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    sums: dict[tuple[str, str], list[float]] = {}
    for row in run.metrics:
        for key, value in row.items():
            measure, step, name = parse_forgetting(key) or ("", "", "")
            if measure == "loss":
                sums.setdefault((step, name), []).append(value)
    if sums:
        rows = [[step, name, sum(v) / len(v)] for (step, name), v in sums.items()]
        columns = ["step on", "modality", "mean change of loss"]
        yield "tables/forgetting", wandb.Table(columns=columns, data=rows)


def _confusion(run: RunFiles, wandb: Any) -> Iterator[tuple[str, Any]]:
    import numpy as np

    arrays = run.predictions
    if arrays is None:
        return
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
