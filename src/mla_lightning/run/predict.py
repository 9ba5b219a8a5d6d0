"""Predictions of a finished run for any samples, with or without labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning import run_folder as files
from mla_lightning.batch import Batch, as_batch
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import ArrayDataset, SequentialOrder
from mla_lightning.data.prepared import Prepared
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.functional import fuse_logits, mean_weights
from mla_lightning.run.evaluate import load_weights
from mla_lightning.run.finished import LoadedRun
from mla_lightning.run.record import write_arrays
from mla_lightning.run_folder.columns import MULTI

#: Stands for all samples of a store, whatever their split.
ALL = "all"


@dataclass(frozen=True)
class Prediction:
    """What a model computes of N samples, on the CPU.

    Attributes:
        logits: ``multi`` and each modality -> logits (N, C).
        weights: Modality -> its weight in the fused logits (N,); empty for fusions that do not
            weight logits.
        present: Modality -> (N,) bool; logits of an absent modality mean nothing.
        label: Labels (N,), -1 where there is none.
        class_names: The C classes.
        ids: Names of the samples.

    Example:
        >>> prediction = Prediction(
        ...     {"multi": torch.tensor([[2.0, 0.0]])}, {}, {}, torch.tensor([-1]), ("cat", "dog"),
        ...     ["a"])
        >>> prediction.classes
        ['cat']
        >>> prediction.probabilities["multi"]
        tensor([[0.8808, 0.1192]])
    """

    logits: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    label: Tensor
    class_names: tuple[str, ...]
    ids: Sequence[str]

    @property
    def probabilities(self) -> dict[str, Tensor]:
        """``multi`` and each modality -> probabilities (N, C)."""
        return {name: z.softmax(dim=1) for name, z in self.logits.items()}

    @property
    def classes(self) -> list[str]:
        """The predicted classes of the fused logits."""
        return [self.class_names[c] for c in self.logits[MULTI].argmax(dim=1).tolist()]

    def write(self, path: Path) -> None:
        """Write the predictions.

        Args:
            path: A ``.csv`` file with a row per sample (id, label where there is one, predicted
                class, probability of every class, predicted class and weight by modality), or an
                ``.npz`` file with ``logits_<modality>``, ``weight_<modality>``, ``label``, ``id``
                and ``class_names``.

        Raises:
            ConfigError: If it has another suffix.
        """
        if path.suffix == ".csv":
            files.write_text(path, self._csv())
        elif path.suffix == ".npz":
            arrays = {f"logits_{name}": z.numpy() for name, z in self.logits.items()}
            arrays |= {f"weight_{name}": w.numpy() for name, w in self.weights.items()}
            arrays |= {f"present_{name}": has.numpy() for name, has in self.present.items()}
            arrays |= {"label": self.label.numpy(), "id": np.array(self.ids)}
            write_arrays(path, arrays | {"class_names": np.array(self.class_names)})
        else:
            raise ConfigError(f"output={path}: its name must end with .csv or .npz")

    def _csv(self) -> str:
        text = io.StringIO()
        modalities = [name for name in self.logits if name != MULTI]
        is_labelled = bool((self.label >= 0).any())
        columns = ["id", *(["label"] if is_labelled else []), "prediction"]
        columns += [f"p_{name}" for name in self.class_names]
        columns += [f"prediction_{name}" for name in modalities]
        columns += [f"weight_{name}" for name in self.weights]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        probabilities = self.probabilities[MULTI].tolist()
        by_modality = {name: self.logits[name].argmax(dim=1).tolist() for name in modalities}
        for row, sample in enumerate(self.ids):
            label = int(self.label[row])
            cells: list[Any] = [sample]
            cells += [self.class_names[label] if label >= 0 else ""] if is_labelled else []
            cells += [self.classes_at(row), *(f"{p:.6f}" for p in probabilities[row])]
            for name in modalities:
                has = bool(self.present[name][row])
                cells.append(self.class_names[by_modality[name][row]] if has else "")
            cells += [f"{float(weight[row]):.6f}" for weight in self.weights.values()]
            writer.writerow(cells)
        return text.getvalue()

    def classes_at(self, row: int) -> str:
        """Return the predicted class of one sample."""
        return self.class_names[int(self.logits[MULTI][row].argmax())]


def predict_samples(run: LoadedRun, batches: Iterable[Mapping[str, Any]]) -> Prediction:
    """Compute the predictions of a run for batches.

    Args:
        run: The run with its model.
        batches: Batches as loaders give them, or plain dicts of tensors or arrays by modality.

    Returns:
        The predictions, every modality's logits with the weights selected for it.

    Raises:
        DataError: If there is no sample, or a batch lacks a modality.
    """
    module = run.module
    tensors = [_tensors(batch) for batch in batches]
    if not tensors:
        raise DataError("There is no sample to predict")
    selections = module.selections()
    current = {key: value.clone() for key, value in module.state_dict().items()}
    logits: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    whole: list[Batch] = []
    for metric, state in run.states.items():
        load_weights(module, state, run.files.folder)
        outputs, gathered, whole = _forward(run, tensors)
        logits |= {name: outputs[name] for name, by in selections.items() if by == metric}
        weights = gathered if MULTI in logits else {}
    module.load_state_dict(current)
    present = {m: torch.cat([batch["present"][m] for batch in whole]) for m in module.modalities}
    if MULTI not in logits:
        has = torch.stack([present[m] for m in module.modalities])
        weights_MN = mean_weights(has)
        logits = {MULTI: fuse_logits(weights_MN, torch.stack([*logits.values()])), **logits}
    label = torch.cat([batch["label"] for batch in whole])
    names = [str(number) for number in range(len(label))]
    ordered = {MULTI: logits[MULTI], **{m: logits[m] for m in module.modalities}}
    return Prediction(ordered, weights, present, label, run.class_names, names)


@torch.no_grad()
def _forward(
    run: LoadedRun, tensors: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Batch]]:
    module = run.module
    outputs: list[dict[str, Tensor]] = []
    weights: list[Tensor] = []
    whole = []
    for given in tensors:
        batch = as_batch(given, module.modalities, needs=())
        whole.append(batch)
        logits = module.evaluate_batch(module.convert_inputs(batch, augment=False))
        outputs.append(logits)
        own = {name: logits[name] for name in module.modalities}
        of_batch = module.fusion.logit_weights(own, batch["present"])
        if of_batch is not None:
            weights.append(of_batch)
    joined = {name: torch.cat([one[name] for one in outputs]).float() for name in outputs[0]}
    if not weights:
        return joined, {}, whole
    by_modality = torch.cat(weights, dim=1)
    return joined, dict(zip(module.modalities, by_modality, strict=True)), whole


def _tensors(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _tensors(value)
        if isinstance(value, Mapping)
        else torch.from_numpy(value)
        if isinstance(value, np.ndarray)
        else value
        for key, value in batch.items()
    }


def batches_of(inputs: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Cut a dict of tensors or arrays into batches.

    Args:
        inputs: Modality (and ``label``, ``index``) -> (N, ...); ``present``: modality -> (N,) bool.
        batch_size: Samples of a batch.

    Raises:
        DataError: If lengths differ.
    """
    lengths = {name: len(values) for name, values in inputs.items() if name != "present"}
    if len(set(lengths.values())) != 1:
        raise DataError(f"The inputs differ in length: {lengths}")
    for start in range(0, next(iter(lengths.values())), batch_size):
        rows = slice(start, start + batch_size)
        yield {
            name: {m: has[rows] for m, has in values.items()} if name == "present" else values[rows]
            for name, values in inputs.items()
        }


def samples_of(
    data: MultimodalDataModule, split: str, batch_size: int
) -> tuple[Iterator[Batch], list[str]]:
    """Return the batches of a data set, and the names of its samples.

    Args:
        data: The data module.
        split: ``train``, ``val``, ``test``, or ``all`` for every sample of a prepared store.
        batch_size: Samples of a batch.

    Raises:
        ConfigError: If there is no such split.
    """
    if split == ALL:
        if not isinstance(data, Prepared):
            raise ConfigError(f"split=all is for prepared stores; {data.name} has train, val, test")
        dataset: ArrayDataset = data.everything()
        names = list(map(str, data.store.ids))
    else:
        loader = data.loader(split)
        dataset = loader.dataset  # type: ignore[assignment]
        names = [name.partition(":")[0] for name in data.sample_names(split, range(len(dataset)))]
    requests = SequentialOrder(len(dataset), batch_size)
    return (dataset[request] for request in requests), names
