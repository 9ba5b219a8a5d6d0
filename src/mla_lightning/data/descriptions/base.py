"""Base class of the descriptions of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.data.missing import Missing
from mla_lightning.data.targets import targets_of
from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.paths import name_problem
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    from torch import Tensor

    from mla_lightning.data.loading import ArrayDataset


class DataDescription:
    """What is known of a data set of several modalities before its samples are read.

    A subclass sets ``name``, ``all_modalities`` and ``class_names``, as class attributes or before
    it calls this class's constructor, and defines :attr:`fingerprint`.

    Attributes:
        name: Name of the data set in files and tables.
        all_modalities: All modalities of the data set.
        modalities: The modalities in use, in order.
        class_names: The classes, in the order of the labels; the L labels of a multilabel task;
            () for regression.
        task: ``classification``, ``regression`` (one number per sample) or ``multilabel`` (any
            subset of the labels).
        split_name: Name of the rule that divides the data, for the record of a run.

    Example:
        >>> class Coins(DataDescription):
        ...     name, all_modalities, class_names = "coins", ("image", "weight"), ("cent", "euro")
        ...     fingerprint = "made up"
        >>> coins = Coins(batch_size=4, modalities=["weight"])
        >>> coins.modalities, coins.num_classes, coins.default_epochs
        (('weight',), 2, 40)
    """

    name: str
    all_modalities: tuple[str, ...]
    class_names: tuple[str, ...]
    task: str = CLASSIFICATION
    split_name: str = "own"

    def __init__(
        self,
        *,
        batch_size: int,
        seed: int = 0,
        modalities: Sequence[str] | None = None,
        num_workers: int = 0,
        eval_batch_size: int = 256,
        missing: Missing | None = None,
        held_out: float = 0.0,
    ) -> None:
        """Check the options; nothing is read yet.

        Args:
            batch_size: Samples per training batch. The last batch of an epoch may be smaller.
            seed: The run's seed; the order of training is a function of it and of the epoch.
            modalities: The modalities to use, in this order; None for all.
            num_workers: Worker processes per loader; 0 is fastest for data in memory. The batches
                do not depend on it.
            eval_batch_size: Samples per batch in evaluation.
            missing: Protocol that hides modalities of samples; None to hide nothing.
            held_out: Fraction of the training split that is held out, 0 for nothing: never trained
                on, for methods that compare training samples with others. It is a part of every
                class, and of whole groups (speakers) if the split keeps groups together. It depends
                on the data and the split alone, so it is the same for all methods and seeds.

        Raises:
            ConfigError: If a number is out of range, or a modality is unknown or given twice.
        """
        super().__init__()
        if problem := name_problem(self.name):
            raise ConfigError(f"the name {self.name!r} of the data set {problem}")
        for option, value, least, most in (
            ("batch_size", batch_size, 1, 10**6),
            ("eval_batch_size", eval_batch_size, 1, 10**6),
            ("num_workers", num_workers, 0, 1024),
            ("held_out", held_out, 0, 0.9),
        ):
            check_number(f"data.{option}", value, least, most)
        self.modalities = _checked_modalities(modalities, self.all_modalities, self.name)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.held_out = float(held_out)
        if missing is not None:
            missing.check(self.modalities)
        self.missing = missing
        #: Split -> (N, M) bool, true where a modality is present and not hidden, after setup.
        self.masks: dict[str, Tensor] = {}
        self.splits: dict[str, ArrayDataset] = {}
        #: Part of train -> its samples' numbers in the whole of it, if a part is held out.
        self._numbers: dict[str, Tensor] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of data, split and preprocessing, as hexadecimal text; needs no :meth:`setup`."""
        raise NotImplementedError(f"{type(self).__name__} does not define fingerprint")

    def default_encoders(self) -> Mapping[str, Mapping[str, Any]]:
        """Return default configs: modality in use -> its encoder's config; by default none."""
        return {}

    @property
    def default_epochs(self) -> int:
        """Number of epochs of ``trainer.max_epochs=auto``; 40 unless a data set fits it."""
        return 40

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Modalities in use that some sample lacks, as far as known before :meth:`setup`."""
        return ()

    @property
    def num_train(self) -> int | None:
        """Number of samples to train on; None if it is not known before :meth:`setup`."""
        return len(self.splits["train"]) if self.splits else None

    @property
    def num_classes(self) -> int:
        """Number of outputs of a head: classes C or labels L; 1 for regression."""
        return targets_of(self.task, self.name).num_outputs(self.class_names)


def _checked_modalities(
    modalities: Sequence[str] | None, known: tuple[str, ...], name: str
) -> tuple[str, ...]:
    if modalities is None:
        return known
    for modality in modalities:
        if modality not in known:
            raise ConfigError(
                f"{name} has no modality {modality!r}.{near(modality, known)} "
                f"Known: {', '.join(known)}."
            )
    if not modalities or len(set(modalities)) < len(modalities):
        raise ConfigError(
            f"modalities must name at least one, each once, got {list(modalities)}. "
            f"Known: {', '.join(known)}."
        )
    return tuple(modalities)
