"""What is printed when a run has finished: its scores, its folder, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.paths import command
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY


def describe_ending(run_dir: Path) -> str:
    """Return the last lines of a finished run.

    Args:
        run_dir: The run folder, with its result.

    Returns:
        The scores of the evaluated splits, fused and by modality, the folder, and two commands;
        empty if the folder has no result.

    Example:
        >>> scores = {"multi": {"accuracy": 0.875}, "audio": {"accuracy": 0.5}}
        >>> result = {"task": "classification", "val": scores, "test": scores, "num_val": 8}
        >>> files.write_json(tmp / "result.json", result | {"num_test": 40})
        >>> print(describe_ending(tmp).replace(str(tmp), "RUN"))
          test        accuracy 0.875   audio 0.500   (40 samples)
          validation  accuracy 0.875   audio 0.500   (8 samples)
          folder      RUN
          next        mla report page RUN
                      mla predict RUN data.path=NEW
    """
    result = files.read_json(run_dir / files.RESULT)
    if result is None:
        return ""
    primary = PRIMARY[result.get("task", CLASSIFICATION)]
    lines = []
    for split, title in (("test", "test"), ("val", "validation")):
        if scores := result.get(split):
            number = f"({result[f'num_{split}']} samples)"
            lines.append(f"  {title:<10}  {_scores(scores, primary)}   {number}")
    lines += [
        f"  folder      {run_dir}",
        f"  next        {command('mla', 'report', 'page', run_dir)}",
        f"              {command('mla', 'predict', run_dir)} data.path=NEW",
    ]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Mapping[str, float | None]], primary: Any) -> str:
    texts = []
    for modality in (MULTI, *(name for name in scores if name != MULTI)):
        value = scores.get(modality, {}).get(primary.metric)
        name = primary.metric.replace("_", " ") if modality == MULTI else modality
        texts.append(f"{name} {'–' if value is None else primary.text(value)}")
    return "   ".join(texts)
