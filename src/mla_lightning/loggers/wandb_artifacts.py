"""Model and predictions of a finished run as artifacts of Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.loggers.parameters import PROVENANCE, config_without_secrets, recorded_provenance
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.integrity import SEALED
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result

#: Types of artifacts.
MODEL, PREDICTIONS = "model", "predictions"
#: Keys of a result that are copied to the metadata.
DESCRIBED = ("dataset", "method", "ablation", "seed", "task", "select_by", "best_epoch")


def send_artifact(run_dir: Path, wandb: Any, run: Any, kind: str) -> None:
    """Add an artifact to the W&B run of a finished run; nothing for a run without a result.

    Args:
        run_dir: The run folder, whose files W&B sends from where they are.
        wandb: The module ``wandb``.
        run: The W&B run.
        kind: ``model`` or ``predictions``. The artifact's name is this type and the id of the W&B
            run, its aliases are ``best`` and the seed (``seed-0``).

    Raises:
        RunError: If its files are gone.
    """
    result = RunFiles(run_dir).result
    if result is None:
        return
    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind, metadata=metadata_of(run_dir))
    for path in paths_of(run_dir, kind):
        # Immutable: W&B reads the file in the run folder instead of a copy in the home folder.
        local = str((run_dir / path).absolute())
        artifact.add_file(local, name=path.as_posix(), policy="immutable")
    run.log_artifact(artifact, aliases=["best", f"seed-{result.seed}"])


def paths_of(run_dir: Path, kind: str) -> list[Path]:
    """Return the files of an artifact, relative to the run folder.

    Args:
        run_dir: The folder of a finished run.
        kind: ``model``: all that is needed to load the run from the artifact's folder, which are
            the selected weights, config, provenance and result. ``predictions``: those on test.

    Raises:
        RunError: If they are gone.

    Example:
        >>> run = mla.train("data=synthetic", "method=mla", "trainer.max_epochs=1", folder=tmp)
        >>> for path in paths_of(run.folder, "model")[:2]:
        ...     print(path)
        checkpoints/best-acc.ckpt
        checkpoints/best-acc.ckpt.sha256
        >>> paths_of(run.folder, "predictions")
        [PosixPath('predictions.npz')]
    """
    if kind == MODEL:
        weights = sorted((run_dir / files.CHECKPOINTS).glob("best-*"))
        if not any(path.suffix == ".ckpt" for path in weights):
            raise RunError(f"the selected weights in {run_dir / files.CHECKPOINTS} are gone")
        others = [run_dir / name for name in (*SEALED, files.RESULT)]
        return [path.relative_to(run_dir) for path in (*weights, *others) if path.is_file()]
    if not (run_dir / files.PREDICTIONS).is_file():
        raise RunError(f"it has no {files.PREDICTIONS}: the test split was not evaluated")
    return [Path(files.PREDICTIONS)]


def metadata_of(run_dir: Path) -> dict[str, Any]:
    """Return the metadata of the artifacts of a finished run.

    Args:
        run_dir: The run folder.

    Returns:
        Dotted key -> value, spelled as in the config and the summary of the W&B run: data, method,
        scores of the fused prediction, and provenance.

    Example:
        >>> run = mla.train("data=synthetic", "method=mla", "trainer.max_epochs=1", folder=tmp)
        >>> metadata = metadata_of(run.folder)
        >>> metadata["method"], metadata["provenance.identity"] == run.result.identity
        ('mla', True)
        >>> metadata["result.val.multi.accuracy"] == run.scores["val"]["multi"]["accuracy"]
        True
    """
    result = RunFiles(run_dir).result
    assert result is not None
    content = result.to_json()
    described = {key: content[key] for key in DESCRIBED if content.get(key) is not None}
    provenance = config_without_secrets({PROVENANCE: recorded_provenance(run_dir)})
    return described | dict(_fused_scores(result)) | provenance


def _fused_scores(result: Result) -> Iterator[tuple[str, float]]:
    for split, scores in (("val", result.val), ("test", result.test)):
        for metric, value in (scores or {}).get(MULTI, {}).items():
            if value is not None:
                yield f"result.{split}.{MULTI}.{metric}", value
