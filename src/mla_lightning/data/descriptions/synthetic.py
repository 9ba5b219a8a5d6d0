"""Description of random features with learnable classes."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Sequence
from typing import Any

from mla_lightning.data.descriptions.base import DataDescription
from mla_lightning.data.splits import SPLITS
from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY

#: Largest data that are drawn, in bytes.
MAX_BYTES = 64 * 10**9


class SyntheticDescription(DataDescription):
    """Sizes, names and difficulty of :class:`~mla_lightning.data.synthetic.Synthetic`.

    Example:
        >>> data = SyntheticDescription(batch_size=8, names=["audio", "image"], num_classes=3)
        >>> data.signal, data.num_train, data.num_classes
        ({'audio': 3.0, 'image': 1.5}, 320, 3)
    """

    name = "synthetic"
    split_name = "drawn"

    def __init__(
        self,
        *,
        names: Sequence[str] | None = None,
        num_modalities: int | None = None,
        num_classes: int = 4,
        num_train: int = 320,
        num_val: int = 80,
        num_test: int = 160,
        num_features: int = 16,
        signal: float | Sequence[float] | None = None,
        data_seed: int = 0,
        task: str | None = None,
        **options: Any,
    ) -> None:
        """Check the options; nothing is drawn yet.

        Args:
            names: Names of the modalities; None for ``a``, ``b`` and so on.
            num_modalities: Number of modalities if ``names`` is None; None for 2.
            num_classes: Number of classes C or labels L, at least 2; unused by regression.
            num_train: Number of training samples, at least C.
            num_val: Number of validation samples.
            num_test: Number of test samples.
            num_features: Number of features D per modality.
            signal: Distance of the class means from the origin, in standard deviations of the
                noise: one number per modality or one for all; None for 3.0 in the first modality
                and 1.5 in the others.
            data_seed: Seed of the data. It is not the run's seed: runs with different seeds are
                compared on the same data.
            task: ``regression`` or ``multilabel``; None for ``classification``.
            **options: Options of every data set: ``batch_size`` and others.

        Raises:
            ConfigError: If options are out of range or contradict each other.
        """
        self.all_modalities = _names(names, num_modalities)
        sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
        check_number("data.num_classes", num_classes, 2, 10**4)
        check_number("data.num_features", num_features, 1, 10**6)
        for option, value in sizes.items():
            least = num_classes if option == "num_train" else 1
            check_number(f"data.{option}", value, least, 10**8)
        num_bytes = 4 * sum(sizes.values()) * num_features * len(self.all_modalities)
        if num_bytes > MAX_BYTES:
            raise ConfigError(
                f"These sizes need {num_bytes / 1e9:.0f} GB of memory; at most "
                f"{MAX_BYTES / 1e9:.0f} GB are drawn. Lower data.num_train or data.num_features."
            )
        self.task = CLASSIFICATION if task is None else task
        if self.task not in PRIMARY:
            hint = f"{near(self.task, PRIMARY)} Known: {', '.join(PRIMARY)}."
            raise ConfigError(f"data.task={task} is unknown.{hint}")
        noun = {CLASSIFICATION: "class", MULTILABEL: "label"}.get(self.task)
        self.class_names = tuple(f"{noun} {n}" for n in range(num_classes)) if noun else ()
        self.signal = _signals(signal, self.all_modalities)
        self.sizes = dict(zip(SPLITS, sizes.values(), strict=True))
        self.num_features, self.data_seed = num_features, data_seed
        super().__init__(**options)

    @property
    def num_train(self) -> int | None:
        """Number of samples to train on; with a part held out, it is known after :meth:`setup`."""
        return super().num_train if self.held_out else self.sizes["train"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all parameters of the data."""
        parameters = ["synthetic 1", self.signal, self.num_classes, self.sizes]
        parameters += [self.num_features, self.data_seed]
        parameters += [self.task] if self.task != CLASSIFICATION else []
        return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()


def _names(names: Sequence[str] | None, num_modalities: int | None) -> tuple[str, ...]:
    if names is not None:
        if num_modalities is not None and num_modalities != len(names):
            raise ConfigError(
                f"data.num_modalities is {num_modalities}, but data.names has {len(names)}: "
                "give one of them"
            )
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"data.names must list at least one name, each once, got {names}")
        return tuple(names)
    number = 2 if num_modalities is None else num_modalities
    if not 1 <= number <= len(string.ascii_lowercase):
        raise ConfigError(f"data.num_modalities must be 1 to 26, got {number}; or give data.names")
    return tuple(string.ascii_lowercase[:number])


def _signals(signal: float | Sequence[float] | None, names: tuple[str, ...]) -> dict[str, float]:
    if signal is None:
        signal = [3.0] + [1.5] * (len(names) - 1)
    elif isinstance(signal, int | float):
        signal = [signal] * len(names)
    if len(signal) != len(names):
        raise ConfigError(
            f"data.signal has {len(signal)} numbers for {len(names)} modalities: {', '.join(names)}"
        )
    for value in signal:
        check_number("data.signal", value, -1e6, 1e6)
    return {name: float(value) for name, value in zip(names, signal, strict=True)}
