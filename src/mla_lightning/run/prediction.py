"""Predictions for samples, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mla_lightning import run_folder as files
from mla_lightning.batch import is_unlabelled
from mla_lightning.errors import ConfigError
from mla_lightning.run.record import write_arrays
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.csv_cells import csv_text
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

#: Between the labels of a sample in a cell.
SEPARATOR = ";"


@dataclass(frozen=True)
class Prediction:
    """Predictions for N samples, on the CPU.

    Attributes:
        logits: ``multi`` and each modality -> logits (N, C); of regression the predicted number in
            the target's own unit (N, 1).
        weights: Modality -> its weight in the fused logits (N,); empty for fusions that do not
            weight logits.
        present: Modality -> (N,) bool; logits of an absent modality have no meaning.
        label: Labels (N,), -1 for samples without a label; targets (N,) of regression; (N, L) of
            several labels.
        class_names: The C classes or L labels; empty for regression.
        ids: Names of the samples.
        task: The task of the run.

    Example:
        >>> import torch
        >>> prediction = Prediction(
        ...     {"multi": torch.tensor([[2.0, 0.0]])}, {}, {}, torch.tensor([-1]), ("cat", "dog"),
        ...     ["a"])
        >>> prediction.classes
        ['cat']
        >>> prediction.probabilities["multi"]
        tensor([[0.8808, 0.1192]])
        >>> mine = {"multi": torch.tensor([[1.25]])}
        >>> Prediction(mine, {}, {}, torch.tensor([1.0]), (), ["a"], task="regression").values
        tensor([1.2500])
    """

    logits: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    label: Tensor
    class_names: tuple[str, ...]
    ids: Sequence[str]
    task: str = CLASSIFICATION

    @property
    def probabilities(self) -> dict[str, Tensor]:
        """``multi`` and each modality -> probabilities (N, C), of several labels one of each.

        Raises:
            ConfigError: If the task is regression.
        """
        if self.task == REGRESSION:
            raise ConfigError("A number has no probabilities; its predictions are in values.")
        is_multilabel = self.task == MULTILABEL
        return {
            n: z.sigmoid() if is_multilabel else z.softmax(dim=1) for n, z in self.logits.items()
        }

    @property
    def classes(self) -> list[str]:
        """The class predicted by the fused logits, for each sample; labels are joined by ``;``.

        Raises:
            ConfigError: If the task is regression.
        """
        if self.task == REGRESSION:
            raise ConfigError("Regression has no classes; its predictions are in values.")
        return self._predicted(MULTI)

    @property
    def values(self) -> Tensor:
        """The number predicted by the fused model for each sample (N,), in the target's own unit.

        Raises:
            ConfigError: If the task is not regression.
        """
        if self.task != REGRESSION:
            raise ConfigError(f"The predictions of {self.task} are in classes and probabilities.")
        return self.logits[MULTI][:, 0]

    def write(self, path: Path | str) -> None:
        """Write the predictions to a file.

        Args:
            path: The file, whose folder is created if it does not exist: ``.csv`` with a row per
                sample (id, label if there are labels, prediction, probability of every class or
                label, prediction and weight by modality), or ``.npz`` with ``logits_<modality>``,
                ``weight_<modality>``, ``present_<modality>``, ``label``, ``id`` and
                ``class_names``. The labels of a sample are joined by ``;``.

        Raises:
            ConfigError: If the name has another suffix.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".npz"):
            raise ConfigError(f"output={path}: its name must end with .csv or .npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            files.write_text(path, self._csv())
            return
        arrays = {f"logits_{name}": z.numpy() for name, z in self.logits.items()}
        arrays |= {f"weight_{name}": w.numpy() for name, w in self.weights.items()}
        arrays |= {f"present_{name}": has.numpy() for name, has in self.present.items()}
        arrays |= {"label": self.label.numpy(), "id": np.array(self.ids)}
        write_arrays(path, arrays | {"class_names": np.array(self.class_names)})

    def _csv(self) -> str:
        modalities = [name for name in self.logits if name != MULTI]
        labels = [] if is_unlabelled(self.label) else self._texts(self.label)
        columns = ["id", *(["label"] if labels else []), "prediction"]
        columns += [f"p_{name}" for name in self.class_names]
        columns += [f"prediction_{name}" for name in modalities]
        columns += [f"weight_{name}" for name in self.weights]
        rows: list[list[Any]] = []
        by_modality = {name: self._predicted(name) for name in self.logits}
        has_probabilities = self.task != REGRESSION
        probabilities = self.probabilities[MULTI].tolist() if has_probabilities else []
        for row, sample_id in enumerate(self.ids):
            cells: list[Any] = [sample_id, *([labels[row]] if labels else [])]
            cells.append(by_modality[MULTI][row])
            cells += [f"{p:.6f}" for p in probabilities[row]] if has_probabilities else []
            for name in modalities:
                is_present = bool(self.present[name][row])
                cells.append(by_modality[name][row] if is_present else "")
            cells += [f"{float(weight[row]):.6f}" for weight in self.weights.values()]
            rows.append(cells)
        return csv_text(columns, rows)

    def _predicted(self, name: str) -> list[str]:
        """Return the predictions of one modality, or of all, as texts."""
        z = self.logits[name]
        if self.task == CLASSIFICATION:
            return self._texts(z.argmax(dim=1))
        return self._texts(z > 0 if self.task == MULTILABEL else z[:, 0])

    def _texts(self, values: Tensor) -> list[str]:
        """Return labels or predictions of all samples as texts; empty where there is none."""
        if self.task == REGRESSION:
            return ["" if value != value else f"{value:.7g}" for value in values.tolist()]
        if self.task == CLASSIFICATION:
            return [self.class_names[k] if k >= 0 else "" for k in values.tolist()]
        return [
            SEPARATOR.join(name for name, has in zip(self.class_names, row, strict=True) if has > 0)
            for row in values.tolist()
        ]
