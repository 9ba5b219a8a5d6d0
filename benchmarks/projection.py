"""P6: the projector's update and its application to the head's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved
from mla_lightning.functional import project_gradient, update_projector_

WIDTH, CLASSES, ALPHA = 512, 6, 0.1
HOW = (
    f"update_projector_ and project_gradient at D = {WIDTH}, C = {CLASSES}, one thread, in turn "
    "with the formula, a new tensor per term; medians of process CPU time over 40 x 10 calls"
)


def as_written(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute q = P r / (alpha + r^T P r) and P - q r^T P as the equation reads, left to right."""
    q = projector @ mean / (ALPHA + mean @ projector @ mean)
    projector = projector - torch.outer(q, mean) @ projector
    return projector, gradient @ projector.T


def rank_one(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute k = P r and P - k k^T / (alpha + r^T k), which P's symmetry makes the same."""
    k = projector @ mean
    projector = projector - torch.outer(k, k) / (ALPHA + mean @ k)
    return projector, gradient @ projector.T


class Running:
    """Applies one way of computing it to a projector of its own."""

    def __init__(self, way: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        """Start at the identity."""
        torch.manual_seed(0)
        self.way = way
        self.means, self.gradient = torch.rand(16, WIDTH), torch.randn(CLASSES, WIDTH)
        self.projector = torch.eye(WIDTH)
        self.calls = 0

    def __call__(self) -> None:
        """Update and apply."""
        mean = self.means[self.calls % 16]
        self.calls += 1
        self.projector, self.modified = self.way(self.projector, mean, self.gradient)


def in_place(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute it as the package does."""
    return update_projector_(projector, mean, ALPHA), project_gradient(gradient, projector)


def measure() -> list[Row]:
    """Measure the time, and its ratio to both straight ways."""
    torch.set_num_threads(1)
    ways = {"ours": in_place, "as written": as_written, "rank one": rank_one}
    running = {name: Running(way) for name, way in ways.items()}
    with torch.no_grad():
        seconds = interleaved(running, 40, warm=5, block=10)
    if not torch.allclose(running["ours"].modified, running["rank one"].modified, atol=1e-4):
        raise RuntimeError("the ways disagree")
    rows = [Row("P6", "projector update + application", seconds["ours"] * 1e6, 250, "µs", HOW)]
    for name, text, limit in (
        ("as written", "the equation, left to right", 1 / 8),
        ("rank one", "rank one, a new tensor per term", 1.0),
    ):
        detail = f"{seconds[name] * 1e6:.0f} → {seconds['ours'] * 1e6:.0f} µs"
        ratio = seconds["ours"] / seconds[name]
        rows.append(Row("P6", f"... / {text}", ratio, limit, "x", HOW, detail))
    return rows
