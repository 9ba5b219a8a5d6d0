"""MLA as its public code trains and fuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor
from torch.optim import Optimizer

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.methods.mla import MLA
from mla_lightning.parts import Composition

#: Test-time weights fixed in the code, by number of modalities, in the order of the steps.
FIXED_WEIGHTS = {2: (0.55, 0.45), 3: (0.35, 0.25, 0.40)}


class MLAReleased(MLA):
    """Alternating steps without any projection; fixed or batch-dependent fusion.

    The released plug-in looks for a parameter called ``module.weight`` and the head's is called
    ``weight``, so no gradient is ever projected. Logits are fused with fixed weights by default;
    with ``df=true`` by one scalar per modality for the whole batch, from a softmax over the batch
    axis, so accuracy depends on how the test set is cut into batches.
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
            df: Fuse by the code's "dynamic" rule instead of its fixed weights.
            legacy_zero_grad: Clear gradients to zero instead of None, as the torch version that the
                code pins does: encoders already trained in a batch are moved again by momentum and
                weight decay while the others train.
            order: The modalities in the order of their steps; the data's order by default.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must have one shared head.

        Raises:
            ConfigError: If the code has no fixed weights for so many modalities.
        """
        number = len(parts["encoders"])
        if number not in FIXED_WEIGHTS and not df:
            raise ConfigError(
                f"The released code has fixed weights for 2 or 3 modalities, not for {number}. "
                "Use method.df=true, or method=mla."
            )
        modalities = list(parts["encoders"])
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
        """Take one step per modality, starting from gradients that are None."""
        self.trainer.optimizers[0].zero_grad(set_to_none=True)
        return super().fit_batch(batch)

    def _clear_grads(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=not self.legacy_zero_grad)
