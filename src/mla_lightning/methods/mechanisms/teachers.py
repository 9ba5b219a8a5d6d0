"""Frozen unimodal teachers: models of one modality each, trained before the student."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, relative_share
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.late import LateFusion
from mla_lightning.methods.mechanisms.scores import validation_score
from mla_lightning.methods.mechanisms.stages import Stages
from mla_lightning.parts import Composition
from mla_lightning.run_folder.columns import MULTI

#: Keys of a checkpoint: the student's initial weights, and that only the teachers are in it.
_INITIAL, _OF_TEACHERS = "initial_encoders", "only_teachers"


class Teacher(NamedTuple):
    """A trained model of one modality.

    Attributes:
        encoder: Weights of its encoder.
        head: Weights of its linear head.
        score: Its score on validation, by the metric that selects epochs.
        epoch: Its best epoch, from 1.
    """

    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    score: float
    epoch: int


class WithTeachers(Stages):
    """Base of rules in which a student learns from frozen models of each modality alone.

    A teacher is an encoder and a linear head. It is always in evaluation mode, has no gradient, is
    outside of the optimiser and part of every checkpoint. Teachers come from one of two places:

    - ``teacher_epochs``: the first epochs of the run train them as ``method=unimodal`` does, with
      the same initial weights, losses and clipping. Each teacher is the model of its own best epoch
      by validation. The student then starts from the initial weights, with a cleared optimiser.
      The schedule is that of the whole run, so the student starts where it is at that epoch. No
      epoch of this stage is selected. Runs that differ only in what follows share the stage, also
      runs of different methods.
    - ``teachers``: the folder of a finished run of ``method=unimodal`` with the same data, split,
      encoders and seed. The student then has all epochs, and a whole schedule.

    The time of the teachers' training counts as that of the run in both cases.

    Example:
        A subclass defines the student's step:

        >>> from functools import partial
        >>> class Imitation(WithTeachers):
        ...     def fit_student(self, batch):
        ...         def losses_of(chunk):
        ...             own, taught = self.features(chunk), self.teacher_features(chunk)
        ...             return {m: (own[m] - taught[m]).square().mean() for m in own}
        ...
        ...         return self.step_on(batch, losses_of)
        >>> method = Imitation(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.num_teacher_epochs(20), method.is_selectable
        (10, False)
        >>> any(p.requires_grad for p in method.teachers.parameters())
        False
    """

    #: The stage that has begun: 0 while the teachers are trained.
    is_taught: Tensor
    stage_buffer = "is_taught"

    def __init__(
        self,
        *,
        teacher_epochs: int | None = None,
        teachers: str | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            teacher_epochs: Epochs that train the teachers, part of trainer.max_epochs; None for
                half of these.
            teachers: Folder of a finished run of method=unimodal, in place of such epochs.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If both are given, or the number of epochs is below 1.
        """
        if teachers is not None and teacher_epochs is not None:
            raise ConfigError(
                f"method.teacher_epochs={teacher_epochs} has no effect with method.teachers, which "
                "are trained already. Leave one of them out."
            )
        if teacher_epochs is not None and teacher_epochs < 1:
            raise ConfigError(f"method.teacher_epochs must be >= 1, got {teacher_epochs}")
        drawn = torch.get_rng_state()
        super().__init__(**parts)
        self.teacher_epochs, self.teachers_folder = teacher_epochs, teachers
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(drawn)  # the heads of method=unimodal are drawn after the encoders
            #: The heads that are trained with the encoders to become teachers.
            self.trainee = replace(self.parts, fusion=LateFusion).build_fusion()
        networks = {"encoders": deepcopy(self.encoders), "fusion": deepcopy(self.trainee)}
        self.teachers = nn.ModuleDict(networks)
        self.teachers.requires_grad_(False)
        self.teachers.eval()
        if teachers is not None:
            del self.trainee
        num_modalities = len(self.modalities)
        # As bits, since modules are converted to other precisions, and compared bit for bit.
        self.score_bits: Tensor
        self.register_buffer("score_bits", torch.zeros(num_modalities, dtype=torch.long))
        #: Each teacher's epoch, from 1; 0 if there is none yet.
        self.best_epochs: Tensor
        self.register_buffer("best_epochs", torch.zeros(num_modalities, dtype=torch.long))
        self._initial: dict[str, Tensor] = {}

    # ------------------------------------------------------------------ what a method defines

    def fit_student(self, batch: Batch) -> dict[str, Tensor]:
        """Train the student on one batch, as ``fit_batch`` of other methods.

        Args:
            batch: The batch.

        Returns:
            The losses to report by name.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define fit_student")

    def start_student(self) -> None:
        """Prepare the student, whose weights are the initial ones; called once, by default no-op.

        The teachers are known; a rule may copy their weights.
        """

    # ------------------------------------------------------------------ what a method uses

    def stage_of(self, epoch: int) -> int:
        """Return 0 for epochs of the teachers, 1 for the student's, whose stages begin with 1."""
        return int(epoch >= self.num_teacher_epochs(self.trainer.max_epochs or 0))

    def num_teacher_epochs(self, num_epochs: int) -> int:
        """Return the number of epochs of a run that train the teachers.

        Args:
            num_epochs: All epochs of the run.
        """
        if self.teachers_folder is not None:
            return 0
        return num_epochs // 2 if self.teacher_epochs is None else self.teacher_epochs

    def shared_epochs_of(self, num_epochs: int) -> int:
        """Return the number of first epochs that other runs may share: those of the teachers."""
        return self.num_teacher_epochs(num_epochs)

    @property
    def student_epoch(self) -> int:
        """The student's epoch, from 0."""
        return self.current_epoch - self.num_teacher_epochs(self.trainer.max_epochs or 0)

    @property
    def num_student_epochs(self) -> int:
        """Number of epochs that train the student."""
        num_epochs = self.trainer.max_epochs or 0
        return num_epochs - self.num_teacher_epochs(num_epochs)

    @torch.no_grad()
    def teacher_features(self, chunk: Batch) -> dict[str, Tensor]:
        """Encode a batch with the teachers' encoders.

        Args:
            chunk: The batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m), zeros where it is absent.
        """
        encoders = self.teachers["encoders"].items()  # type: ignore[operator]
        return {name: self.encode_by(encoder, name, chunk) for name, encoder in encoders}

    @torch.no_grad()
    def teacher_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the teachers' logits of their features.

        Args:
            features: Modality -> feature (B, D_m) of :meth:`teacher_features`.

        Returns:
            Modality -> logits (B, C).
        """
        logits: dict[str, Tensor] = self.teachers["fusion"].unimodal(features)  # type: ignore[operator]
        return logits

    def distances(
        self,
        chunk: Batch,
        distance: Callable[[Tensor, Tensor], Tensor],
        own: Mapping[str, Tensor],
        taught: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Compute distances to what the teachers say of the samples that have their modality.

        Args:
            chunk: The batch or a chunk of one.
            distance: Computes the mean over samples of a distance of the student to a teacher.
            own: Modality -> what is the student's (B, ...).
            taught: Modality -> what is the teacher's (B, ...).

        Returns:
            Modality -> distance, which counts in a chunk like the losses of
            :meth:`~mla_lightning.parts.Parts.unimodal_losses`; without modalities that no sample
            has.
        """
        if self.parts.is_complete:
            return {name: distance(own[name], taught[name]) for name in self.modalities}
        found = {}
        for name in self.modalities:
            has = chunk["present"][name]
            if bool(has.any()):
                value = distance(own[name][has], taught[name][has])
                found[name] = value * relative_share(chunk, name)
            elif ranks.world_size() > 1 and bool(chunk["present_in_batch"][name].any()):
                found[name] = own[name][has].sum()
        return found

    def take_teachers(self, teachers: Mapping[str, tuple[Any, ...]]) -> None:
        """Take teachers that are trained already.

        Args:
            teachers: Modality -> :class:`Teacher`, or a tuple of its fields.
        """
        for name in self.modalities:
            self._teach(name, Teacher(*teachers[name]))

    @property
    def teacher_scores(self) -> list[float]:
        """Each teacher's score on validation, by the metric that selects epochs."""
        scores: list[float] = self.score_bits.cpu().view(torch.float64).tolist()
        return scores

    def _teach(self, name: str, teacher: Teacher) -> None:
        """Make a model the teacher of its modality."""
        networks: Any = self.teachers
        networks["encoders"][name].load_state_dict(teacher.encoder)
        networks["fusion"].heads[name].load_state_dict(teacher.head)
        row = self.modalities.index(name)
        self.score_bits[row] = torch.tensor(teacher.score, dtype=torch.float64).view(torch.long)
        self.best_epochs[row] = teacher.epoch

    # ------------------------------------------------------------------ the stage of the teachers

    @property
    def is_selectable(self) -> bool:
        """Return whether the epoch may be selected: true once the student is trained."""
        return bool(self.is_taught)

    def setup(self, stage: str) -> None:
        """Prepare as every method, and remember the initial weights."""
        super().setup(stage)
        if stage == "fit" and not bool(self.is_taught):
            self._initial = {k: v.detach().clone() for k, v in self.encoders.state_dict().items()}

    def train(self, mode: bool = True) -> Any:
        """Set the training mode of everything but the teachers."""
        super().train(mode)
        if hasattr(self, "teachers"):
            self.teachers.eval()
        return self

    def on_train_start(self) -> None:
        """Check that there are teachers and epochs of the student."""
        super().on_train_start()
        num_epochs = self.trainer.max_epochs or 0
        if self.teachers_folder is not None:
            if not bool(self.best_epochs.all()):
                raise ConfigError(
                    f"The teachers of {self.teachers_folder} were not loaded: use `mla train`, or "
                    "call take_teachers."
                )
        elif not 1 <= self.num_teacher_epochs(num_epochs) < num_epochs:
            chosen = "half" if self.teacher_epochs is None else self.teacher_epochs
            raise ConfigError(
                f"method.teacher_epochs={chosen} of trainer.max_epochs={num_epochs}: both the "
                "teachers and the student need an epoch"
            )

    def begin_stage(self, stage: int) -> None:
        """Start the student at its first epoch."""
        if stage != 1:
            return
        self.encoders.load_state_dict(self._initial)
        self._initial = {}
        if self.teachers_folder is None:
            self.trainee.load_state_dict(self.teachers["fusion"].state_dict())
        self.start_student()

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take a step of the teachers-to-be, each on its own loss, or train the student."""
        if bool(self.is_taught):
            return self.fit_student(batch)
        return self.step_on(
            batch,
            lambda chunk: self.parts.unimodal_losses(
                self.trainee.unimodal(self.features(chunk)), chunk
            ),
        )

    def clipped_groups(self) -> list[list[nn.Parameter]]:
        """Return a group per modality while the teachers are trained, as in unimodal training."""
        if bool(self.is_taught):
            return super().clipped_groups()
        heads: Any = self.trainee.heads
        return [[*self.encoders[m].parameters(), *heads[m].parameters()] for m in self.modalities]

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the student's logits, or those of the teachers-to-be while they are trained."""
        if bool(self.is_taught) or self.teachers_folder is not None:
            return super().logits(features, present)
        return {MULTI: self.trainee(features, present), **self.trainee.unimodal(features)}

    def on_train_epoch_end(self) -> None:
        """End the epoch, and keep the models that are the best so far by validation."""
        super().on_train_epoch_end()
        if bool(self.is_taught):
            return
        selection = self.parts.selection
        for row, name in enumerate(self.modalities):
            score, best = validation_score(self, name, "Teachers"), self.teacher_scores[row]
            if not int(self.best_epochs[row]) or selection.is_better(score, best):
                heads: Any = self.trainee.heads
                weights = self.encoders[name].state_dict(), heads[name].state_dict()
                self._teach(name, Teacher(*weights, score, self.current_epoch + 1))

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the initial weights while the teachers are trained."""
        super().on_save_checkpoint(checkpoint)
        if self._initial:
            checkpoint[_INITIAL] = self._initial

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the initial weights; complete a checkpoint that has the teachers alone."""
        super().on_load_checkpoint(checkpoint)
        if not checkpoint.pop(_OF_TEACHERS, False):
            self._initial = checkpoint.get(_INITIAL, {})
        else:
            checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
            (group,) = checkpoint["optimizer_states"][0]["param_groups"]
            group["params"] = list(range(len(list(self.trained_parameters()))))

    def stage_content(self, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
        """Return of a checkpoint what runs share after the teachers' training.

        Args:
            checkpoint: The checkpoint of the stage's end.

        Returns:
            The checkpoint without the student, whose form depends on the method; None if an
            optimiser with several groups of parameters cannot be carried over.
        """
        (optimizer,) = checkpoint["optimizer_states"]
        if len(optimizer["param_groups"]) != 1:
            return None
        kept = ("teachers.", "score_bits", "best_epochs")
        state = {k: v for k, v in checkpoint["state_dict"].items() if k.startswith(kept)}
        content = {k: v for k, v in checkpoint.items() if k != _INITIAL}
        optimizers = [{**optimizer, "state": {}}]
        return content | {
            "state_dict": state,
            "optimizer_states": optimizers,
            _OF_TEACHERS: True,
        }

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the optimiser: all but the teachers'."""
        teachers = set(self.teachers.parameters())
        return [p for p in self.parameters() if p not in teachers]
