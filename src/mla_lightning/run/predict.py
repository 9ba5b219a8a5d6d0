"""Predictions of a finished run for any samples, with or without labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.batch import Batch, as_batch, check_labels, is_unlabelled
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import ArrayDataset
from mla_lightning.data.order import SequentialOrder
from mla_lightning.data.prepared import Prepared
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.evaluate import load_weights
from mla_lightning.run.finished import LoadedRun
from mla_lightning.run.prediction import Prediction
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.tasks import MULTILABEL

#: Name for all samples of a prepared store, of every split.
ALL = "all"
#: Begin of the name of a modality's weight in what is computed of a batch.
WEIGHT = "weight/"
#: Errors that encoders and conversions raise for inputs of another shape or type.
UNFIT_ERRORS = (ConfigError, IndexError, RuntimeError, TypeError, ValueError)
#: Appended to messages on wrong inputs.
ACCEPTED = (
    "Give a dict of modality -> array (N, ...) with one row per sample, or a loader or list of "
    "batches that are such dicts, or a data module."
)


def predict_samples(run: LoadedRun, batches: Iterable[Mapping[str, Any]]) -> Prediction:
    """Compute the predictions of a finished run for batches.

    Args:
        run: The run with its model.
        batches: Batches as loaders return them, or plain dicts of tensors or arrays by modality.

    Returns:
        The predictions; every modality's logits are computed with the weights selected for it.

    Raises:
        DataError: If there are no samples, or a batch lacks a modality.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> inputs = {"audio": torch.zeros(2, 16), "visual": torch.zeros(2, 16)}
        >>> predict_samples(load_run(run.folder), [inputs]).logits["multi"].shape
        torch.Size([2, 4])
    """
    module, selections = run.module, run.module.selections()
    current = {key: value.clone() for key, value in module.state_dict().items()}
    logits: dict[str, list[Tensor]] = {}
    weights: dict[str, list[Tensor]] = {}
    present: dict[str, list[Tensor]] = {name: [] for name in module.modalities}
    labels: list[Tensor] = []
    loaded = ""
    try:
        for inputs in _checked_tensors(batches, module.modalities):
            is_complete = module.parts.is_complete
            batch = as_batch(
                inputs, module.modalities, needs=(), is_complete=is_complete, task=run.task
            )
            if batch is not inputs:  # labels of a data set may be of other classes
                check_labels(batch["label"], module.parts.num_classes, lowest=-1, task=run.task)
            for metric, state in run.states.items():
                if metric != loaded:
                    load_weights(module, state, run.files.folder)
                    loaded = metric
                outputs, batch_weights = _forward(module, batch)
                names = [name for name, selection in selections.items() if selection == metric]
                for name in names:
                    logits.setdefault(name, []).append(outputs[name].float())
                if MULTI in names:
                    for name, weight in batch_weights.items():
                        weights.setdefault(name, []).append(weight)
            labels.append(batch["label"])
            for name, has in batch["present"].items():
                present[name].append(has)
    finally:
        module.load_state_dict(current)
    if not labels:
        raise DataError("There are no samples to predict")
    joined = {name: torch.cat(parts) for name, parts in logits.items()}
    has_modality = {name: torch.cat(parts) for name, parts in present.items()}
    if MULTI not in joined:
        present_MN = torch.stack([has_modality[m] for m in module.modalities])
        stacked = torch.stack([joined[m] for m in module.modalities])
        joined = {MULTI: module.combine(stacked, present_MN), **joined}
    label = torch.cat(labels)
    ids = [str(number) for number in range(len(label))]
    ordered = {MULTI: joined[MULTI], **{m: joined[m] for m in module.modalities}}
    joined_weights = {name: torch.cat(parts) for name, parts in weights.items()}
    return Prediction(
        ordered, joined_weights, has_modality, label, run.class_names, ids, task=run.task
    )


@torch.no_grad()
def _forward(module: MultimodalModule, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return logits and fusion weights of a batch by name, with the module's current weights."""
    try:
        converted = module.convert_inputs(batch, augment=False)
        computed = module.over_snapshots(lambda: logits_and_weights(module, converted))
    except UNFIT_ERRORS as error:
        raise _unfit_inputs(module, batch, error) from error
    logits = {name: z for name, z in computed.items() if not name.startswith(WEIGHT)}
    outputs = {name: module.task.in_target_unit(z) for name, z in logits.items()}
    weights = {m: w for m in module.modalities if (w := computed.get(f"{WEIGHT}{m}")) is not None}
    return outputs, weights


