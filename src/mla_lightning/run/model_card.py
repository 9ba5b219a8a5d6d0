"""The model card of an exported model: Markdown with the front matter of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY, REGRESSION

#: Our metric -> the name of the same one at Hugging Face; others keep their name.
HUB_METRICS = {
    "macro_f1": "f1",
    "micro_f1": "f1",
    "weighted_f1": "f1",
    "f1_2": "f1",
    "acc2": "accuracy",
    "acc5": "accuracy",
    "acc7": "accuracy",
    "macro_recall": "recall",
    "correlation": "pearsonr",
    "r2": "r_squared",
}
TITLES = {"test": "Test", "val": "Validation"}
#: Nobody but the owner of data and code can choose a licence.
LICENSE = "license: unknown  # choose one: https://huggingface.co/docs/hub/repositories-licenses\n"


def model_card(run: RunFiles, description: Mapping[str, Any], name: str) -> str:
    """Return the model card of an exported run.

    Args:
        run: The files of the finished run.
        description: The content of ``config.json`` of the exported model.
        name: Its name: ``OWNER/NAME`` at a hub, or that of its folder.

    Returns:
        Markdown. The licence is left open.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> card = (run.export(tmp / "model", format="safetensors").path / "README.md").read_text()
        >>> card.splitlines()[1]
        'license: unknown  # choose one: https://huggingface.co/docs/hub/repositories-licenses'
    """
    from jinja2 import Environment, FileSystemLoader

    result = run.result
    assert result is not None
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    splits = {split: s for split in TITLES if (s := getattr(result, split))}
    class_names = description["data"]["class_names"]
    template = environment.get_template("model_card.md")
    return (
        template.render(
            front_matter=LICENSE + _front_matter(result, name, splits),
            method=run.provenance.get("method_label") or result.method,
            method_name=result.method,
            dataset=result.dataset,
            modalities=result.modalities,
            predicts=_predicts(result.task, class_names),
            splits=[_table(result, split, scores) for split, scores in splits.items()],
            selection=_selection(result, has_test="test" in splits),
            seed=result.seed,
            version=description["mla_lightning"],
            folder=name.rpartition("/")[2],
            rows=description["rows"],
            num_outputs=max(1, len(class_names)),
            made_by=_made_by(description["made_by"]),
            split_name=result.split,
            num_train=result.num_train,
            num_val=result.num_val,
            num_test=result.num_test,
            missing=_missing(description["config"].get("missing")),
            is_complete=description["is_complete"],
            missing_limit=_missing_limit(description),
            epochs=result.epochs,
            best_epoch=result.best_epoch,
            num_parameters=result.num_parameters,
            provenance=_provenance(run, result, description),
            notes=result.notes,
        ).rstrip("\n")
        + "\n"
    )


def _front_matter(result: Result, name: str, splits: Mapping[str, Any]) -> str:
    metrics = _metrics_of(splits)
    results = [
        {
            "task": {"type": "other", "name": f"multimodal {result.task}"},
            "dataset": {"type": result.dataset, "name": result.dataset, "split": split},
            "metrics": [
                {
                    "type": HUB_METRICS.get(metric, metric),
                    "value": value,
                    "name": f"{metric.replace('_', ' ')} ({modality})",
                }
                for modality, values in scores.items()
                for metric, value in values.items()
                if value is not None
            ],
        }
        for split, scores in splits.items()
    ]
    content = {
        "library_name": "mla_lightning",
        "tags": list(dict.fromkeys(["multimodal", result.task, result.method, *result.modalities])),
        "datasets": [result.dataset],
        "metrics": list(dict.fromkeys(HUB_METRICS.get(m, m) for m in metrics)),
        "model-index": [{"name": name.rpartition("/")[2], "results": results}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _metrics_of(splits: Mapping[str, Any]) -> list[str]:
    """Return the metrics of all splits and modalities, in their order."""
    names = (m for scores in splits.values() for values in scores.values() for m in values)
    return list(dict.fromkeys(names))


def _table(result: Result, split: str, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of a split: fused first, one column per metric, fractions as they are."""
    metrics = _metrics_of({split: scores})
    primary = PRIMARY[result.task].metric
    metrics.sort(key=lambda metric: metric != primary)
    order = (MULTI, *(name for name in scores if name != MULTI))
    rows = [
        [name, *(_number(scores[name].get(m), result.metrics.get(m)) for m in metrics)]
        for name in order
        if name in scores
    ]
    columns = [_column(metric, result.metrics.get(metric)) for metric in metrics]
    number = result.num_test if split == "test" else result.num_val
    return {"title": TITLES[split], "num": number, "columns": columns, "rows": rows}


def _column(metric: str, shown: Mapping[str, Any] | None) -> str:
    label = (shown or {}).get("label") or metric.replace("_", " ")
    return f"{label} (%)" if (shown or {}).get("percent") else label


def _number(value: float | None, shown: Mapping[str, Any] | None) -> str:
    """Format a score as tables show it."""
    if value is None:
        return "–"
    if shown is None:
        return f"{value:.4g}"
    return f"{100 * value if shown.get('percent') else value:.{shown.get('digits', 1)}f}"


def _selection(result: Result, *, has_test: bool) -> str:
    if result.protocol == "paper":
        return "The epoch was selected on the test split itself, so its scores are too high."
    unused = ", and the test split was used for nothing else" if has_test else ""
    return f"The epoch was selected on validation{unused}."


def _predicts(task: str, class_names: list[str]) -> str:
    if task == REGRESSION:
        return "one number"
    some = ", ".join(class_names[:12]) + (", ..." if len(class_names) > 12 else "")
    kind = "one of" if task == CLASSIFICATION else "any of"
    return f"{kind} {len(class_names)} {'classes' if kind == 'one of' else 'labels'}: {some}"


def _made_by(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    if not inputs:
        return "`rows` of `config.json` has their shapes and types."
    kinds = ", ".join(f"{name}: {entry.get('kind')}" for name, entry in inputs.items())
    return f"`made_by` of `config.json` says how they were made from files ({kinds})."


def _missing(node: Mapping[str, Any] | None) -> str:
    if not node:
        return "none were hidden"
    rate = "" if node.get("rate") is None else f" at the rate {node['rate']}"
    return f"hidden by `{node.get('sampler', 'anchor')}`{rate}"


def _missing_limit(description: Mapping[str, Any]) -> str:
    if description["is_complete"]:
        return "It takes samples with every modality, as those were that it was trained on."
    return "It takes samples that lack a modality, as some did that it was trained on."


def _provenance(run: RunFiles, result: Result, description: Mapping[str, Any]) -> dict[str, str]:
    record = run.provenance
    versions = record.get("versions") or {}
    entries = {
        "commit": record.get("git_commit"),
        "run": f"identity {result.identity[:12]}, code {(result.code or '')[:12]}",
        "data hash": str(record.get("data_fingerprint") or "")[:12],
        "weights": f"SHA-256 {description['weights']['sha256']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "trained": record.get("finished"),
    }
    return {name: str(text) for name, text in entries.items() if text}
