"""P6: the projector's update and its application to the head's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import Measurement, median_seconds
from mla_lightning.functional import project_gradient, update_projector_

WIDTH, NUM_CLASSES, ALPHA = 512, 6, 0.1
PROCEDURE = (
    f"update_projector_ and project_gradient at D = {WIDTH}, C = {NUM_CLASSES}, one thread, in "
    "turn with the formula, a new tensor per term; medians of process CPU time over 40 x 10 calls"
)


def as_written(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute q = P r / (alpha + r^T P r) and P - q r^T P as the equation reads, left to right."""
    q = projector @ mean / (ALPHA + mean @ projector @ mean)
    projector = projector - torch.outer(q, mean) @ projector
    return projector, gradient @ projector.T


def rank_one(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute k = P r and P - k k^T / (alpha + r^T k), which is the same for a symmetric P."""
    k = projector @ mean
    projector = projector - torch.outer(k, k) / (ALPHA + mean @ k)
    return projector, gradient @ projector.T


def in_place(projector: Tensor, mean: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Compute it as the package does."""
    return update_projector_(projector, mean, ALPHA), project_gradient(gradient, projector)


class Recursion:
    """The recursion of a projector of its own, computed in one of the ways."""

    def __init__(self, update: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        """Start at the identity.

        Args:
            update: Projector (D, D), mean feature (D,) and gradient (C, D) -> new projector and
                projected gradient.
        """
        torch.manual_seed(0)
        self.update = update
        self.means, self.gradient = torch.rand(16, WIDTH), torch.randn(NUM_CLASSES, WIDTH)
        self.projector = torch.eye(WIDTH)
        self.num_calls = 0

    def __call__(self) -> None:
        """Update the projector and project the gradient."""
        mean = self.means[self.num_calls % 16]
        self.num_calls += 1
        self.projector, self.projected = self.update(self.projector, mean, self.gradient)


def measure(rounds: int = 40) -> list[Measurement]:
    """Measure the package's time, and its ratio to both plain ways.

    Raises:
        RuntimeError: If the ways compute different gradients.
    """
    torch.set_num_threads(1)
    ways = {"in place": in_place, "as written": as_written, "rank one": rank_one}
    recursions = {name: Recursion(update) for name, update in ways.items()}
    with torch.no_grad():
        seconds = median_seconds(recursions, rounds, warmup_rounds=5, calls=10)
    ours, plain = recursions["in place"].projected, recursions["rank one"].projected
    if not torch.allclose(ours, plain, atol=1e-4):
        raise RuntimeError("the ways disagree")
    microseconds = {name: value * 1e6 for name, value in seconds.items()}
    fast = microseconds["in place"]
    rows = [Measurement("P6", "projector update + application", fast, 250, "µs", PROCEDURE)]
    for name, title, target in (
        ("as written", "the equation, left to right", 1 / 8),
        ("rank one", "rank one, a new tensor per term", 1.0),
    ):
        slow = microseconds[name]
        detail = f"{slow:.0f} → {fast:.0f} µs"
        rows.append(
            Measurement("P6", f"... / {title}", fast / slow, target, "x", PROCEDURE, detail)
        )
    return rows