def logits_and_weights(module: MultimodalModule, batch: Batch) -> dict[str, Tensor]:
    """Return logits by name, and the weights of the modalities if the fusion has any."""
    logits = module.evaluate_batch(batch)
    unimodal = {name: logits[name] for name in module.modalities}
    if module.fusion.weighs_by_features:
        weights_MN = module.fusion.weights_of(module.features(batch), batch["present"])
    else:
        weights_MN = module.fusion.logit_weights(unimodal, batch["present"])
    if weights_MN is None:
        return logits
    names = (f"{WEIGHT}{name}" for name in module.modalities)
    return {**logits, **dict(zip(names, weights_MN, strict=True))}


def _checked_tensors(
    batches: Iterable[Mapping[str, Any]], modalities: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield batches with their lists and arrays as tensors, one at a time.

    Raises:
        DataError: If a batch is no dict, or an input is missing, not numeric or not finite.
    """
    num_rows = 0
    for batch in batches:
        if not isinstance(batch, Mapping):
            raise DataError(f"A batch is a {type(batch).__name__}, not a dict. {ACCEPTED}")
        if "inputs" in batch and not {"label", "index", "present"} <= batch.keys():
            batch = {**batch["inputs"], **{k: v for k, v in batch.items() if k != "inputs"}}
        names = (*modalities, "label", "index", "present", "hidden")
        complete = {k: _tensors(k, v) for k, v in batch.items() if k in (*names, "inputs")}
        inputs = complete.get("inputs", complete)
        if missing := [name for name in modalities if name not in inputs]:
            raise DataError(
                f"The batch has no {', '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, inputs)) or 'nothing that the run uses'}. {ACCEPTED}"
            )
        present = complete.get("present", {})
        for name in modalities:
            is_present = present.get(name) if isinstance(present, Mapping) else None
            _check_finite(name, inputs[name], is_present, num_rows)
        num_rows += len(inputs[modalities[0]])
        yield complete


def _tensors(name: str, values: Any) -> Any:
    """Convert an array, a list or a column of a table, or a mapping of them, to tensors.

    Numbers of double precision, which NumPy and Python use by default, become float32.
    """
    if isinstance(values, Mapping):
        return {key: _tensors(key, value) for key, value in values.items()}
    if isinstance(values, Tensor):
        return values.float() if values.dtype == torch.float64 else values
    array = _as_array(name, values)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{name!r} has the data type {array.dtype}, but must hold numbers. {ACCEPTED}"
        )
    native = array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable)
    return _tensors(name, torch.from_numpy(np.ascontiguousarray(native)))


def _as_array(name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype == object:  # a column of a table whose cells are arrays
            array = np.asarray(list(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} cannot be an array: {error}. {ACCEPTED}") from error
    if array.ndim == 0:
        raise DataError(f"{name!r} is {values!r}, not one row per sample. {ACCEPTED}")
    return array


def _check_finite(name: str, x: Tensor, is_present: Tensor | None, first_row: int) -> None:
    """Raise DataError at the first sample that has the modality with NaN or infinite values."""
    if not x.is_floating_point() or not len(x):
        return
    is_wrong = ~x.reshape(len(x), -1).isfinite().all(dim=1)
    if is_present is not None and len(is_present) == len(x):
        is_wrong &= is_present.bool()
    if is_wrong.any():
        row = first_row + int(is_wrong.nonzero()[0])
        raise DataError(
            f"{name!r} has NaN or infinite values, first in row {row}. Replace them, or mark the "
            "modality as absent there: present={modality: bool per row}."
        )


def _unfit_inputs(module: MultimodalModule, batch: Batch, error: Exception) -> Exception:
    """Return an error that names the modalities that their encoders cannot encode."""
    unfit = []
    for name in module.modalities:
        try:
            module.encode(name, module.convert_inputs(batch, augment=False))
        except UNFIT_ERRORS:
            x = batch["inputs"][name]
            unfit.append(f"{name!r} with samples of shape {tuple(x.shape[1:])} and {x.dtype}")
    if not unfit:
        return error
    return DataError(
        f"The run's encoders cannot take {' and '.join(unfit)}: {error}. Give the samples as the "
        "run's data set stores them."
    )


def batches_of(inputs: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Split a dict of tensors, arrays or lists into batches.

    Args:
        inputs: Modality (and ``label``, ``index``) -> tensor, array, list or column of a table
            (N, ...); ``present``: modality -> (N,) bool.
        batch_size: Number of samples of a batch.

    Raises:
        DataError: If lengths differ, or a list is not rectangular.

    Example:
        >>> inputs = {"audio": np.zeros((5, 16)), "text": np.zeros((5, 8))}
        >>> [batch["text"].shape for batch in batches_of(inputs, batch_size=2)]
        [(2, 8), (2, 8), (1, 8)]
    """
    inputs = {
        name: values if isinstance(values, Tensor | Mapping) else _as_array(name, values)
        for name, values in inputs.items()
    }
    lengths = {name: len(values) for name, values in inputs.items() if name != "present"}
    if len(set(lengths.values())) != 1:
        raise DataError(f"The inputs differ in length: {lengths}")
    for start in range(0, next(iter(lengths.values())), batch_size):
        rows = slice(start, start + batch_size)
        yield {
            name: {m: has[rows] for m, has in values.items()} if name == "present" else values[rows]
            for name, values in inputs.items()
        }


def predict_split(
    run: LoadedRun, data: MultimodalDataModule, split: str, batch_size: int
) -> Prediction:
    """Compute the predictions of a finished run for a split of a data set.

    Args:
        run: The run with its model.
        data: The data module, whose classes may be others or in another order.
        split: As :func:`batches_of_split` takes it.
        batch_size: Number of samples of a batch.

    Returns:
        The predictions, with the names of the samples, and labels as numbers of the run's classes.

    Raises:
        ConfigError: If the data set has no such split.
        DataError: If a sample has a class that the run does not predict.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = load_run(mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp).folder)
        >>> predict_split(run, run.data, "val", 32).ids[0]
        'val 0'
    """
    batches, names = batches_of_split(data, split, batch_size)
    prediction = predict_samples(run, batches)
    label = _labels_of_run(prediction.label, data, run)
    return replace(prediction, label=label, ids=names)


def _labels_of_run(label: Tensor, data: MultimodalDataModule, run: LoadedRun) -> Tensor:
    """Return labels of a data set as those of the run, whose classes may have another order."""
    if is_unlabelled(label) or (data.task == run.task and data.class_names == run.class_names):
        return label
    if data.task != run.task:
        raise DataError(
            f"{data.name} has labels of {data.task}, and the run is of {run.task}. To leave labels "
            "out, import the data with labels=none."
        )
    is_multilabel = run.task == MULTILABEL
    used = label.any(dim=0).nonzero()[:, 0] if is_multilabel else label[label >= 0].unique()
    names = [data.class_names[k] for k in used.tolist()]
    if unknown := [name for name in names if name not in run.class_names]:
        noun = "labels" if is_multilabel else "classes"
        raise DataError(
            f"{data.name} has samples of {', '.join(unknown)}, which the run does not predict. "
            f"Its {noun}: {', '.join(run.class_names)}. To leave labels out, import the data "
            "with labels=none."
        )
    if is_multilabel:
        columns = {name: label[:, place] for place, name in enumerate(data.class_names)}
        absent = torch.zeros(len(label))
        return torch.stack([columns.get(name, absent) for name in run.class_names], dim=1)
    number_of = {name: number for number, name in enumerate(run.class_names)}
    numbers = [number_of.get(name, -1) for name in data.class_names]
    return torch.tensor([numbers[k] if k >= 0 else -1 for k in label.tolist()])


def batches_of_split(
    data: MultimodalDataModule, split: str, batch_size: int
) -> tuple[Iterator[Batch], list[str]]:
    """Return the batches of a split and the names of its samples.

    Args:
        data: The data module.
        split: ``train``, ``val``, ``test``, or ``all`` for every sample of a prepared store.
        batch_size: Number of samples of a batch.

    Raises:
        ConfigError: If the data set has no such split.

    Example:
        >>> from mla_lightning.data.synthetic import Synthetic
        >>> batches, names = batches_of_split(Synthetic(batch_size=8, num_val=5), "val", 2)
        >>> [len(batch["label"]) for batch in batches], names[:2]
        ([2, 2, 1], ['val 0', 'val 1'])
    """
    if split == ALL:
        if not isinstance(data, Prepared):
            raise ConfigError(
                f"split=all is for prepared stores only; {data.name} has train, val and test"
            )
        dataset: ArrayDataset = data.everything()
        names = list(map(str, data.store.ids))
    else:
        loader = data.loader(split)
        dataset = loader.dataset  # type: ignore[assignment]
        names = [name.partition(":")[0] for name in data.names_of(split)]
    requests = SequentialOrder(len(dataset), batch_size)
    return (dataset[request] for request in requests), names
