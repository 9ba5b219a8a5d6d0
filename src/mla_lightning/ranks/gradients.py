"""Weights and gradients of all ranks, in one message each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mla_lightning.ranks.collectives import largest, on_wire, world_size


def sum_gradients(
    parameters: Sequence[nn.Parameter], means: Sequence[Tensor] = (), numbers: Sequence[int] = ()
) -> list[int]:
    """Replace gradients by their sums over ranks.

    A parameter that no rank has a gradient for keeps none. One that some ranks have a gradient for
    gets the sum on every rank. Which they are is found out first, in a message of one number per
    parameter; all gradients are then sent together.

    Args:
        parameters: The parameters, in the same order on every rank.
        means: Tensors that are replaced by their means over ranks; of whole numbers, by the largest
            one.
        numbers: Further whole numbers, which cost no message of their own.

    Returns:
        For each number, the largest one of any rank.

    Example:
        In a single process nothing changes:

        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.ones(2)
        >>> sum_gradients([weight], numbers=[3, 0]), weight.grad
        ([3, 0], tensor([1., 1.]))
    """
    if world_size() == 1:
        return list(numbers)
    device = parameters[0].device
    has_gradient = [parameter.grad is not None for parameter in parameters]
    own_numbers = torch.tensor([*has_gradient, *numbers], dtype=torch.int64).to(device)
    counts = [mean for mean in means if not mean.is_floating_point()]
    flat_counts = [count.reshape(-1).long() for count in counts]
    agreed = largest(torch.cat([own_numbers, *flat_counts]))
    position = len(own_numbers)
    for count in counts:
        count.copy_(agreed[position : position + count.numel()].view_as(count))
        position += count.numel()
    largest_numbers = agreed[: len(own_numbers)].tolist()
    summed: list[Tensor] = []
    for parameter, is_needed in zip(parameters, largest_numbers, strict=False):
        if is_needed:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            summed.append(parameter.grad)
    summed += [mean.div_(world_size()) for mean in means if mean.is_floating_point()]
    _replace(summed, dist.all_reduce)
    return largest_numbers[len(parameters) :]


def copy_from_first(module: nn.Module) -> None:
    """Replace the weights and buffers of a module by those of the first rank.

    Ranks build the same weights from the seed, but a class of the user may draw numbers elsewhere.

    Args:
        module: The module, of the same classes on every rank.

    Example:
        >>> copy_from_first(nn.Linear(2, 3))  # in a single process nothing changes
    """
    if world_size() > 1:
        _replace([*module.parameters(), *module.buffers()], lambda x: dist.broadcast(x, src=0))


@torch.no_grad()
def _replace(tensors: Iterable[Tensor], send: Callable[[Tensor], object]) -> None:
    """Replace tensors by what a message makes of them, in one message per type of number."""
    by_type = sorted(tensors, key=lambda tensor: str(tensor.dtype))
    for _, group in groupby(by_type, key=lambda tensor: tensor.dtype):
        same_type = list(group)
        flat = on_wire(torch.cat([tensor.reshape(-1) for tensor in same_type]))
        send(flat)
        pieces = flat.split([tensor.numel() for tensor in same_type])
        for tensor, piece in zip(same_type, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))
