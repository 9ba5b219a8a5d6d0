"""Gradients of some of a step's losses alone, beside the gradient of their sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.module import MultimodalModule


class GradientsApart:
    """The gradients of some losses with respect to some parameters, over a whole batch.

    ``step_on`` computes the gradient of the sum of all losses. A rule that needs the parts of this
    sum adds the losses of one part here, within ``losses_of``; what remains of the sum is the
    other part. So two parts cost two backward passes, of as many chunks as there are. The
    gradients are unscaled and summed over ranks, as those of ``step_on`` are in ``edit_grads``.

    Example:
        The gradient of w in ``3 w + 5 w``, and of the first summand alone:

        >>> class Parts(MultimodalModule):
        ...     def fit_batch(self, batch):
        ...         w = self.fusion.head.bias
        ...         apart = GradientsApart(self, {"bias": [w]})
        ...
        ...         def losses_of(chunk):
        ...             first, second = 3 * w.sum(), 5 * w.sum()
        ...             apart.add([first], chunk)
        ...             return {"first": first, "second": second}
        ...
        ...         def edit():
        ...             (of_first,) = apart.gradients()["bias"]  # 3; w.grad is 8
        ...
        ...         return self.step_on(batch, losses_of, edit_grads=edit)
    """

    def __init__(
        self, module: MultimodalModule, parameters: Mapping[str, Sequence[nn.Parameter]]
    ) -> None:
        """Start with gradients of zero.

        Args:
            module: The module that takes the step.
            parameters: Name, such as a modality -> parameters.
        """
        self._parameters = {name: list(of_name) for name, of_name in parameters.items()}
        self._all = [p for of_name in self._parameters.values() for p in of_name]
        self._sums = [torch.zeros_like(p) for p in self._all]
        self._scaler = getattr(module.trainer.precision_plugin, "scaler", None)

    def add(self, losses: Iterable[Tensor], chunk: Batch) -> None:
        """Add the gradients of losses of a chunk.

        Args:
            losses: The losses, each a mean over the chunk as ``step_on`` takes it.
            chunk: The chunk, which counts by its fraction of the batch.
        """
        loss = reduce(add, losses) * (len(chunk["label"]) / num_in_batch(chunk))
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        gradients = torch.autograd.grad(loss, self._all, retain_graph=True, allow_unused=True)
        for sum_, gradient in zip(self._sums, gradients, strict=True):
            if gradient is not None:
                sum_ += gradient

    def gradients(self) -> dict[str, list[Tensor]]:
        """Return name -> gradients over the whole batch, in the order of the parameters."""
        inverse = 1.0 if self._scaler is None else 1.0 / self._scaler.get_scale()
        if not self._all:
            return {name: [] for name in self._parameters}
        flat = torch.cat([sum_.flatten() for sum_ in self._sums])
        flat = ranks.total(flat) * inverse
        parts = iter(flat.split([p.numel() for p in self._all]))
        return {
            name: [next(parts).view_as(p) for p in of_name]
            for name, of_name in self._parameters.items()
        }
