"""What methods with a teacher share: complete samples first, then a frozen copy teaches."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.methods.ae import check_recon_target
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class Taught(MultimodalModule):
    """Two stages in one run: ``pretrain_epochs`` on complete samples, then with a frozen teacher.

    At the second stage's start the networks trained so far are copied into the teacher, which
    stays frozen and in evaluation mode, and the optimiser starts afresh; the schedule is that of
    the whole run, as for every other method. Which stage it is follows from the epoch and from a
    buffer, so a run resumes in either. Epochs of the first stage are never selected. The teacher is
    the first stage's last epoch; the published codes take its best.

    With ``recon_target=observed`` the first stage sees what is there, and the teacher shows what
    is there; nothing hidden is used.
    """

    def __init__(
        self, *, pretrain_epochs: int, recon_target: str, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            pretrain_epochs: Epochs of the first stage, at least 1, part of trainer.max_epochs.
            recon_target: ``oracle`` or ``observed``.
            **parts: As :class:`~mla_lightning.parts.Composition` names them.

        Raises:
            ConfigError: If a value is out of range.
        """
        if pretrain_epochs < 1:
            raise ConfigError(f"method.pretrain_epochs must be >= 1, got {pretrain_epochs}")
        super().__init__(**parts)
        check_recon_target(recon_target, self.parts)
        self.pretrain_epochs, self.recon_target = pretrain_epochs, recon_target
        self.is_taught: Tensor
        self.register_buffer("is_taught", torch.zeros((), dtype=torch.bool))

    @property
    def needs_hidden_inputs(self) -> bool:  # type: ignore[override]
        """Whether training batches must hold what was hidden."""
        return self.recon_target == "oracle"

    @property
    def shared_epochs(self) -> int:  # type: ignore[override]
        """The first stage, if complete samples are all that it sees."""
        return self.pretrain_epochs if self.needs_hidden_inputs else 0

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
        self.teacher = nn.ModuleDict({name: deepcopy(self._student(name)) for name in kept})
        self.teacher.requires_grad_(False)
        self.teacher.eval()  # Lightning leaves modes as they are

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
            part.load_state_dict(self._student(name).state_dict())
        optimizer = self.trainer.optimizers[0]
        optimizer.state.clear()

    def _student(self, name: str) -> nn.Module:
        """Find what a part of the teacher is a copy of."""
        whole = {"encoders": self.encoders, "fusion": self.fusion}
        found: nn.Module = whole[name] if name in whole else getattr(self.fusion, name)
        return found

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of the stage."""
        losses_of = self.taught_losses if bool(self.is_taught) else self.pretraining_losses
        return self.step_on(batch, losses_of)

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the first stage."""
        raise NotImplementedError

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of the second stage."""
        raise NotImplementedError

    def encode_known(self, chunk: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode complete samples (``oracle``), or what is there.

        Returns:
            Modality -> feature, zeros where it is not known; and modality -> (B,) bool, the cells
            that are.
        """
        inputs, cells = self.parts.teacher_inputs(chunk, self.recon_target)
        found = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        return dict(self.fusion.zero_absent(found, cells)), cells

    @torch.no_grad()
    def encode_by_teacher(self, chunk: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Let the teacher encode complete samples; as :meth:`encode_known`."""
        inputs, cells = self.parts.teacher_inputs(chunk, self.recon_target)
        teachers = self.teacher["encoders"].items()  # type: ignore[operator]
        found = {name: encoder(inputs[name]) for name, encoder in teachers}
        return dict(self.fusion.zero_absent(found, cells)), cells

    def imagination_loss(self, imagined: Tensor, chunk: Batch) -> Tensor:
        r"""Compare with what the teacher shows of what is absent: :math:`\mathrm{mse}(h^*, h')`.

        Of what is present the teacher shows zeros (``oracle``); ``observed``, where nothing hidden
        may be seen, compares with what is present. What is not known adds nothing.

        Args:
            imagined: h', joined features (B, sum of D_m).
            chunk: The batch or a chunk of one.

        Returns:
            A scalar.
        """
        shown, known = self.encode_by_teacher(chunk)
        _, targets = self.parts.reconstruction_targets(chunk, self.recon_target)
        wanted = torch.cat([*self.fusion.zero_absent(shown, targets).values()], dim=1)
        return mse_loss(imagined, self.fill_unknown(wanted, imagined, known))

    def fill_unknown(self, wanted: Tensor, found: Tensor, known: dict[str, Tensor]) -> Tensor:
        """Put what was found itself where nothing is known, so that it adds nothing to a loss."""
        widths = self.fusion.feature_dims.items()
        cells = torch.cat([known[m][:, None].expand(-1, width) for m, width in widths], dim=1)
        return torch.where(cells, wanted, found.detach())
