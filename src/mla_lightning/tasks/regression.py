"""Regression: one number per sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss, smooth_l1_loss

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import at_least_single, gaussian_entropies
from mla_lightning.run_folder.tasks import REGRESSION
from mla_lightning.tasks.base import Task

#: Value of ``task.loss`` -> the loss.
ERRORS: dict[str, Callable[..., Tensor]] = {
    "mse": mse_loss,
    "l1": l1_loss,
    "smooth_l1": smooth_l1_loss,
}


class Regression(Task):
    r"""The error of one number, which a head learns standardised.

    A head's output z stands for the prediction :math:`\mu + \sigma z` with mean and deviation of
    the target on train, so learning rates do not depend on the target's unit.

    The uncertainty of a modality is the entropy of a normal distribution around its prediction,
    whose variance is the modality's mean squared residual on train. It is the same for all samples,
    and a softmax of negative entropies is proportional to :math:`1 / \sigma_m`: the modality with
    the smaller residuals has the larger weight.

    Example:
        >>> task = Regression(mean=10.0, std=2.0)
        >>> logits, label = torch.tensor([[1.0], [0.0]]), torch.tensor([12.0, 13.0])
        >>> task.in_target_unit(logits).tolist()
        [[12.0], [10.0]]
        >>> task.loss(logits, label)  # standardised targets of 1 and 1.5
        tensor(1.1250)
        >>> Regression("l1", mean=10.0, std=2.0).loss(logits, label)
        tensor(0.7500)
    """

    name = REGRESSION
    has_energy = False
    has_residual_variance = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        loss: Literal["mse", "l1", "smooth_l1"] = "mse",
        *,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        """Store mean and deviation of the target.

        Args:
            loss: ``mse``, the mean squared error; ``l1``, the mean absolute error; ``smooth_l1``,
                squared below a standardised error of 1 and absolute above. All are of the
                standardised target.
            mean: Mean of the target on train.
            std: Its standard deviation on train, > 0.

        Raises:
            ConfigError: If the loss is unknown or the deviation is not positive.
        """
        super().__init__()
        if loss not in ERRORS:
            raise ConfigError(
                f"task.loss={loss!r} is unknown.{near(loss, ERRORS)} Known: {', '.join(ERRORS)}"
            )
        if not std > 0:
            raise ConfigError(f"The deviation of the target must be > 0, got {std}")
        self.error = ERRORS[loss]
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def standardised(self, label: Tensor) -> Tensor:
        """Return targets (B,) minus their mean on train, divided by their deviation."""
        return (label - self.mean) / self.std

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the error of the standardised target, a mean over the samples."""
        return self._error(logits, label)

    def sample_losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the error of the standardised target of each sample."""
        return self._error(logits, label, reduction="none")

    def _error(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        z = at_least_single(logits[..., 0])
        return self.error(z, self.standardised(label).to(z.dtype), **options)

    def constant_logits(self, label: Tensor, num_outputs: int) -> Tensor:
        """Return the median, standardised: the constant of the smallest mean absolute error.

        Of an even number of samples it is the lower one of the two in the middle.
        """
        return self.standardised(label.double()).median()[None]

    def entropies(self, logits: Tensor, variance: Tensor | None = None) -> Tensor:
        """Compute the entropy of normal distributions with the modalities' residual variances."""
        assert variance is not None
        return gaussian_entropies(variance)[:, None].expand(logits.shape[:2])

    def in_target_unit(self, logits: Tensor) -> Tensor:
        """Convert standardised outputs to the target's own unit."""
        return at_least_single(logits) * self.std + self.mean

    def squared_residuals(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the squared residual of each sample's standardised target."""
        return (at_least_single(logits[..., 0]) - self.standardised(label)).square()
