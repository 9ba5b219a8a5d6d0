"""Linear support vector classifier, solved in the primal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad


def linear_svc(
    x: Tensor, label: Tensor, num_classes: int, cost: float, max_steps: int = 100
) -> tuple[Tensor, Tensor]:
    r"""Fit one hyperplane per class against all other classes, with the squared hinge loss.

    .. math:: \min_{w, b} \tfrac12 (\|w\|^2 + b^2)
              + C \sum_n \max(0, 1 - y_n (w^\top x_n + b))^2, \quad y_n = \pm 1

    The solver is the finite Newton method (Keerthi & DeCoste 2005): the objective is quadratic as
    long as the same samples violate the margin, so each step solves for these samples, and the
    solution is exact once they do not change. The bias is penalised as in LIBLINEAR, which has the
    same solution.

    Args:
        x: Features, shape (N, D).
        label: Classes, shape (N,), int64.
        num_classes: Number of classes K.
        cost: C, > 0.
        max_steps: Largest number of Newton steps; a handful are needed.

    Returns:
        Weights (K, D) and biases (K,), in float64.

    Raises:
        ValueError: If ``cost`` is not positive.

    Example:
        Two samples at -1 and 1. Both violate the margin, so w minimises w^2 / 2 + 2 C (1 - w)^2,
        which gives w = 4 C / (1 + 4 C):

        >>> weight, bias = linear_svc(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, 0.25)
        >>> weight.round(decimals=6).tolist(), bias.abs().max().item() < 1e-9
        ([[-0.5], [0.5]], True)
        >>> weight, _ = linear_svc(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, 2.5)
        >>> round(weight[1].item(), 4), round(10 / 11, 4)  # a larger cost: a smaller margin
        (0.9091, 0.9091)
    """
    if not cost > 0:
        raise ValueError(f"cost must be > 0, got {cost}")
    x_ND = pad(x.double(), (0, 1), value=1.0)
    y_NK = 2.0 * one_hot(label, num_classes).double() - 1.0
    identity = torch.eye(x_ND.shape[1], dtype=x_ND.dtype, device=x.device)

    def objective(w_DK: Tensor) -> Tensor:
        slack_NK = (1 - y_NK * (x_ND @ w_DK)).clamp(min=0)
        return 0.5 * w_DK.square().sum(dim=0) + cost * slack_NK.square().sum(dim=0)

    w_DK = x_ND.new_zeros(x_ND.shape[1], num_classes)
    for _ in range(max_steps):
        violates_NK = (y_NK * (x_ND @ w_DK) < 1).double()
        hessian_KDD = identity + 2 * cost * torch.einsum("nd,nk,ne->kde", x_ND, violates_NK, x_ND)
        right_side_DK = 2 * cost * x_ND.mT @ (violates_NK * y_NK)
        newton_DK = torch.linalg.solve(hessian_KDD, right_side_DK.mT).mT
        step_DK, size_K = newton_DK - w_DK, torch.ones(num_classes).to(w_DK)
        for _ in range(40):  # halve a class's step until its objective does not rise
            rises_K = objective(w_DK + size_K * step_DK) > objective(w_DK)
            if not rises_K.any():
                break
            size_K = torch.where(rises_K, size_K / 2, size_K)
        w_DK = torch.where(rises_K, w_DK, w_DK + size_K * step_DK)
        if (size_K * step_DK).abs().max() <= 1e-12 * (1 + w_DK.abs().max()):
            break
    return w_DK[:-1].mT, w_DK[-1]
