"""Changes, angles and projectors."""

import pytest
import torch

from mla_lightning.functional import projector_from_means
from mla_lightning.metrics.forgetting import (
    gradient_cosines,
    losses_and_scores,
    projector_state,
)


def test_losses_are_over_the_samples_that_have_a_modality():
    logits = {"a": torch.tensor([[0.0, 0], [9, 0]]), "b": torch.zeros(2, 2)}
    present = {"a": torch.tensor([True, False]), "b": torch.tensor([False, False])}
    effects = losses_and_scores(logits, torch.tensor([0, 1]), present)
    assert effects == {"a": (pytest.approx(0.6931472), 1.0)}


def test_cosines_are_of_each_pair():
    gradients = {
        "a": torch.tensor([[1.0, 0]]),
        "b": torch.tensor([[1.0, 1]]),
        "c": torch.zeros(1, 2),
    }
    cosines = gradient_cosines(gradients)
    assert cosines[("a", "b")] == pytest.approx(2**-0.5)
    assert cosines[("a", "c")] == 0
    assert len(cosines) == 3


def test_a_projectors_state_is_its_eigenvalues():
    assert projector_state(torch.eye(4)) == {"trace": 1, "smallest": 1, "median": 1}
    mean = torch.tensor([[3.0, 0, 0]])
    state = projector_state(projector_from_means(mean, 0.1))
    assert state["smallest"] == pytest.approx(0.1 / 9.1, rel=1e-4)
    assert state["trace"] == pytest.approx((2 + 0.1 / 9.1) / 3, rel=1e-4)


def test_a_projector_that_is_not_symmetric_counts_by_its_symmetric_part():
    # x^T P x depends on (P + P^T) / 2 alone: [[1, 1], [1, 1]] with eigenvalues 0 and 2.
    state = projector_state(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    assert state == {
        "trace": pytest.approx(1.0),
        "smallest": pytest.approx(0.0, abs=1e-12),
        "median": pytest.approx(1.0),
    }
