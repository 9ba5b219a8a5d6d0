"""Base of methods with a teacher: training on complete samples, then with a frozen copy of it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.methods.ae import check_recon_target
from mla_lightning.methods.mechanisms.stages import Stages
from mla_lightning.parts import Composition


class Taught(Stages):
    """Two stages in one run: ``pretrain_epochs`` on complete samples, then with a frozen teacher.

    At the start of the second stage the networks are copied into the teacher, which stays frozen
    and in evaluation mode, and the state of the optimiser is cleared. The schedule is that of the
    whole run, as for every other method. A run resumes in either stage; see
    :class:`~mla_lightning.methods.mechanisms.stages.Stages`. Epochs of the first stage are never
    selected. The teacher has the weights of the first stage's last epoch; the published codes take
    those of its best.

    With ``recon_target=observed`` no hidden input is used: the first stage trains on the present
    modalities, and the teacher encodes these.

    Example:
        A subclass defines the losses of both stages:

        >>> from functools import partial
        >>> class Distilled(Taught):
        ...     def pretraining_losses(self, chunk):
        ...         features, present = self.encode_known(chunk)
        ...         return {"full": self.parts.loss(self.fusion(features, present), chunk)}
        ...
        ...     def taught_losses(self, chunk):
        ...         features, _ = self.encode_by_teacher(chunk)
        ...         own = self.features(chunk)
        ...         return {name: mse_loss(own[name], features[name]) for name in own}
        >>> method = Distilled(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     pretrain_epochs=20,
        ...     recon_target="oracle",
        ...     hides_modalities=True,
        ... )
        >>> method.needs_hidden_inputs, method.shared_epochs  # runs may share the first stage
        (True, 20)
        >>> method.current_epoch, method.is_selectable
        (0, False)
    """

    is_taught: Tensor
    stage_buffer = "is_taught"

    def __init__(
        self, *, pretrain_epochs: int, recon_target: str, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            pretrain_epochs: Epochs of the first stage, at least 1; part of trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range.
        """
        if pretrain_epochs < 1:
            raise ConfigError(f"method.pretrain_epochs must be >= 1, got {pretrain_epochs}")
        super().__init__(**parts)
        check_recon_target(recon_target, self.parts)
        self.pretrain_epochs, self.recon_target = pretrain_epochs, recon_target

    def stage_of(self, epoch: int) -> int:
        """Return 0 in the first stage, 1 in the second."""
        return int(epoch >= self.pretrain_epochs)

    @property
    def needs_hidden_inputs(self) -> bool:  # type: ignore[override]
        """Return whether training batches must also contain the hidden inputs."""
        return self.recon_target == "oracle"

    @property
    def shared_epochs(self) -> int:  # type: ignore[override]
        """Length of the first stage if it uses complete samples, which no mask changes."""
        return self.pretrain_epochs if self.needs_hidden_inputs else 0

    @property
    def is_selectable(self) -> bool:
        """Return whether the epoch may be selected: true in the second stage."""
        return self.training_stage == 1

    def add_teacher(self, *names: str) -> None:
        """Build the teacher: frozen copies of the encoders and of networks of the fusion.

        Args:
            *names: Attributes of the fusion to copy; ``fusion`` for all of it.
        """
        networks = {name: deepcopy(self._student(name)) for name in ("encoders", *names)}
        self.teacher = nn.ModuleDict(networks)
        self.teacher.requires_grad_(False)
        self.teacher.eval()  # Lightning leaves modes as they are

    def train(self, mode: bool = True) -> Any:
        """Set the training mode of everything but the teacher."""
        super().train(mode)
        if hasattr(self, "teacher"):
            self.teacher.eval()
        return self

    def on_train_start(self) -> None:
        """Check that there is a second stage."""
        num_epochs = self.trainer.max_epochs or 0
        if num_epochs <= self.pretrain_epochs:
            raise ConfigError(
                f"method.pretrain_epochs={self.pretrain_epochs} leaves nothing of "
                f"trainer.max_epochs={num_epochs} for the second stage"
            )

    def begin_stage(self, stage: int) -> None:
        """Copy the networks into the teacher when the second stage begins."""
        for name, network in self.teacher.items() if stage == 1 else ():
            network.load_state_dict(self._student(name).state_dict())

    def _student(self, name: str) -> nn.Module:
        """Return the network that a part of the teacher is a copy of."""
        networks = {"encoders": self.encoders, "fusion": self.fusion}
        network: nn.Module = networks[name] if name in networks else getattr(self.fusion, name)
        return network

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the losses of the stage."""
        losses_of = self.taught_losses if bool(self.is_taught) else self.pretraining_losses
        return self.step_on(batch, losses_of)

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the first stage, by name."""
        raise NotImplementedError

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the second stage, by name."""
        raise NotImplementedError

    def encode_known(self, chunk: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode complete samples (``oracle``), or the present modalities (``observed``).

        Args:
            chunk: The batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m), zeros if its input is not known; and modality -> (B,)
            bool, true where it is known.
        """
        inputs, is_known = self.parts.teacher_inputs(chunk, self.recon_target)
        features = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        return dict(self.fusion.zero_absent(features, is_known)), is_known

    @torch.no_grad()
    def encode_by_teacher(self, chunk: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode the same with the teacher's encoders; see :meth:`encode_known`."""
        inputs, is_known = self.parts.teacher_inputs(chunk, self.recon_target)
        encoders = self.teacher["encoders"].items()  # type: ignore[operator]
        features = {name: encoder(inputs[name]) for name, encoder in encoders}
        return dict(self.fusion.zero_absent(features, is_known)), is_known

    def imagination_loss(self, imagined: Tensor, chunk: Batch) -> Tensor:
        r"""Compare imagined features with the teacher's of absent modalities: mse of h* and h'.

        With ``oracle`` the target h* has the teacher's features of the hidden modalities, and zeros
        for the present ones; with ``observed``, where no hidden input may be used, it has those of
        the present ones. Modalities whose input is not known add nothing.

        Args:
            imagined: h', concatenated features (B, sum of D_m).
            chunk: The batch or a chunk of one.

        Returns:
            The mean squared error, a scalar.
        """
        features, is_known = self.encode_by_teacher(chunk)
        _, is_target = self.parts.reconstruction_targets(chunk, self.recon_target)
        target = torch.cat([*self.fusion.zero_absent(features, is_target).values()], dim=1)
        return mse_loss(imagined, self.fill_unknown(target, imagined, is_known))

    def fill_unknown(
        self, target: Tensor, prediction: Tensor, is_known: dict[str, Tensor]
    ) -> Tensor:
        """Replace unknown entries of a target by the prediction, so that they add no loss.

        Args:
            target: Concatenated features (B, sum of D_m).
            prediction: What is compared with the target, of the same shape.
            is_known: Modality -> (B,) bool.

        Returns:
            The target, of the same shape.
        """
        widths = self.fusion.feature_dims.items()
        is_known_entry = torch.cat(
            [is_known[m][:, None].expand(-1, width) for m, width in widths], dim=1
        )
        return torch.where(is_known_entry, target, prediction.detach())
