"""Finished run folders to Weights & Biases, as if they had been trained with its logger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mla_lightning.loggers import Wandb
from mla_lightning.run_folder import CONFIG, PROVENANCE, RESULT, read_json, read_metrics


@dataclass
class Sent:
    """What became of run folders that were to be sent.

    Attributes:
        online: How many the server took.
        kept: Folders for ``wandb sync``, of runs that it did not take or was not asked to.
        left: How many have no result, or could not even be written.
    """

    online: int = 0
    kept: list[Path] = field(default_factory=list)
    left: int = 0


def send(run_dirs: Sequence[Path], spec: Wandb) -> Sent:
    """Send finished run folders to W&B.

    Each goes afresh and whole, also if it was logged or sent before. Where the server does not
    take one, it is not asked again.

    Args:
        run_dirs: The run folders; those without a result are left out.
        spec: Where to; with ``mode=offline`` files for ``wandb sync`` are written into the folders.

    Returns:
        What became of them.
    """
    import yaml

    sent = Sent()
    for run_dir in run_dirs:
        provenance = read_json(run_dir / PROVENANCE)
        run = None
        if read_json(run_dir / RESULT) is not None and provenance is not None:
            config = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))
            run = spec.make(config | {"overwrite": True}, run_dir, provenance["identity"])
        if run is None:
            sent.left += 1
            continue
        run.begin_afresh()
        for row in read_metrics(run_dir):
            run.log_metrics(row, step=int(row["step"]))
        run.finish(0)
        if run.is_offline:
            sent.kept.append(run.sync_dir)
            spec.mode = "offline"
        else:
            sent.online += 1
    return sent
