"""What methods with a teacher share: complete samples first, then a frozen copy teaches."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.methods.ae import check_target
from mla_lightning.module import Batch, MultimodalModule, Parts


class Taught(MultimodalModule):
    """Two stages in one run: ``pretrain_epochs`` on complete samples, then with a frozen teacher.

    At the second stage's start the networks trained so far are copied into the teacher, which
    stays frozen and in evaluation mode, and optimiser and schedule start afresh. Which stage it is
    follows from the epoch and from a buffer, so a run resumes in either. Epochs of the first stage
    are never selected.

    With ``recon_target=observed`` the first stage sees what is there, and the teacher shows what
    is there; nothing hidden is used.
    """

    def __init__(self, parts: Parts, *, pretrain_epochs: int, recon_target: str) -> None:
        """Build the module.

        Args:
            parts: What the method is composed of.
            pretrain_epochs: Epochs of the first stage, at least 1, part of trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.

        Raises:
            ConfigError: If a value is out of range.
        """
        if pretrain_epochs < 1:
            raise ConfigError(f"method.pretrain_epochs must be >= 1, got {pretrain_epochs}")
        check_target(recon_target, parts)
        super().__init__(parts)
        self.pretrain_epochs, self.recon_target = pretrain_epochs, recon_target
        self.is_taught: Tensor
        self.register_buffer("is_taught", torch.zeros((), dtype=torch.bool))

    @property
    def wants_truth(self) -> bool:  # type: ignore[override]
        """Whether training batches must hold what was hidden."""
        return self.recon_target == "oracle"

    @property
    def is_selectable(self) -> bool:
        """Whether the epoch may be chosen: those of the second stage."""
        return self.current_epoch >= self.pretrain_epochs

    def add_teacher(self, *names: str) -> None:
        """Make the teacher: frozen copies of the encoders and of parts of the fusion.

        Args:
            *names: Attributes of the fusion that the teacher has, too; ``fusion`` for all of it.
        """
        kept = ("encoders", *names)
        self.teacher = nn.ModuleDict({name: deepcopy(self._pupil(name)) for name in kept})
        self.teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Any:
        """Set the mode of all but the teacher."""
        super().train(mode)
        if hasattr(self, "teacher"):
            self.teacher.eval()
        return self

    def on_train_start(self) -> None:
        """Check that there is a second stage."""
        most = self.trainer.max_epochs or 0
        if most <= self.pretrain_epochs:
            raise ConfigError(
                f"method.pretrain_epochs={self.pretrain_epochs} leaves nothing of "
                f"trainer.max_epochs={most} for the second stage"
            )

    def on_train_epoch_start(self) -> None:
        """Begin the second stage where it is due."""
        super().on_train_epoch_start()
        if self.current_epoch < self.pretrain_epochs or bool(self.is_taught):
            return
        self.is_taught.fill_(True)
        for name, part in self.teacher.items():
            part.load_state_dict(self._pupil(name).state_dict())
        optimizer = self.trainer.optimizers[0]
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
        if self.parts.scheduler is not None:
            self.trainer.lr_scheduler_configs[0].scheduler = self.parts.scheduler(optimizer)

    def _pupil(self, name: str) -> nn.Module:
        """Find what a part of the teacher is a copy of."""
        whole = {"encoders": self.encoders, "fusion": self.fusion}
        found: nn.Module = whole[name] if name in whole else getattr(self.fusion, name)
        return found

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of the stage."""
        losses_of = self.taught_losses if bool(self.is_taught) else self.full_losses
        return self.step_on(batch, losses_of)

    def full_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the first stage."""
        raise NotImplementedError

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the second stage."""
        raise NotImplementedError

    def whole(self, chunk: Batch) -> dict[str, Tensor]:
        """Encode complete samples (``oracle``), or what is there."""
        if not self.wants_truth:
            return dict(self.fusion.zeroed(self.features(chunk), self.parts.presence(chunk)))
        truth = chunk["truth"]
        return {name: encoder(truth[name]) for name, encoder in self.encoders.items()}

    def taught(self, chunk: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Let the teacher encode what is to be imagined.

        Returns:
            Modality -> feature (B, D_m), zeros elsewhere; and modality -> (B,) bool, the targets.
        """
        inputs, cells = self.parts.target(chunk, self.recon_target)
        found = {}
        with torch.no_grad():
            for name, encoder in self.teacher["encoders"].items():  # type: ignore[operator]
                feature = encoder(inputs[name])
                found[name] = torch.where(cells[name][:, None], feature, 0.0)
        return found, cells
