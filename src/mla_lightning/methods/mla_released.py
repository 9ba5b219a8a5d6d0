"""MLA as its released code trains and fuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor
from torch.optim import Optimizer

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.methods.mla import MLA
from mla_lightning.parts import Composition

#: Test-time weights that the code fixes, by number of modalities, in the order of the steps.
FIXED_WEIGHTS = {2: (0.55, 0.45), 3: (0.35, 0.25, 0.40)}


class MLAReleased(MLA):
    """Alternating steps without any projection, with fixed or batch-dependent fusion.

    The released plug-in looks for a parameter named ``module.weight``, but the head's is named
    ``weight``, so no gradient is ever projected. Logits are fused with fixed weights by default.
    With ``df=true`` they are fused with one weight per modality for the whole batch, from a softmax
    over the batch axis, so accuracy depends on how the test set is split into batches.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> method = MLAReleased(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> method.projectors
        {}
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> fixed = 0.55 * logits["audio"] + 0.45 * logits["visual"]
        >>> torch.allclose(logits["multi"], fixed, atol=1e-6)
        True
    """

    def __init__(
        self,
        *,
        df: bool = False,
        legacy_zero_grad: bool = True,
        order: Sequence[str] | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            df: Whether logits are fused by the code's "dynamic" rule, not by its fixed weights.
            legacy_zero_grad: Whether gradients are cleared to zero and not to None, as in the torch
                version that the code pins. Encoders already trained in a batch are then updated
                again by momentum and weight decay while the others are trained.
            order: The modalities in the order of their steps; the data's order by default.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one shared head.

        Raises:
            ConfigError: If the code has no fixed weights for this number of modalities.
        """
        modalities = list(parts["encoders"])
        number = len(modalities)
        if number not in FIXED_WEIGHTS and not df:
            raise ConfigError(
                f"The released code has fixed weights for 2 or 3 modalities, not for {number}. "
                "Use method.df=true, or method=mla."
            )
        by_name = dict(zip(order or modalities, FIXED_WEIGHTS.get(number, ()), strict=False))
        super().__init__(
            hgm=False,
            df=df,
            order=order,
            dynamic_weighting="batch_entropy" if df else "entropy",
            static_weighting="mean" if df else [by_name[m] for m in modalities if m in by_name],
            **parts,
        )
        self.legacy_zero_grad = legacy_zero_grad

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality, with gradients that are None at the start of the batch."""
        self.trainer.optimizers[0].zero_grad(set_to_none=True)
        return super().fit_batch(batch)

    def _clear_grads(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=not self.legacy_zero_grad)
