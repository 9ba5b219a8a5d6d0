"""Averages of predictions and the weights that are compared."""

import pytest
import torch

from mla_lightning.functional import fuse_probabilities, simplex_grid


def test_probabilities_are_averaged():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=rng, dtype=torch.float64)
    weights = torch.tensor([[0.2], [0.0], [0.8]], dtype=torch.float64).expand(3, 5)
    expected = 0.2 * logits[0].softmax(1) + 0.8 * logits[2].softmax(1)
    torch.testing.assert_close(fuse_probabilities(weights, logits).exp(), expected)


@pytest.mark.parametrize(
    ("num", "steps", "size"), [(1, 3, 1), (2, 10, 11), (3, 10, 66), (4, 5, 56)]
)
def test_the_grid_has_all_weights_once(num, steps, size):
    grid = simplex_grid(num, steps)
    assert grid.shape == (size, num)
    torch.testing.assert_close(grid.sum(dim=1), torch.ones(size))
    assert float(grid.min()) >= 0
    assert len({tuple(row) for row in (grid * steps).round().tolist()}) == size


def test_a_grid_without_steps_is_refused():
    with pytest.raises(ValueError, match="must be at least 1, got 2 and 0"):
        simplex_grid(2, 0)
