"""Batch normalisation with the statistics of the samples of all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from mla_lightning.errors import ConfigError
from mla_lightning.ranks.collectives import stacked, total, world_size

#: Whether the samples of this rank count in the statistics; see :func:`without_samples`.
_counts = True


@contextmanager
def without_samples() -> Iterator[None]:
    """Let a rank without samples take part in the statistics of the others.

    Within the context its inputs are normalised, but count nowhere: neither in the statistics nor
    in the gradients of the others' samples.
    """
    global _counts
    before, _counts = _counts, False
    try:
        yield
    finally:
        _counts = before


class SynchronisedBatchNorm(_BatchNorm):
    """A batch normalisation whose statistics are those of the whole batch, that of all ranks.

    It equals torch's on the whole batch, in its outputs, running statistics and gradients, with
    parts of any sizes. The variances of the ranks are combined from means and sums of squared
    deviations (Chan et al., "Algorithms for computing the sample variance", 1983), in float32 at
    least. One message per layer forward and one backward, on CPUs as on GPUs.

    Layers become synchronised by :func:`synchronise_batch_norms`; names and values of their
    parameters and buffers do not change, so checkpoints are those of a single process.
    """

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Normalise the samples of this rank."""
        self._check_input_dim(input)
        if not self.training or world_size() == 1:
            return super().forward(input)
        num_own = input.numel() // input.shape[1] if _counts else 0
        mean, variance, count = _statistics(input.detach(), num_own)
        if num_own < 2 and int(count) < 2:  # otherwise there are two without a look at the device
            if not int(count):  # of a chunk: no rank has a sample, so nothing is learnt
                return batch_norm(
                    input, self.running_mean, self.running_var, self.weight, self.bias
                )
            raise ValueError(
                "Expected more than 1 value per channel when training, got one on all devices"
            )
        self._update(mean, variance, count)
        scale = (variance + self.eps).rsqrt()
        output: Tensor = _Normalise.apply(
            input, self.weight, self.bias, mean, scale, count, num_own > 0
        )
        return output

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards those of the batch, as torch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor: Any = self.momentum
        if factor is None:
            factor = 1.0 / self.num_batches_tracked.to(mean)
        unbiased = variance * (count / (count - 1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.copy_(running * (1 - factor) + value.to(running) * factor)


class _Synchronised1d(SynchronisedBatchNorm, nn.BatchNorm1d):
    pass


class _Synchronised2d(SynchronisedBatchNorm, nn.BatchNorm2d):
    pass


class _Synchronised3d(SynchronisedBatchNorm, nn.BatchNorm3d):
    pass


#: Class of a layer -> the synchronised one.
_SYNCHRONISED: dict[type, type] = {
    nn.BatchNorm1d: _Synchronised1d,
    nn.BatchNorm2d: _Synchronised2d,
    nn.BatchNorm3d: _Synchronised3d,
}


def _statistics(x: Tensor, num_own: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean, biased variance (C,) and number of values per channel of all ranks."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    shape, axes = _broadcast(x)
    own_mean = x.mean(dim=axes) if num_own else x.new_zeros(x.shape[1])
    squares = (x - own_mean.view(shape)).square().sum(dim=axes) if num_own else own_mean
    of_ranks = stacked(torch.cat([own_mean.new_full((1,), num_own), own_mean, squares]))
    count_R1 = of_ranks[:, :1]
    mean_RC, squares_RC = of_ranks[:, 1:].chunk(2, dim=1)
    count = count_R1.sum()
    mean = (count_R1 * mean_RC).sum(dim=0) / count
    deviation_RC = squares_RC + count_R1 * (mean_RC - mean).square()
    return mean, deviation_RC.sum(dim=0) / count, count


def _broadcast(x: Tensor) -> tuple[tuple[int, ...], list[int]]:
    """Return the shape in which a value per channel is broadcast, and the other axes."""
    return (1, -1, *[1] * (x.ndim - 2)), [axis for axis in range(x.ndim) if axis != 1]


class _Normalise(torch.autograd.Function):
    """Normalisation by statistics that depend on the inputs of all ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        count: Tensor,
        counts: bool,
    ) -> Tensor:
        shape, _ = _broadcast(x)
        output = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        if weight is not None:
            output = output * weight.to(output).view(shape)
        if bias is not None:
            output = output + bias.to(output).view(shape)
        ctx.save_for_backward(x, weight, bias, mean, scale, count)
        ctx.counts = counts
        return output.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, count = ctx.saved_tensors
        shape, axes = _broadcast(x)
        gradient = output_gradient.to(mean.dtype)
        if not ctx.counts:
            gradient = torch.zeros_like(gradient)
        normalised = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        own_sums = torch.cat([gradient.sum(dim=axes), (gradient * normalised).sum(dim=axes)])
        if not ctx.counts:
            own_sums.zero_()  # also where an input without meaning is not finite
        mean_gradient, mean_product = (total(own_sums) / count).chunk(2)
        own_bias, own_weight = own_sums.chunk(2)
        factor = scale if weight is None else scale * weight.to(scale)
        centred = gradient - mean_gradient.view(shape) - normalised * mean_product.view(shape)
        inputs = centred * factor.view(shape) if ctx.counts else torch.zeros_like(gradient)
        return (
            inputs.to(x.dtype),
            None if weight is None else own_weight.to(weight),
            None if bias is None else own_bias.to(bias),
            *(None,) * 4,
        )


def synchronise_batch_norms(module: nn.Module) -> None:
    """Let every batch normalisation of a module use the statistics of all ranks.

    The layers stay the same objects, with the same parameters, buffers and names.

    Args:
        module: The module, changed in place.

    Raises:
        ConfigError: As :func:`check_batch_norms`.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> synchronise_batch_norms(network)
        >>> isinstance(network[1], nn.BatchNorm1d), isinstance(network[1], SynchronisedBatchNorm)
        (True, True)
    """
    check_batch_norms(module)
    for layer in module.modules():
        if type(layer) in _SYNCHRONISED:
            layer.__class__ = _SYNCHRONISED[type(layer)]


def is_synchronised(module: nn.Module) -> bool:
    """Return whether a module has a synchronised layer that computes statistics of its batch.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(2))
        >>> synchronise_batch_norms(network)
        >>> is_synchronised(network), is_synchronised(network.eval())
        (True, False)
    """
    return any(
        isinstance(layer, SynchronisedBatchNorm) and layer.training for layer in module.modules()
    )


def check_batch_norms(module: nn.Module) -> None:
    """Check that the batch normalisations of a module can be those of several ranks.

    Args:
        module: The module.

    Raises:
        ConfigError: If one is of another class than torch's three, or has no running statistics.

    Example:
        >>> check_batch_norms(nn.BatchNorm1d(2, track_running_stats=False))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: trainer.devices: layer '' is a BatchNorm1d without running
        statistics: in evaluation its outputs depend on how a split is cut into batches. ...
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, _BatchNorm) or isinstance(layer, SynchronisedBatchNorm):
            continue
        kind = type(layer).__name__
        if type(layer) not in _SYNCHRONISED:
            raise ConfigError(
                f"trainer.devices: layer '{name}' is a {kind}, whose statistics cannot be those of "
                "all devices. Use torch's BatchNorm1d, BatchNorm2d or BatchNorm3d, or one device."
            )
        if layer.running_mean is None:
            raise ConfigError(
                f"trainer.devices: layer '{name}' is a {kind} without running statistics: in "
                "evaluation its outputs depend on how a split is cut into batches. Use "
                "track_running_stats=True, or one device."
            )


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Return the running statistics of every batch normalisation of a module that changes them.

    Args:
        module: The module.

    Returns:
        Means, variances and numbers of batches, in the order of the layers.

    Example:
        >>> [tensor.shape for tensor in running_statistics(nn.BatchNorm1d(2))]
        [torch.Size([2]), torch.Size([2]), torch.Size([])]
    """
    return [
        buffer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.training
        for buffer in layer.buffers(recurse=False)
    ]
