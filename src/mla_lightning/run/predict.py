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

#: Name for all samples of a prepared store, of every split.
ALL = "all"


@dataclass(frozen=True)
class Prediction:
    """Predictions for N samples, on the CPU.

    Attributes:
        logits: ``multi`` and each modality -> logits (N, C).
        weights: Modality -> its weight in the fused logits (N,); empty for fusions that do not
            weight logits.
        present: Modality -> (N,) bool; logits of an absent modality have no meaning.
        label: Labels (N,), -1 for samples without a label.
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
        """The class predicted by the fused logits, for each sample."""
        return [self.class_names[c] for c in self.logits[MULTI].argmax(dim=1).tolist()]

    def write(self, path: Path) -> None:
        """Write the predictions to a file.

        Args:
            path: A ``.csv`` file with a row per sample (id, label if there are labels, predicted
                class, probability of every class, predicted class and weight by modality), or an
                ``.npz`` file with ``logits_<modality>``, ``weight_<modality>``,
                ``present_<modality>``, ``label``, ``id`` and ``class_names``.

        Raises:
            ConfigError: If the name has another suffix.
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
        predicted, probabilities = self.classes, self.probabilities[MULTI].tolist()
        by_modality = {name: self.logits[name].argmax(dim=1).tolist() for name in modalities}
        for row, sample_id in enumerate(self.ids):
            label = int(self.label[row])
            cells: list[Any] = [sample_id]
            cells += [self.class_names[label] if label >= 0 else ""] if is_labelled else []
            cells += [predicted[row], *(f"{p:.6f}" for p in probabilities[row])]
            for name in modalities:
                is_present = bool(self.present[name][row])
                cells.append(self.class_names[by_modality[name][row]] if is_present else "")
            cells += [f"{float(weight[row]):.6f}" for weight in self.weights.values()]
            writer.writerow(cells)
        return text.getvalue()


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
    module = run.module
    tensors = [_tensors(batch) for batch in batches]
    if not tensors:
        raise DataError("There are no samples to predict")
    selections = module.selections()
    current = {key: value.clone() for key, value in module.state_dict().items()}
    logits: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    complete: list[Batch] = []
    for metric, state in run.states.items():
        load_weights(module, state, run.files.folder)
        outputs, fusion_weights, complete = _forward(run, tensors)
        names = [name for name, selection in selections.items() if selection == metric]
        logits |= {name: outputs[name] for name in names}
        weights = fusion_weights if MULTI in logits else {}
    module.load_state_dict(current)
    present = {m: torch.cat([b["present"][m] for b in complete]) for m in module.modalities}
    if MULTI not in logits:
        weights_MN = mean_weights(torch.stack([present[m] for m in module.modalities]))
        logits = {MULTI: fuse_logits(weights_MN, torch.stack([*logits.values()])), **logits}
    label = torch.cat([batch["label"] for batch in complete])
    ids = [str(number) for number in range(len(label))]
    ordered = {MULTI: logits[MULTI], **{m: logits[m] for m in module.modalities}}
    return Prediction(ordered, weights, present, label, run.class_names, ids)


@torch.no_grad()
def _forward(
    run: LoadedRun, tensors: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Batch]]:
    """Return logits, fusion weights and completed batches, with the module's current weights."""
    module = run.module
    outputs: list[dict[str, Tensor]] = []
    weights: list[Tensor] = []
    complete = []
    for inputs in tensors:
        batch = as_batch(inputs, module.modalities, needs=())
        complete.append(batch)
        logits = module.evaluate_batch(module.convert_inputs(batch, augment=False))
        outputs.append(logits)
        unimodal = {name: logits[name] for name in module.modalities}
        batch_weights = module.fusion.logit_weights(unimodal, batch["present"])
        if batch_weights is not None:
            weights.append(batch_weights)
    joined = {name: torch.cat([logits[name] for logits in outputs]).float() for name in outputs[0]}
    if not weights:
        return joined, {}, complete
    weights_MN = torch.cat(weights, dim=1)
    return joined, dict(zip(module.modalities, weights_MN, strict=True)), complete


def _tensors(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch with its NumPy arrays as tensors."""
    return {
        key: _tensors(value)
        if isinstance(value, Mapping)
        else torch.from_numpy(value)
        if isinstance(value, np.ndarray)
        else value
        for key, value in batch.items()
    }


def batches_of(inputs: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Split a dict of tensors or arrays into batches.

    Args:
        inputs: Modality (and ``label``, ``index``) -> (N, ...); ``present``: modality -> (N,) bool.
        batch_size: Number of samples of a batch.

    Raises:
        DataError: If lengths differ.

    Example:
        >>> inputs = {"audio": np.zeros((5, 16)), "text": np.zeros((5, 8))}
        >>> [batch["text"].shape for batch in batches_of(inputs, batch_size=2)]
        [(2, 8), (2, 8), (1, 8)]
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
        names = [name.partition(":")[0] for name in data.sample_names(split, range(len(dataset)))]
    requests = SequentialOrder(len(dataset), batch_size)
    return (dataset[request] for request in requests), names
