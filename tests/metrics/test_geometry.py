"""Gap and planes of features."""

import pytest
import torch

from mla_lightning.metrics.geometry import modality_gap, principal_plane, tsne_plane


def test_the_gap_is_the_distance_of_the_mean_directions():
    a = torch.tensor([[2.0, 0], [5, 0]])
    b = torch.tensor([[0.0, 3], [0, 1]])
    assert modality_gap(a, b) == pytest.approx(2**0.5)
    assert modality_gap(a, 7 * a) == 0
    assert modality_gap(a, -a) == pytest.approx(2)


def test_the_plane_holds_the_two_largest_variances():
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    values = torch.randn(200, 6, generator=generator) * torch.tensor([9.0, 4, 0.1, 0.1, 0.1, 0.1])
    features = values @ axes.T
    features = features / features.norm(dim=1, keepdim=True)
    plane = principal_plane({"a": features[:120], "b": features[120:]})
    assert plane["a"].shape == (120, 2)
    whole = torch.cat([plane["a"], plane["b"]])
    centred = features.double() - features.double().mean(dim=0)
    kept = float(whole.square().sum() / centred.square().sum())
    largest = torch.linalg.svdvals(centred)[:2].square().sum() / centred.square().sum()
    assert kept == pytest.approx(float(largest), rel=1e-6)
    again = principal_plane({"a": features[:120], "b": features[120:]})
    assert torch.equal(again["a"], plane["a"])


def test_tsne_is_the_same_for_a_seed():
    generator = torch.Generator().manual_seed(0)
    features = {m: torch.randn(20, 5, generator=generator) for m in "ab"}
    one, two = tsne_plane(features, 3), tsne_plane(features, 3)
    assert torch.equal(one["a"], two["a"])
    assert one["b"].shape == (20, 2)
    lengths = 2.0 ** torch.randint(-3, 4, (20, 1), generator=generator)  # divided out exactly
    directions = tsne_plane({m: x * lengths for m, x in features.items()}, 3)
    assert torch.equal(directions["a"], one["a"])


def test_the_largest_entry_of_each_component_is_positive():
    # Unit vectors on two orthogonal lines; the first component is -e1 or e1, the second -e2 or e2.
    features = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    plane = principal_plane({"a": features[:2], "b": features[2:]})
    centred = features.double() - features.double().mean(dim=0)
    torch.testing.assert_close(torch.cat([plane["a"], plane["b"]]), centred)
    mirrored = principal_plane({"a": -features[:2], "b": -features[2:]})
    torch.testing.assert_close(torch.cat([mirrored["a"], mirrored["b"]]), -centred)
