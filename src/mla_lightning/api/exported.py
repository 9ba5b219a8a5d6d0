"""Exported models: their folder is all that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.api.process import (
    check_torch_modes,
    evaluation_mode,
    folder_errors_reported,
    process_settings_restored,
)
from mla_lightning.config.targets import targets_allowed
from mla_lightning.errors import DataError

if TYPE_CHECKING:
    from mla_lightning.module import MultimodalModule
    from mla_lightning.run.finished import LoadedRun
    from mla_lightning.run.prediction import Prediction


class ExportedModel:
    """A model that ``mla export RUN output=FOLDER format=safetensors`` wrote.

    Attributes:
        folder: Its folder.
        modalities: Its modalities, in order.
        class_names: The classes or labels that it predicts; empty for regression.
        task: ``classification``, ``regression`` or ``multilabel``.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> model = mla.load_exported(run.export(tmp / "model", format="safetensors").path)
        >>> model
        <ExportedModel model: audio, visual -> 4 classes>
    """

    def __init__(self, folder: Path, loaded: LoadedRun) -> None:
        """Take a model that is loaded; see :func:`load_exported`.

        Args:
            folder: Its folder.
            loaded: The model.
        """
        self.folder, self._loaded = folder, loaded
        self.modalities, self.class_names = loaded.module.modalities, loaded.class_names
        self.task = loaded.task

    def __repr__(self) -> str:
        """Return the name, the modalities and what is predicted."""
        nouns = {"classification": "classes", "multilabel": "labels"}
        noun = nouns.get(self.task)
        predicts = f"{len(self.class_names)} {noun}" if noun else "a number"
        return f"<ExportedModel {self.folder.name}: {', '.join(self.modalities)} -> {predicts}>"

    @property
    def module(self) -> MultimodalModule:
        """The module on the CPU, in evaluation mode."""
        return self._loaded.module

    def predict(
        self,
        inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        batch_size: int = 256,
    ) -> Prediction:
        """Compute logits, probabilities and fusion weights.

        Args:
            inputs: Modality -> tensor, array, list or column of a table (N, ...), one row per
                sample, as the data set of the training stored them; ``present``: modality -> (N,)
                bool; or a loader or list of such batches.
            batch_size: Samples per batch.

        Returns:
            The prediction.

        Raises:
            DataError: If a modality is missing, has another shape, or is not finite.

        Example:
            >>> import torch
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> model = mla.load_exported(run.export(tmp / "model", format="safetensors").path)
            >>> new = {"audio": torch.randn(2, 16), "visual": torch.randn(2, 16)}
            >>> torch.equal(model.predict(new).logits["multi"], run.predict(new).logits["multi"])
            True
        """
        from mla_lightning.run.predict import ACCEPTED, batches_of, predict_samples

        if batch_size < 1:
            raise DataError(f"batch_size={batch_size} must be at least 1")
        if not isinstance(inputs, Iterable):
            raise DataError(f"A {type(inputs).__name__} cannot be predicted. {ACCEPTED}")
        batches = batches_of(inputs, batch_size) if isinstance(inputs, Mapping) else inputs
        with process_settings_restored(), evaluation_mode(self.module):
            return predict_samples(self._loaded, batches)


def load_exported(folder: Path | str, *, allow: Sequence[str] = ()) -> ExportedModel:
    """Load a model that ``mla export RUN output=FOLDER format=safetensors`` wrote.

    The run folder and the data are not needed, and no file of the folder is executed.

    Args:
        folder: The folder.
        allow: Your own packages whose classes it names.

    Returns:
        The model.

    Raises:
        NoRunError: If it is no such folder.
        RunError: If a file of it was changed or is damaged.
        ConfigError: If it names classes that are not allowed, or a later version wrote it.

    Example:
        >>> mla.load_exported("nowhere")
        Traceback (most recent call last):
        mla_lightning.errors.NoRunError: nowhere is no exported model: it has no config.json. ...
    """
    from mla_lightning.run.model_folder import read_model_folder

    check_torch_modes(trains=False)
    path = Path(folder).absolute()
    with folder_errors_reported(), process_settings_restored(), targets_allowed(allow):
        return ExportedModel(path, read_model_folder(Path(folder)))
