"""Linear models without a network, whose penalty a second set of samples selects."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Values of scikit-learn's C, the inverse of the penalty, from which validation selects. Larger
#: ones do not help: with 10 and 100 as well, in 20 random splits each of scikit-learn's wine,
#: breast cancer and digits, validation accuracy rises by 0 to 0.2 points, test by -0.3 to 0.1.
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Penalties of ridge regression from which validation selects, as fractions of the features' mean
#: variance, the strongest first.
PENALTIES = tuple(10.0**power for power in range(2, -6, -1))
#: Largest number of iterations of a fit.
MAX_ITERATIONS = 1000
#: Logit of a class that no training sample with the modality has.
NEVER = -1e4


class LinearModel(NamedTuple):
    """A fitted linear model.

    Attributes:
        weight: Weights (C, D).
        bias: Biases (C,).
        cost: The selected C of scikit-learn, or the penalty of a ridge regression.
        has_converged: Whether the solver has converged.

    Example:
        >>> LinearModel(torch.zeros(2, 3), torch.zeros(2), cost=0.1, has_converged=True).cost
        0.1
    """

    weight: Tensor
    bias: Tensor
    cost: float
    has_converged: bool


def fit_logistic(
    train: tuple[np.ndarray, np.ndarray],
    select: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    score_of: Callable[[Tensor, Tensor], float],
    class_weights: np.ndarray | None = None,
) -> LinearModel:
    """Fit logistic regressions with scikit-learn, and select one on other samples.

    Args:
        train: Vectors (N, D) and classes (N,) to fit.
        select: Vectors and classes on which the penalty is selected.
        num_classes: Number of classes C.
        score_of: Computes from logits (N, C) and classes what selects; larger is better.
        class_weights: Weights (C,) of the classes; None for none.

    Returns:
        The model with the highest score, of equal ones that with the strongest penalty. A class
        that ``train`` does not have is never predicted.

    Example:
        >>> x, label = np.array([[-1.0], [-2.0], [1.0], [2.0]]), np.array([0, 0, 2, 2])
        >>> share_of_correct = lambda z, y: float((z.argmax(dim=1) == y).double().mean())
        >>> model = fit_logistic((x, label), (x, label), 3, share_of_correct)
        >>> (torch.tensor(x) @ model.weight.T + model.bias).argmax(dim=1)
        tensor([0, 0, 2, 2])
    """
    x, label = train
    weight_of = None if class_weights is None else dict(enumerate(class_weights.tolist()))

    def fit(cost: float) -> LinearModel:
        weight = torch.zeros(num_classes, x.shape[1], dtype=torch.double)
        bias = torch.full((num_classes,), NEVER, dtype=torch.double)
        classes = np.unique(label)
        if len(classes) == 1:
            bias[int(classes[0])] = 0.0
            return LinearModel(weight, bias, cost, has_converged=True)
        weights = {c: weight_of[c] for c in classes.tolist()} if weight_of else None
        coefficients, intercepts, has_converged = _solve(x, label, cost, weights)
        if len(classes) == 2:  # scikit-learn has one row, of the second class against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight[classes] = torch.from_numpy(coefficients)
        bias[classes] = torch.from_numpy(intercepts)
        return LinearModel(weight, bias, cost, has_converged)

    return _selected(map(fit, COSTS), select, score_of)


def fit_label_logistics(
    train: tuple[np.ndarray, np.ndarray],
    select: tuple[np.ndarray, np.ndarray],
    score_of: Callable[[Tensor, Tensor], float],
    class_weights: np.ndarray | None = None,
) -> LinearModel:
    """Fit a logistic regression of each label, all with one penalty that other samples select.

    Args:
        train: Vectors (N, D) and labels (N, L) of 0 and 1 to fit.
        select: Vectors and labels on which the penalty is selected.
        score_of: Computes from logits (N, L) and labels what selects; larger is better.
        class_weights: Weights (L,) of the samples that have a label; None for none.

    Returns:
        The model with the highest score, of equal ones that with the strongest penalty.

    Example:
        No sample has the second label:

        >>> x = np.array([[-1.0], [-2.0], [1.0], [2.0]])
        >>> label = np.array([[0, 0], [0, 0], [1, 0], [1, 0]])
        >>> correct = lambda z, y: float(((z > 0) == (y > 0)).double().mean())
        >>> model = fit_label_logistics((x, label), (x, label), correct)
        >>> (torch.tensor(x) @ model.weight.T + model.bias > 0).int().tolist()
        [[0, 0], [0, 0], [1, 0], [1, 0]]
    """
    x, labels = train

    def fit(cost: float) -> LinearModel:
        weight = torch.zeros(labels.shape[1], x.shape[1], dtype=torch.double)
        bias = torch.zeros(labels.shape[1], dtype=torch.double)
        has_converged = True
        for row, label in enumerate(labels.T > 0):
            if label.all() or not label.any():
                bias[row] = -NEVER if label.all() else NEVER
                continue
            weights = None if class_weights is None else {0: 1.0, 1: float(class_weights[row])}
            coefficients, intercepts, is_done = _solve(x, label.astype(int), cost, weights)
            weight[row], bias[row] = torch.from_numpy(coefficients)[0], float(intercepts[0])
            has_converged &= is_done
        return LinearModel(weight, bias, cost, has_converged)

    return _selected(map(fit, COSTS), select, score_of)


def fit_ridge(
    train: tuple[np.ndarray, np.ndarray],
    select: tuple[np.ndarray, np.ndarray],
    score_of: Callable[[Tensor, Tensor], float],
) -> LinearModel:
    """Fit ridge regressions with scikit-learn, and select one on other samples.

    Args:
        train: Vectors (N, D) and standardised targets (N,) to fit.
        select: Vectors and targets on which the penalty is selected.
        score_of: Computes from predictions (N, 1) and targets what selects; larger is better.

    Returns:
        The model with the highest score, of equal ones that with the strongest penalty.

    Example:
        >>> x, target = np.array([[-1.0], [1.0]]), np.array([-2.0, 2.0])
        >>> error = lambda z, y: -float((z[:, 0] - y).abs().mean())
        >>> model = fit_ridge((x, target), (x, target), error)
        >>> model.weight.round(decimals=3), model.cost
        (tensor([[2.]], dtype=torch.float64), 1e-05)
    """
    from sklearn.linear_model import Ridge

    x, target = train

    def fit(penalty: float) -> LinearModel:
        model = Ridge(alpha=penalty * len(x)).fit(x, target)
        weight = torch.from_numpy(np.asarray(model.coef_, dtype=float))[None]
        bias = torch.tensor([float(model.intercept_)], dtype=torch.double)
        return LinearModel(weight, bias, penalty, has_converged=True)

    return _selected(map(fit, PENALTIES), select, score_of)


def _solve(
    x: np.ndarray, label: np.ndarray, cost: float, weights: dict[int, float] | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return coefficients, intercepts, and whether the solver has converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=cost, max_iter=MAX_ITERATIONS, class_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, label)
    return model.coef_, model.intercept_, int(model.n_iter_.max()) < MAX_ITERATIONS


def _selected(
    models: Iterable[LinearModel],
    select: tuple[np.ndarray, np.ndarray],
    score_of: Callable[[Tensor, Tensor], float],
) -> LinearModel:
    """Return the first model with the highest score on other samples."""
    x, label = (torch.from_numpy(values) for values in select)
    best: LinearModel | None = None
    highest = -math.inf
    for model in models:
        score = score_of(x @ model.weight.T + model.bias, label) if len(label) else 0.0
        if best is None or score > highest:
            best, highest = model, score
    assert best is not None
    return best


def cost_text(costs: Mapping[str, float], grid: Sequence[float] = COSTS) -> str:
    """Format the selected penalties, with a remark on those at an end of the grid.

    Args:
        costs: Name of the model -> the selected value, one of the grid.
        grid: The values from which validation selected.

    Example:
        >>> cost_text({"audio": 0.1, "visual": 1.0})
        '0.1 (audio), 1 (visual; the largest that is tried)'
    """
    ends = {
        min(grid): "; the smallest that is tried",
        max(grid): "; the largest that is tried",
    }
    return ", ".join(f"{cost:g} ({name}{ends.get(cost, '')})" for name, cost in costs.items())
