"""Sums and gathers over ranks, with the same bits on every rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks; 1 without a process group.

    Example:
        >>> world_size(), rank(), is_first()
        (1, 0, True)
    """
    return dist.get_world_size() if _is_grouped() else 1


def rank() -> int:
    """Return the number of this process among the ranks, from 0."""
    return dist.get_rank() if _is_grouped() else 0


def is_first() -> bool:
    """Return whether this is rank 0, which alone writes files; true in a single process."""
    return rank() == 0


def leave() -> None:
    """End the process group: from now on this process is a single one, such as for evaluation."""
    if _is_grouped():
        dist.destroy_process_group()


def part_of(rows: Tensor) -> Tensor:
    """Return this rank's part of the rows of a whole batch.

    The parts are those of ``tensor_split``: contiguous, in the order of the ranks, and with sizes
    that differ by one at most.

    Args:
        rows: Rows of a batch, the same on every rank, (B, ...).

    Returns:
        The rows of this rank (B_r, ...), which may be none.

    Example:
        >>> part_of(torch.arange(3))  # in a single process
        tensor([0, 1, 2])
    """
    count = world_size()
    return rows if count == 1 else rows.tensor_split(count)[rank()]


def total(x: Tensor) -> Tensor:
    """Sum a tensor over ranks.

    Args:
        x: A tensor of the same shape and type on every rank.

    Returns:
        The sum, without graph, the same bits on every rank; ``x`` itself in a single process.

    Example:
        >>> total(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if world_size() == 1:
        return x
    summed = on_wire(x.detach()).clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed)
    return summed.to(x.device)


def any_rank(value: bool) -> bool:
    """Return whether a value is true on some rank.

    Example:
        >>> any_rank(False)
        False
    """
    if world_size() == 1:
        return value
    return bool(largest(torch.tensor([value]).int())[0])


def largest(numbers: Tensor) -> Tensor:
    """Return the elementwise maximum over ranks of whole numbers, on their device.

    Example:
        >>> largest(torch.tensor([2, 0]))
        tensor([2, 0])
    """
    if world_size() == 1:
        return numbers
    numbers_of_all = on_wire(numbers).clone()
    dist.all_reduce(numbers_of_all, op=dist.ReduceOp.MAX)
    return numbers_of_all.to(numbers.device)


def gathered(rows: Tensor) -> Tensor:
    """Join the rows of all ranks, in the order of the ranks.

    Args:
        rows: Rows of this rank (B_r, ...), without graph; B_r may differ and be 0, the other axes
            and the type may not.

    Returns:
        All rows (sum of B_r, ...); ``rows`` itself in a single process.

    Example:
        >>> gathered(torch.tensor([[1.0], [2.0]]))
        tensor([[1.],
                [2.]])
    """
    return rows if world_size() == 1 else torch.cat(_blocks(rows))


def gathered_with_gradient(rows: Tensor) -> Tensor:
    """Join the rows of all ranks; those of this rank keep their graph.

    If every rank computes the same loss from all rows, the sum of the ranks' gradients is the
    gradient of that loss. See :func:`once` for its value.

    Args:
        rows: Rows of this rank (B_r, ...).

    Returns:
        All rows (sum of B_r, ...).

    Example:
        >>> x = torch.tensor([[1.0], [2.0]], requires_grad=True)
        >>> gathered_with_gradient(x).sum().backward()
        >>> x.grad.flatten()
        tensor([1., 1.])
    """
    if world_size() == 1:
        return rows
    blocks = _blocks(rows.detach())
    blocks[rank()] = rows
    return torch.cat(blocks)


def once(loss: Tensor) -> Tensor:
    """Divide the value of a loss by the number of ranks, but not its gradient.

    For a loss that every rank computes from the samples of all ranks, with a graph for its own: the
    sum over ranks then is that loss, and has its gradient.

    Args:
        loss: The loss of all samples, a scalar.

    Example:
        >>> once(torch.tensor(3.0))
        tensor(3.)
    """
    count = world_size()
    return loss if count == 1 else loss - loss.detach() * (1 - 1 / count)


def stacked(x: Tensor) -> Tensor:
    """Stack a tensor of every rank, in the order of the ranks.

    Args:
        x: A tensor without graph, of the same shape and type on every rank.

    Returns:
        The tensors (R, ...).

    Example:
        >>> stacked(torch.tensor([1.0, 2.0]))
        tensor([[1., 2.]])
    """
    if world_size() == 1:
        return x[None]
    sent = on_wire(x).contiguous()
    of_ranks = [torch.empty_like(sent) for _ in range(world_size())]
    dist.all_gather(of_ranks, sent)
    return torch.stack(of_ranks).to(x.device)


def on_wire(x: Tensor) -> Tensor:
    """Return a tensor on a device from which the group can send it.

    Args:
        x: A tensor on any device; there must be a group.
    """
    return x.cuda() if x.is_cpu and dist.get_backend() == dist.Backend.NCCL else x


def _is_grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _blocks(rows: Tensor) -> list[Tensor]:
    """Gather the rows of each rank, padded to the largest number of rows on the way."""
    numbers = stacked(torch.tensor(len(rows), device=rows.device)).tolist()
    dtype = torch.uint8 if rows.dtype == torch.bool else rows.dtype
    padded = torch.zeros((max(numbers), *rows.shape[1:]), dtype=dtype, device=rows.device)
    padded[: len(rows)] = rows
    blocks = stacked(padded) if padded.numel() else padded.expand(len(numbers), *padded.shape)
    return [block[:number].to(rows.dtype) for block, number in zip(blocks, numbers, strict=True)]
