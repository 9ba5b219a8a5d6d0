"""Training on rows that the rule chooses before each epoch: copies, and modalities alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.data_connector import _parse_num_batches
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.window import share_of_epochs
from mla_lightning.parts import Composition

#: What happens to the encoders of the modalities that a row leaves out.
MASKED_ENCODERS = ("skip", "run")


class PlannedRows(EpochStart):
    """Base of rules that choose, after a warm-up, how often each sample occurs in an epoch.

    A sample may occur whole, and with each of its modalities alone: then the others are not
    present, so that their features are zeros in the fusion. :meth:`count_rows` decides at the start
    of each epoch. The counts are a buffer, so a run that is resumed within an epoch has the same
    rows. The rows are made by the training loader, which therefore must be that of a data set of
    this package.

    Attributes:
        counts: (N, 1 + M) uint8, how often each sample occurs in the current epoch whole, and with
            each modality alone.
        published_warmup: Epochs of the warm-up, and all epochs, of the published training; a rule
            that allows ``warmup_epochs=None`` must have it.
        row_order: How rows are divided into batches: ``rows``, ``blocks`` or ``mixed``, see
            :class:`~mla_lightning.data.row_plan.RowPlan`.

    Example:
        A rule by which every second sample occurs once more, with the first modality alone:

        >>> class Repeats(PlannedRows):
        ...     def count_rows(self):
        ...         counts = self.whole_samples()
        ...         counts[::2, 1] = 1
        ...         return counts
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "num_train": 3,
        ...     "train_batches": list,
        ... }
        >>> Repeats(warmup_epochs=5, masked_encoders="skip", **parts).count_rows()
        tensor([[1, 1, 0],
                [1, 0, 0],
                [1, 1, 0]], dtype=torch.uint8)
    """

    needs_num_train = True
    needs_train_batches = True
    takes_incomplete = False
    row_order = "rows"
    published_warmup: tuple[int, int]

    def __init__(
        self, *, warmup_epochs: int | None, masked_encoders: str, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            warmup_epochs: Number of first epochs in which every sample occurs once, whole;
                None for the share of all that they are in the published training, rounded up.
            masked_encoders: ``skip``: encoders get only rows that have their modality (all rows if
                that is a single one of a batch, for batch normalisation). ``run``: they get all
                rows, and features of what is left out are zeroed after.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, or modalities are hidden anew every epoch.
        """
        if warmup_epochs is not None and warmup_epochs < 0:
            raise ConfigError(f"method.warmup_epochs must be >= 0, got {warmup_epochs}")
        check_choice("method.masked_encoders", masked_encoders, MASKED_ENCODERS)
        super().__init__(**parts)
        if self.parts.resamples_masks:
            raise ConfigError(
                f"{type(self).__name__} judges samples by what an epoch shows of them, and "
                "missing.resample_train_masks=true changes that every epoch. Set it to false."
            )
        self.parts = replace(self.parts, is_complete=False)  # rows lack modalities
        self.warmup_epochs, self.masked_encoders = warmup_epochs, masked_encoders
        self.counts: Tensor
        self.register_buffer("counts", self.whole_samples())

    def num_warmup_epochs(self, num_epochs: int) -> int:
        """Return the number of first epochs in which every sample occurs once, whole.

        Args:
            num_epochs: All epochs of the run.
        """
        if self.warmup_epochs is None:
            return share_of_epochs("warmup_epochs", num_epochs, *self.published_warmup)
        return self.warmup_epochs

    @property
    def is_warmup(self) -> bool:
        """Whether the current epoch is one of the warm-up."""
        return self.current_epoch < self.num_warmup_epochs(self.trainer.max_epochs or 0)

    def whole_samples(self) -> Tensor:
        """Return the counts (N, 1 + M) of an epoch in which every sample occurs once, whole."""
        counts = torch.zeros(self.num_train, 1 + len(self.modalities), dtype=torch.uint8)
        counts[:, 0] = 1
        return counts.to(self.device)

    def count_rows(self) -> Tensor:
        """Return how often each sample occurs in the epoch that begins.

        It is called as :meth:`prepare_epoch` is, after the warm-up.

        Returns:
            Counts (N, 1 + M), whole numbers from 0 to 255.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define count_rows")

    def prepare_epoch(self) -> None:
        """Count the rows of the epoch; on several ranks those of the first."""
        counts = self.whole_samples() if self.is_warmup else self.count_rows()
        self.counts.copy_(ranks.stacked(counts)[0])

    def on_train_start(self) -> None:
        """Check the warm-up and the loader, and restore the rows of an epoch that is resumed."""
        num_epochs = self.trainer.max_epochs or 0
        num_warmup = self.num_warmup_epochs(num_epochs)
        if 0 <= num_epochs <= num_warmup:
            raise ConfigError(
                f"method.warmup_epochs={num_warmup} leaves no epoch of "
                f"trainer.max_epochs={num_epochs} to {type(self).__name__} itself. Use fewer, or "
                "train longer."
            )
        self._follow_counts()

    def on_train_epoch_start(self) -> None:
        """Prepare the epoch, and choose its rows."""
        super().on_train_epoch_start()
        self._follow_counts()

    def _follow_counts(self) -> None:
        """Let the loader follow the counts, and the Trainer expect as many batches."""
        loader: Any = self.trainer.train_dataloader
        if not hasattr(loader, "follow"):
            raise ConfigError(
                f"{type(self).__name__} chooses the rows of each epoch, and a "
                f"{type(loader).__name__} of your own draws samples itself. Give trainer.fit a "
                "data module of this package (mla_lightning.data, or a class derived from "
                "MultimodalDataModule), or its train_dataloader()."
            )
        num_before = len(loader)
        loader.follow(self.counts.cpu(), self.row_order)
        if len(loader) != num_before:
            _expect_batches(self.trainer)

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality, also of rows that leave it out if ``masked_encoders`` is ``run``.

        So is a modality that a single row of a batch keeps: batch normalisation needs several.

        Args:
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is not present.
        """
        if "left_out" not in batch:
            return super().encode(name, batch)
        present = batch["present"]
        if ranks.is_synchronised(self.encoders[name]):
            present = batch.get("present_in_batch", present)
        if self.masked_encoders == "skip" and int(present[name].sum()) != 1:
            return super().encode(name, batch)
        h = self.encode_rows(name, batch["inputs"][name])
        return self.fusion.zero_absent({name: h}, batch["present"])[name]


def _expect_batches(trainer: Trainer) -> None:
    """Let a Trainer know that its training loader has another number of batches than before.

    Validation, the progress bar and checkpoints depend on that number. It is called before the
    first batch of an epoch, or of the rest of one, is requested.
    """
    loop = trainer.fit_loop
    combined, fetcher = loop._combined_loader, loop._data_fetcher
    assert combined is not None
    assert fetcher is not None
    combined.limits = [
        _parse_num_batches(RunningStage.TRAINING, len(loader), trainer.limit_train_batches)
        for loader in combined.flattened
    ]
    iter(fetcher)  # the number that it counts to; no batch has been requested
    loop.max_batches = len(combined)
    if isinstance(trainer.val_check_interval, float) and trainer.val_check_batch is not None:
        trainer.val_check_batch = max(1, int(loop.max_batches * trainer.val_check_interval))
    bar = trainer.progress_bar_callback
    if bar is not None and trainer.fit_loop.epoch_progress.current.ready:
        bar.on_train_epoch_start(trainer, trainer.lightning_module)
