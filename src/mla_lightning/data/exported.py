"""The data that an exported model was trained on, as far as its description tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.errors import DataError
from mla_lightning.inputs.base import Input


class ExportedData(MultimodalDataModule):
    """What an exported model knows of its data: names, task and inputs, but no sample.

    Example:
        >>> data = ExportedData(
        ...     name="coins", all_modalities=["image"], class_names=["cent", "euro"],
        ...     task="classification", batch_size=32)
        >>> data.modalities, data.num_classes
        (('image',), 2)
        >>> data.setup()
        Traceback (most recent call last):
        mla_lightning.errors.DataError: An exported model has no data: coins is not in its folder...
    """

    def __init__(
        self,
        *,
        name: str,
        all_modalities: Sequence[str],
        class_names: Sequence[str],
        task: str,
        inputs: Mapping[str, Input] | None = None,
        **options: Any,
    ) -> None:
        """Take the description.

        Args:
            name: Name of the data set.
            all_modalities: The modalities of the model.
            class_names: The classes or labels; empty for regression.
            task: The task.
            inputs: Modality -> conversion of its rows to the encoder's input.
            **options: Options of every data set: ``batch_size`` and others.
        """
        self.name, self.task = name, task
        self.all_modalities, self.class_names = tuple(all_modalities), tuple(class_names)
        self._inputs = dict(inputs or {})
        super().__init__(**options)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Modality -> conversion of its rows to its encoder's input."""
        return self._inputs

    def load_splits(self) -> Mapping[str, Split]:
        """Raise DataError: there are no samples."""
        raise DataError(
            f"An exported model has no data: {self.name} is not in its folder. Give the samples: "
            "model.predict({modality: rows})"
        )
