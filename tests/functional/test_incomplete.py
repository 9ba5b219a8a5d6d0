"""Imputation, latent codes and divergence: numbers computed by hand."""

import pytest
import torch

from mla_lightning.functional import (
    anchor_mask,
    class_scores,
    clustering_loss,
    decoding_loss,
    fill_with_mean,
    mean_of_present,
    reconstruction_loss,
    symmetric_divergence,
)
from mla_lightning.functional.sequences import is_present_step, mean_of_present_steps

DOUBLE = torch.float64


def test_means_are_those_of_the_present_samples():
    x = torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    present = torch.tensor([True, False, True, False])
    mean = mean_of_present(x, present)
    assert mean.tolist() == [3, 4]
    assert fill_with_mean(x, present, mean).tolist() == [[1, 2], [3, 4], [5, 6], [3, 4]]
    x[1] = float("nan")
    assert fill_with_mean(x, present, mean_of_present(x, present)).isfinite().all()
    with pytest.raises(ValueError, match="no sample has the modality"):
        mean_of_present(x, torch.zeros(4, dtype=torch.bool))


def test_reconstruction_errors_are_summed_over_the_target_samples():
    reconstruction = torch.tensor([[0.5, 1, 0], [9, 9, 9]], dtype=DOUBLE)
    x = torch.ones(2, 3, dtype=DOUBLE)
    is_target = torch.tensor([True, False])
    loss = reconstruction_loss(reconstruction, x, is_target)
    assert loss.item() == pytest.approx((0.25 + 0 + 1) / 3)
    assert reconstruction_loss(reconstruction, x, ~is_target).item() == pytest.approx(64)


H = torch.tensor([[1, 0], [0.8, 0.2], [0, 1], [0.1, 0.9], [0.6, 0.5]], dtype=DOUBLE)
Y = torch.tensor([0, 0, 1, 1, 1])


def test_codes_are_scored_by_the_mean_inner_product_with_each_class():
    scores = class_scores(H, H, Y, 2, own_label=Y)
    expected = [
        [0.8, 0.2333333333],
        [0.8, 0.3466666667],
        [0.1, 0.7],
        [0.18, 0.705],
        [0.59, 0.505],
    ]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=DOUBLE), atol=1e-9, rtol=0)
    assert scores.argmax(dim=1).tolist() == [0, 0, 1, 1, 0]
    assert clustering_loss(scores, Y).item() == pytest.approx(1.085)
    test = torch.tensor([[0.9, 0.3], [0.2, 0.7]], dtype=DOUBLE)
    test_scores = class_scores(test, H, Y, 2)
    expected = torch.tensor([[0.84, 0.45], [0.25, 0.6066666667]], dtype=DOUBLE)
    torch.testing.assert_close(test_scores, expected, atol=1e-9, rtol=0)


def test_a_class_of_one_sample_does_not_divide_by_zero():
    label = torch.tensor([0, 0, 1])
    scores = class_scores(H[:3], H[:3], label, 2, own_label=label)
    assert scores[2, 1] == 0
    assert scores.isfinite().all()


def test_a_class_without_training_samples_is_never_chosen():
    codes = torch.tensor([[1.0, 0.2], [0.1, 1.0], [1.0, 1.0]])
    label = torch.tensor([0, 2, 2])
    scores = class_scores(-codes, codes, label, 4)
    assert scores.argmax(dim=1).tolist() == [2, 0, 0]
    assert bool((scores[:, [0, 2]] < 0).all())
    assert bool(scores.isfinite().all())
    probability = scores.softmax(dim=1)
    assert bool((probability[:, [1, 3]] == 0).all())
    # Nor does it count in the loss on training codes, where others may all be negative.
    codes = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [-1.0, 0.2]], requires_grad=True)
    label = torch.tensor([0, 2, 2])
    own = class_scores(codes, codes, label, 4, own_label=label)
    assert float(own[0, [0, 2]].detach().max()) == 0  # its class has no other member
    without_gap = class_scores(codes, codes, label.clamp(max=1), 2, own_label=label.clamp(max=1))
    torch.testing.assert_close(own[:, [0, 2]], without_gap)
    loss = clustering_loss(own, label)
    torch.testing.assert_close(loss, clustering_loss(without_gap, label.clamp(max=1)))
    loss.backward()
    assert bool(codes.grad.isfinite().all())


def test_the_decoding_loss_counts_present_samples_only():
    weight = torch.tensor([[1.0, 0, 2], [0, 1, 1]], dtype=DOUBLE)
    bias = torch.full((3,), 0.1, dtype=DOUBLE)
    x = torch.tensor([[1, 0, 2.2], [float("nan")] * 3], dtype=DOUBLE)
    loss = decoding_loss(H[[0, 2]], x, weight, bias, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(0.03)


def test_the_divergence_is_symmetric_and_summed_over_the_batch():
    a = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]], dtype=DOUBLE)
    b = torch.tensor([[[0.0, 0, 0], [0, 0, 1]]], dtype=DOUBLE)
    assert symmetric_divergence(a, b).item() == pytest.approx(0.4855671029, abs=1e-9)
    assert symmetric_divergence(a, a).item() == 0
    twice = symmetric_divergence(a.repeat(2, 1, 1), b.repeat(2, 1, 1))
    assert twice.item() == pytest.approx(2 * 0.4855671029, abs=1e-9)


def test_padded_modalities_of_which_no_sample_has_two_do_not_correlate():
    generator = torch.Generator().manual_seed(0)
    mask = anchor_mask(500, 3, 0.7, generator)
    assert (mask.sum(dim=1) == 1).all()
    features = [torch.randn(500, 4, generator=generator, dtype=DOUBLE) for _ in range(3)]
    filled = [
        fill_with_mean(x, mask[:, m], mean_of_present(x, mask[:, m]))
        for m, x in enumerate(features)
    ]
    for i in range(3):
        for j in range(i):
            a, b = (filled[k] - filled[k].mean(dim=0) for k in (i, j))
            assert (a.T @ b / 499).abs().max() < 1e-12


def test_scores_of_more_classes_than_dimensions():
    codes = torch.tensor([[1.0, 2], [3, 0], [0, 5]], dtype=DOUBLE)
    label = torch.tensor([0, 3, 3])
    scores = class_scores(torch.tensor([[1.0, 1]], dtype=DOUBLE), codes, label, num_classes=4)
    assert scores.tolist()[0][::3] == [3.0, 4.0]


def test_steps_are_averaged_for_each_sequence_alone():
    # As many sequences as features, so that a wrong axis has the right shape.
    x = torch.tensor([[[1.0, 3], [3, 5], [0, 0]], [[8, 4], [0, 0], [0, 0]]])
    assert is_present_step(x).tolist() == [[True, True, False], [True, False, False]]
    assert mean_of_present_steps(x).tolist() == [[2, 4], [8, 4]]
    assert mean_of_present_steps(torch.zeros(1, 2, 3)).tolist() == [[0, 0, 0]]
