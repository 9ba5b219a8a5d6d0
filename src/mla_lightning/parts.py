"""Components of every method: encoders, fusion, optimiser, and facts about the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Required, TypedDict

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mla_lightning import ranks
from mla_lightning.batch import Batch, relative_share, slice_batch, weight_share
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import Fusion
from mla_lightning.inputs.base import Input
from mla_lightning.metrics.by_task import EPOCH_METRICS, FUNCTIONS
from mla_lightning.metrics.outcome import Outcome
from mla_lightning.run_folder.tasks import PRIMARY, Primary, selection_of
from mla_lightning.tasks import Classification, Task


class Composition(TypedDict, total=False):
    """The keyword arguments that every method takes; see :class:`Parts`."""

    encoders: Required[Mapping[str, nn.Module]]
    num_classes: Required[int]
    optimizer: Required[Callable[..., Optimizer]]
    task: Task
    fusion: Callable[..., Fusion]
    scheduler: Callable[..., LRScheduler] | None
    num_train: int | None
    batch_size: int
    seed: int
    clip_norm: float | None
    accumulate: int
    log_every_n_batches: int
    num_ranks: int
    sync_batchnorm: bool
    inputs: Mapping[str, Input]
    is_complete: bool
    hides_modalities: bool
    resamples_masks: bool
    train_batches: Callable[[], Iterable[Batch]] | None
    held_out_batches: Callable[[], Iterable[Batch]] | None
    epoch_metrics: Mapping[str, Callable[[Outcome], float | Tensor]]
    select_by: str | None
    logs_epochs: bool


@dataclass(frozen=True)
class Parts:
    """The components of a method, from the config; the training rule is defined by its class.

    Attributes:
        encoders: One encoder per modality, in the order of the modalities.
        fusion: Builds the fusion from ``(feature_dims, num_classes)``.
        optimizer: Builds the optimiser from parameters.
        num_classes: Number of outputs of a head: classes C, labels L, or 1 for regression.
        task: What the outputs mean, and their loss; classification by default.
        scheduler: Builds the learning-rate schedule from the optimiser; stepped once per epoch.
        num_train: Number of training samples N; None if the method does not need it.
        batch_size: Samples of a training batch; the last batch of an epoch may have fewer.
        seed: The run's seed.
        clip_norm: Largest norm of a step's gradient, None for no clipping. Methods that train each
            modality as if it were alone clip each modality's gradient.
        accumulate: Number of chunks that a batch is split into to save memory. The gradient is
            that of the whole batch (batch statistics excepted).
        log_every_n_batches: Number of batches between two checks of the losses, which are then also
            sent to the loggers.
        num_ranks: Number of processes that train the job together, each on its part of a batch.
        sync_batchnorm: Whether batch statistics are those of all ranks. Otherwise each rank has its
            own, and running statistics are averaged after each step.
        inputs: Modality -> conversion of its rows in a batch to its encoder's input; modalities
            without one are passed on unchanged.
        is_complete: Whether every sample has every modality; absent ones are then not looked for.
        hides_modalities: Whether the protocol of missing modalities hides some of training samples.
        resamples_masks: Whether what is hidden in training is drawn again every epoch.
        train_batches: Returns the training split's batches in its own order, not augmented; None if
            the method does not need them.
        held_out_batches: The same of the samples that are held out from training; None for none.
        epoch_metrics: Column -> metric that validation computes after every epoch; the task's
            usual ones by default.
        select_by: The metric by which the best epoch is selected; the task's primary one by
            default.
        logs_epochs: Whether the losses and validation metrics of each epoch are logged through the
            Trainer. Runs write them to ``metrics.csv`` instead and log that row.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> from mla_lightning.fusion import Concat
        >>> encoders = {"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)}
        >>> sgd = partial(torch.optim.SGD, lr=0.1)
        >>> parts = Parts(encoders, Concat, sgd, num_classes=2, is_complete=False)
        >>> parts.build_fusion().head
        Linear(in_features=8, out_features=2, bias=True)

        Losses are means over the samples that have the modality. The second sample has no audio:

        >>> inputs = {"audio": torch.zeros(2, 3), "visual": torch.zeros(2, 5)}
        >>> present = {"audio": torch.tensor([True, False]), "visual": torch.tensor([True, True])}
        >>> labelled = {**inputs, "label": torch.tensor([0, 1]), "present": present}
        >>> batch = as_batch(labelled, ["audio", "visual"])
        >>> logits = {"audio": torch.tensor([[9.0, 0.0], [9.0, 0.0]]), "visual": torch.zeros(2, 2)}
        >>> parts.unimodal_losses(logits, batch)
        {'audio': tensor(0.0001), 'visual': tensor(0.6931)}
    """

    encoders: Mapping[str, nn.Module]
    fusion: Callable[..., Fusion]
    optimizer: Callable[..., Optimizer]
    num_classes: int
    task: Task = field(default_factory=Classification)
    scheduler: Callable[..., LRScheduler] | None = None
    num_train: int | None = None
    batch_size: int = 1
    seed: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    log_every_n_batches: int = 50
    num_ranks: int = 1
    sync_batchnorm: bool = True
    inputs: Mapping[str, Input] = field(default_factory=dict)
    is_complete: bool = True
    hides_modalities: bool = False
    resamples_masks: bool = False
    train_batches: Callable[[], Iterable[Batch]] | None = None
    held_out_batches: Callable[[], Iterable[Batch]] | None = None
    epoch_metrics: Mapping[str, Callable[[Outcome], float | Tensor]] = field(default_factory=dict)
    select_by: str | None = None
    logs_epochs: bool = True

    def __post_init__(self) -> None:
        """Add the metrics that the task needs, and check the one that selects the epoch."""
        task = self.task.name
        metrics = {**(self.epoch_metrics or EPOCH_METRICS[task])}
        for needed in (PRIMARY[task], self.selection):
            metrics.setdefault(needed.column, FUNCTIONS[task][needed.metric])
        object.__setattr__(self, "epoch_metrics", metrics)

    @property
    def selection(self) -> Primary:
        """The metric by which the best epoch is selected."""
        return selection_of(self.task.name, self.select_by)

    def score(self, logits: Tensor, label: Tensor) -> float:
        """Compute the metric by which the best epoch is selected.

        Args:
            logits: Logits (N, C), in the target's own unit.
            label: Labels (N,).

        Returns:
            The score; larger is better, so it is the negative of an error.
        """
        selection = self.selection
        value = float(self.epoch_metrics[selection.column](Outcome(logits, label)))
        return selection.sign * value

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute the task's loss, the mean over the samples of a batch or of a chunk of one.

        With class weights the mean is weighted, and that of a chunk counts by the fraction of the
        batch's weights that its samples have, so that chunks do not change the gradient. Without
        samples, as a rank may have none with a modality, it is 0.

        Args:
            logits: Outputs of a head (B, C).
            batch: The batch or a chunk of one.

        Returns:
            The loss, a scalar.
        """
        if not len(logits):
            return logits.sum()
        loss = self.task.loss(logits, batch["label"])
        share = weight_share(batch, self.task.sample_weights)
        return loss if share is None else loss * share

    def build_fusion(self) -> Fusion:
        """Build the fusion for the widths of the encoders' features.

        Returns:
            The fusion.

        Raises:
            ConfigError: If an encoder returns sequences and the fusion takes vectors, or the fusion
                is not defined for the task.
        """
        widths = {name: out_width(name, encoder) for name, encoder in self.encoders.items()}
        fusion = self.fusion(widths, self.num_classes)
        fusion.follow(self.task)
        for name, encoder in self.encoders.items():
            if getattr(encoder, "gives_sequences", False) and not fusion.takes_sequences:
                raise ConfigError(
                    f"encoder.{name}: {type(encoder).__name__} gives sequences, and fusion "
                    f"{type(fusion).__name__} takes vectors. Use an encoder such as LSTM."
                )
        return fusion

    def reconstruction_targets(
        self, batch: Batch, recon_target: str
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what a method learns to reconstruct.

        Args:
            batch: A training batch.
            recon_target: ``oracle``: the hidden modalities; ``observed``: the present ones.

        Returns:
            Modality -> inputs (B, ...), and modality -> (B,) bool, true for the targets.
        """
        if recon_target == "oracle":
            return batch["truth"], batch["hidden"]
        hidden = batch.get("hidden", {})
        # With zeros in place of hidden inputs (missing.policy=zero_input) these count as present.
        observed = {name: has & ~hidden.get(name, ~has) for name, has in batch["present"].items()}
        return batch["inputs"], observed

    def teacher_inputs(
        self, batch: Batch, recon_target: str
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return all inputs that a teacher may use in training.

        Args:
            batch: A training batch.
            recon_target: ``oracle``: the present and the hidden modalities; ``observed``: the
                present ones.

        Returns:
            Modality -> inputs (B, ...), and modality -> (B,) bool, true where the input is known.
            Modalities that are missing in the data themselves are never known.
        """
        inputs, is_known = self.reconstruction_targets(batch, recon_target)
        if recon_target == "oracle":
            is_known = {name: has | is_known[name] for name, has in batch["present"].items()}
        return inputs, is_known

    def presence(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return which samples have which modality, or None if all are complete.

        Args:
            batch: The batch.

        Returns:
            Modality -> (B,) bool; None saves fusions the handling of absent modalities.
        """
        return None if self.is_complete else batch["present"]

    def samples_with(self, name: str, batch: Batch) -> Batch | None:
        """Return the samples of a batch that have a modality.

        Args:
            name: The modality.
            batch: The batch.

        Returns:
            The batch itself if all samples have it, None if none has. Of a rank's part that has
            none, but another rank's has some, a part without samples.
        """
        if self.is_complete:
            return batch
        has_in_batch = batch.get("present_in_batch", batch["present"])[name]
        if bool(has_in_batch.all()):
            return batch
        if not bool(has_in_batch.any()):
            return None
        return slice_batch(batch, batch["present"][name], has_in_batch)

    def unimodal_losses(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute the loss of each modality's own logits, the mean over the samples that have it.

        The mean of a chunk counts by its fraction of these samples; see
        :func:`~mla_lightning.batch.relative_share`.

        Args:
            logits: Modality -> logits (B, C).
            batch: The batch or a chunk of one.

        Returns:
            Modality -> loss; modalities that no sample has are omitted. Every rank has the same
            ones: of a modality that only other ranks' samples have, the loss is 0.
        """
        if self.is_complete:
            return {name: self.loss(z, batch) for name, z in logits.items()}
        label, losses = batch["label"], {}
        for name, z in logits.items():
            has = batch["present"][name]
            if not bool(has.any()):
                if ranks.world_size() > 1 and bool(batch["present_in_batch"][name].any()):
                    losses[name] = z[has].sum()
                continue
            share = weight_share(batch, self.task.sample_weights, name)
            share = relative_share(batch, name) if share is None else share
            losses[name] = self.task.loss(z[has], label[has]) * share
        return losses


def input_widths(encoders: Mapping[str, nn.Module]) -> dict[str, int]:
    """Return the width of each modality's input vector.

    It is the ``in_features`` of the encoder, or of its first layer.

    Args:
        encoders: Modality -> encoder.

    Returns:
        Modality -> width D_m.

    Raises:
        ConfigError: If an encoder does not take vectors.

    Example:
        >>> input_widths({"audio": nn.Linear(3, 8), "text": nn.Linear(5, 8)})
        {'audio': 3, 'text': 5}
        >>> from mla_lightning.encoders import LSTM
        >>> input_widths({"audio": LSTM(in_features=3)})
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: This method works on vectors, and 'audio' has none: its
        encoder is LSTM. Use features, such as those of `mla data embed`.
        >>> input_widths({"audio": nn.Sequential(nn.Linear(3, 8), nn.ReLU())})
        {'audio': 3}
    """
    widths = {}
    for name, encoder in encoders.items():
        width = _width("in_features", encoder, 0)
        if width is None or getattr(encoder, "takes_sequences", False):
            hint = "" if width else " Or set the encoder's attribute: encoder.in_features = D"
            raise ConfigError(
                f"This method works on vectors, and {name!r} has none: its encoder is "
                f"{type(encoder).__name__}. Use features, such as those of `mla data embed`.{hint}"
            )
        widths[name] = width
    return widths


def out_width(name: str, encoder: nn.Module) -> int:
    """Return the width of an encoder's feature: its ``out_features``, or its last layer's.

    Args:
        name: The modality, for the message.
        encoder: The encoder.

    Returns:
        The width D_m.

    Raises:
        ConfigError: If neither is set.

    Example:
        >>> out_width("audio", nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)))
        5
    """
    width = _width("out_features", encoder, -1)
    if width is None:
        raise ConfigError(
            f"The encoder of {name!r} ({type(encoder).__name__}) does not say how wide its feature "
            "is. Set its attribute: encoder.out_features = D"
        )
    return width


def _width(attribute: str, encoder: nn.Module, position: int) -> int | None:
    """Return the width that an encoder, or the layer at a position of a Sequential, has."""
    layer = encoder[position] if isinstance(encoder, nn.Sequential) and len(encoder) else encoder
    widths = (getattr(module, attribute, None) for module in (encoder, layer))
    return next((width for width in widths if isinstance(width, int)), None)


class StepObserver(Protocol):
    """Interface of diagnostics that are called around every step that a method takes."""

    def before_step(self, name: str) -> None:
        """Observe the start of a step; gradients are computed.

        Args:
            name: The names of the step's losses, joined by ``+``.
        """

    def after_step(self) -> None:
        """Observe the weights after the optimiser's step; gradients are still those of the step."""

    def record_gradient(self, kind: str) -> None:
        """Observe the gradients.

        Args:
            kind: ``raw``, or ``edited`` once the method has edited them.
        """
