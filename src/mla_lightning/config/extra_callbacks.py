"""Checks of the callbacks that a config adds: those that this package replaces, or without effect.

The classes are recognised by name and not imported, since Lightning takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mla_lightning.config.schedule import takes_steps
from mla_lightning.config.signatures import attribute_of
from mla_lightning.config.targets import TARGET

_EARLY_STOPPING = "EarlyStopping"
#: Class of Lightning -> what to write in its place.
INSTEAD = {
    "ModelCheckpoint": "a run writes its checkpoints itself; see checkpoint.every_n_batches and "
    "checkpoint.keep",
    "OnExceptionCheckpoint": "a run writes its checkpoints itself; see checkpoint.every_n_batches",
    "EMAWeightAveraging": "write trainer.ema=0.99",
    "WeightAveraging": "write trainer.ema=0.99",
    "StochasticWeightAveraging": "write trainer.ema=0.99, or trainer.snapshots=4",
    "GradientAccumulationScheduler": "write trainer.accumulate=4",
    "BatchSizeFinder": "it trains batches that the run does not count; set data.batch_size",
    "LearningRateFinder": "search the rate on validation with mla tune",
    "RichProgressBar": "write trainer.progress_bar=true or false",
    "TQDMProgressBar": "write trainer.progress_bar=true or false",
    "ModelSummary": "write callbacks=model_summary, which counts by modality",
    "RichModelSummary": "write callbacks=model_summary, which counts by modality",
    "Timer": "a sweep with a time limit resumes its jobs: launcher=slurm launcher.time=...",
}


def find_callback_problems(config: Mapping[str, Any]) -> list[str]:
    """Find callbacks that cannot be added, and early stopping that has no effect.

    Args:
        config: The resolved config.

    Returns:
        One message per problem.

    Example:
        >>> checkpoint = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}
        >>> find_callback_problems({"callbacks": {"mine": checkpoint}})
        ['callbacks.mine: ModelCheckpoint cannot be added: a run writes its ...']
    """
    return list(_problems(config))


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    for name, node in (config.get("callbacks") or {}).items():
        if not isinstance(node, Mapping) or TARGET not in node:
            continue
        package, _, cls = str(node[TARGET]).rpartition(".")
        key = f"callbacks.{name}"
        if package.startswith("lightning.") and cls in INSTEAD:
            yield f"{key}: {cls} cannot be added: {INSTEAD[cls]}"
        elif cls == _EARLY_STOPPING and (problem := _early_stopping_problem(config, node)):
            yield f"{key}: {problem}"


def _early_stopping_problem(config: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    trainer = config["trainer"]
    epochs, patience = trainer["max_epochs"], node.get("patience", 1)
    target = config["method"][TARGET]
    if not takes_steps(config) or attribute_of(target, "fits_all_at_once", False):
        name = target.rpartition(".")[2]
        return f"it has no effect on {name}, which fits all training samples at once. Leave it out."
    if config["protocol"] == "paper":
        return (
            "with protocol=paper the epoch is selected on the test split, and so would be the end "
            "of training. Leave it out, or write protocol=validation."
        )
    if trainer.get("snapshots") is not None:
        return "trainer.snapshots needs all epochs. Leave one of them out."
    if isinstance(epochs, int) and isinstance(patience, int) and patience >= epochs:
        return (
            f"patience={patience} has no effect in trainer.max_epochs={epochs}. Write a smaller "
            "one, or train longer."
        )
    return ""
