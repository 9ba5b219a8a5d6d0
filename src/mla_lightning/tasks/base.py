"""Interface of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Task(nn.Module, ABC):
    """Base class of tasks: functions of a head's outputs and of labels.

    Its numbers of the training split, such as class weights, are buffers, so that they are saved in
    checkpoints and moved between devices.

    Example:
        A task whose head counts events, with the loss of a Poisson regression:

        >>> class Counts(Task):
        ...     name = "regression"
        ...
        ...     def sample_losses(self, logits, label):
        ...         return logits[:, 0].exp() - label * logits[:, 0]
        ...
        ...     def constant_logits(self, label, num_outputs):
        ...         return label.mean()[None].log()
        ...
        ...     def in_target_unit(self, logits):
        ...         return logits.exp()
        >>> Counts().loss(torch.zeros(2, 1), torch.tensor([1.0, 3.0]))
        tensor(1.)
    """

    #: Which of the tasks of :mod:`mla_lightning.run_folder.tasks` it is: that of its data.
    name: str
    #: Whether a sample has one of several classes.
    has_classes = False
    #: Whether outputs have an energy, for :meth:`confidence`.
    has_energy = True
    #: Whether the entropy of a prediction needs the modality's variance of the residuals.
    has_residual_variance = False

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the loss, a mean over the samples; with class weights a weighted mean.

        Args:
            logits: Outputs of a head (B, C).
            label: Labels (B,), or (B, L) of several labels.

        Returns:
            The loss, a scalar.
        """
        return self.sample_losses(logits, label).mean()

    @abstractmethod
    def sample_losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the loss of each sample, without class weights.

        Args:
            logits: Outputs of a head (B, C).
            label: Labels (B,), or (B, L) of several labels.

        Returns:
            Losses (B,).
        """

    def sample_weights(self, label: Tensor) -> Tensor | None:
        """Return the weight of each sample in the mean of :meth:`loss`; None if all are equal.

        Args:
            label: Labels (B,).
        """
        return None

    def entropies(self, logits: Tensor, variance: Tensor | None = None) -> Tensor:
        """Compute the entropy of each modality's predictions, for weights by uncertainty.

        Args:
            logits: Each modality's own outputs (M, B, C).
            variance: Each modality's variance of the residuals (M,), for tasks with
                ``has_residual_variance``.

        Returns:
            Entropies (M, B), in nats.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no entropy of a prediction")

    def confidence(self, logits: Tensor) -> Tensor:
        """Compute the energy confidence of one modality's outputs, as QMF weights logits by it.

        Args:
            logits: Outputs of a head (B, C).

        Returns:
            Confidences (B,).
        """
        raise NotImplementedError(f"{type(self).__name__} defines no energy of a prediction")

    def likelihoods(self, logits: Tensor, label: Tensor) -> Tensor:
        r"""Sum each modality's :math:`\exp(-\ell_n)` over the batch, the score of OGM-GE.

        :math:`\ell_n` is the loss of sample n. For classification :math:`\exp(-\ell_n)` is the
        probability of the true class, which is the paper's score.

        Args:
            logits: Each modality's own outputs (M, B, C).
            label: Labels (B,), or (B, L) of several labels.

        Returns:
            Scores (M,), in [0, B].
        """
        return torch.stack([(-self.sample_losses(z, label)).exp().sum() for z in logits])

    @abstractmethod
    def constant_logits(self, label: Tensor, num_outputs: int) -> Tensor:
        """Compute the outputs (C,) of the best constant prediction, which uses no input.

        Args:
            label: Labels (N,), or (N, L) of several labels, of the training samples.
            num_outputs: Number of outputs C of a head.
        """

    def in_target_unit(self, logits: Tensor) -> Tensor:
        """Convert a head's outputs to what is recorded: predictions in the target's own unit.

        Args:
            logits: Outputs of a head (B, C).

        Returns:
            The outputs themselves, unless the target was standardised.
        """
        return logits

    def squared_residuals(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the squared residual of each sample, for tasks with ``has_residual_variance``.

        Args:
            logits: Outputs of a head (B, C).
            label: Labels (B,).

        Returns:
            Squared residuals (B,).
        """
        raise NotImplementedError(f"{type(self).__name__} has no residuals")
