"""Finished runs: another evaluation of their weights, and use of their models."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint import RunCheckpoint
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.config.jobs import data_of_config
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.stored_inputs import input_differences
from mla_lightning.errors import ConfigError, DataError, NoRunError, RunError, near
from mla_lightning.module import MultimodalModule
from mla_lightning.paths import command
from mla_lightning.run.build import DataFacts, build_metrics, build_module
from mla_lightning.run.evaluate import load_weights, predict, score_predictions
from mla_lightning.run.place import data_of_run, read_in_place
from mla_lightning.run.trainer import build_trainer, silence_lightning
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.integrity import SETTINGS, check_run
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Scores
from mla_lightning.run_folder.tasks import REGRESSION


def finished_run(run_dir: Path) -> RunFiles:
    """Return the files of a finished run.

    Args:
        run_dir: The run folder.

    Raises:
        NoRunError: If the folder holds no run.
        RunError: If the run is not finished, or its config or result was changed since.

    Example:
        >>> finished_run(Path("nowhere"))
        Traceback (most recent call last):
        mla_lightning.errors.NoRunError: nowhere is no run folder: it has no config.yaml. ...
    """
    if not (run_dir / files.CONFIG).is_file():
        exported = (run_dir / "model.safetensors").is_file()
        remedy = f'Load it: mla.load_exported("{run_dir}")' if exported else "See mla report runs."
        raise NoRunError(f"{run_dir} is no run folder: it has no {files.CONFIG}. {remedy}")
    if not files.is_finished(run_dir):
        raise RunError(
            f"{run_dir} is not finished (state: {files.state_of(run_dir)}). "
            "Run `mla train` with its overrides again to finish it."
        )
    run = RunFiles(run_dir)
    try:
        check_run(run, SETTINGS)
    except RunError as error:
        raise RunError(f"{run_dir}: {error}") from error
    return run


def evaluate_run(
    run_dir: Path,
    split: str,
    eval_batch_size: int | None = None,
    *,
    path: Path | str | None = None,
) -> Scores:
    """Evaluate a finished run's selected weights on a split.

    Args:
        run_dir: The run folder.
        split: ``train``, ``val`` or ``test``.
        eval_batch_size: Samples per batch, None for the run's own; it does not change the scores.
        path: Folder of the run's prepared store if it was moved; None to find it.

    Returns:
        Reported modality -> metric -> value; None for a modality that no sample of the split has.

    Raises:
        RunError: If the folder holds no finished run.
        ConfigError: If the data set has no such split.
        DataError: If the data are not found, or are not those that the run was trained on.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> scores = evaluate_run(run.folder, "test")
        >>> scores["multi"]["accuracy"] == run.result.test["multi"]["accuracy"]
        True
    """
    config, data = data_of_run(finished_run(run_dir), path)
    if eval_batch_size is not None:
        config = with_data_options(config, eval_batch_size=eval_batch_size)
        data = data_of_config(config.tree)
    data.prepare_data()
    data.setup()
    if split not in data.splits:
        raise ConfigError(
            f"Unknown split {split!r}.{near(split, data.splits)} Known: {list(data.splits)}"
        )
    silence_lightning()
    torch.set_num_threads(config.trainer.threads)
    module = build_module(config, data)
    checkpoint = selected_checkpoint(run_dir, module)
    trainer = build_trainer(config, run_dir, checkpoint, [])
    predictions = predict(trainer, module, data.loader(split), checkpoint)
    return score_predictions(predictions, build_metrics(config))


def selected_checkpoint(run_dir: Path, module: MultimodalModule) -> RunCheckpoint:
    """Return a callback that lists the weights that were selected for each modality of a run."""
    checkpoint = RunCheckpoint(run_dir / files.CHECKPOINTS)
    for metric in module.selections().values():
        epoch = read_checkpoint(checkpoint.best_path(metric))["epoch"]
        checkpoint.best[metric] = (math.nan, epoch)
    return checkpoint


def with_data_options(config: RunConfig, **options: Any) -> RunConfig:
    """Return a copy of a config in which some options of the data are replaced.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> with_data_options(job.config, num_val=7).data["num_val"]
        7
    """
    return RunConfig.from_tree({**config.tree, "data": {**config.data, **options}})


@dataclass(frozen=True)
class LoadedRun:
    """A finished run with its model.

    Attributes:
        files: The run's files.
        data: The run's data module or another one with the same modalities, before ``setup``.
        class_names: The classes or labels that it predicts; empty for regression.
        module: The module in evaluation mode, with the weights selected for the fused logits. If
            the method selects an epoch for each modality, each modality has the weights of its
            epoch, but the snapshots of the latest; predictions load each modality's own.
        states: Metric -> the weights that were selected by it.
    """

    files: RunFiles
    data: MultimodalDataModule
    class_names: tuple[str, ...]
    module: MultimodalModule
    states: Mapping[str, Mapping[str, Tensor]]

    @property
    def task(self) -> str:
        """The task of the run."""
        return self.module.task.name


def load_run(run_dir: Path, data: Mapping[str, Any] | None = None, **options: Any) -> LoadedRun:
    """Load the model of a finished run.

    Args:
        run_dir: The run folder.
        data: The config node of another data set to use the model on; None for the run's own.
        **options: Options of the data that replace the run's, such as ``path``.

    Returns:
        The run with its model, on the CPU.

    Raises:
        RunError: If the folder holds no finished run, or its weights are damaged.
        DataError: If the data are missing, since the conversion of inputs for the encoders needs
            them, or are not those that the run was trained on.
        ConfigError: If the data lack a modality of the run.

    Example:
        >>> folder = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp).folder
        >>> run = load_run(folder, num_test=6)
        >>> run.module.training, run.class_names, len(run.data.loader("test").dataset)
        (False, ('class 0', 'class 1', 'class 2', 'class 3'), 6)
    """
    run = finished_run(run_dir)
    result, data_record = run.result, run.provenance.get("data") or {}
    assert result is not None
    if data is None:
        path = options.pop("path", None)
        config, _ = data_of_run(run, path, options)
    else:
        node = {**read_in_place(data), **options}
        node.pop("held_out", None)  # nothing is trained on other data
        config = RunConfig.from_tree({**run.config.tree, "data": node})
    config = RunConfig.from_tree({**config.tree, "modalities": list(result.modalities)})
    module_data = data_of_config(config.tree)
    check_inputs(run, module_data)
    counts = data_record.get("class_counts") or data_record.get("label_counts") or {}
    names = () if result.task == REGRESSION else module_data.class_names
    class_names = tuple(counts.get("train") or names)
    num_outputs = 1 if result.task == REGRESSION else len(class_names)
    facts = DataFacts(num_outputs, result.num_train, was_complete(run), result.task)
    module = build_module(config, module_data, facts=facts)
    checkpoint = RunCheckpoint(run_dir / files.CHECKPOINTS)
    contents = {
        metric: read_checkpoint(checkpoint.best_path(metric))
        for metric in dict.fromkeys(module.selections().values())
    }
    latest_last = sorted(contents, key=lambda metric: contents[metric]["epoch"])
    states = {metric: contents[metric]["state_dict"] for metric in latest_last}
    return with_weights(run, module_data, class_names, module, states)


def was_complete(run: RunFiles) -> bool:
    """Return whether every sample that a run was trained on had every modality."""
    record = run.provenance.get("data") or {}
    return bool(record.get("is_complete", not run.config.missing))


def with_weights(
    run: RunFiles,
    data: MultimodalDataModule,
    class_names: tuple[str, ...],
    module: MultimodalModule,
    states: Mapping[str, Mapping[str, Tensor]],
) -> LoadedRun:
    """Return a run whose module has the selected weights; see :class:`LoadedRun`.

    Args:
        run: The files of the run.
        data: Its data module.
        class_names: The classes or labels that it predicts.
        module: Its module, whose weights are replaced.
        states: Metric -> the weights that were selected by it, those of the latest epoch last.

    Raises:
        RunError: If the weights belong to another model.
    """
    state = _selected_state(module, states)
    module.take_scales(state)  # those of the training split, also on other data
    load_weights(module, state, run.folder)
    module.eval()
    return LoadedRun(run, data, class_names, module, states)


def check_inputs(run: RunFiles, data: MultimodalDataModule) -> None:
    """Check that the inputs of a prepared store were made like those that a run was trained on.

    A model would take others without an error, such as the code of another category.

    Args:
        run: The files of the run.
        data: The data to use its model on; nothing is compared unless they are a prepared store.

    Raises:
        DataError: If categories, sizes, lengths, tokens or other options differ, with the command
            that imports the data like those of the run.
    """
    if not isinstance(data, Prepared):
        return
    before = (run.provenance.get("data") or {}).get("inputs")
    if before is None:  # a run of an earlier version, whose own data may be gone
        with contextlib.suppress(ConfigError, DataError):
            own = data_of_run(run)[1]
            before = own.describe_inputs() if isinstance(own, Prepared) else None
    if differences := input_differences(before or {}, data.describe_inputs()):
        path = run.config.data.get("path")
        like = f"like={path if isinstance(path, str) else 'DIR'}"
        again = command("mla", "data", "import", "FILE", "target=DIR", like)
        raise DataError(
            f"{data.store.folder} holds other inputs than {run.folder} was trained on, so its "
            f"predictions would be wrong. {'. '.join(differences)}. Import the samples like those "
            f"of the run: {again}"
        )


def _selected_state(
    module: MultimodalModule, states: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the weights selected for the fused logits, or for each modality if there are none."""
    selections = module.selections()
    if MULTI in selections:
        return dict(states[selections[MULTI]])
    state = dict([*states.values()][-1])  # the latest, of what belongs to no modality
    for modality, metric in selections.items():
        state |= {key: v for key, v in states[metric].items() if modality in key.split(".")}
    return state
