"""CCA's projections and CPM-Net's steps, written out."""

import numpy as np
import pytest
import torch
from tests.methods.catalogue import SIZE, build_method, incomplete_batch
from tests.methods.harness import fit

from mla_lightning.fusion.padded import CanonicalFusion


def array(x):
    return x.detach().numpy()


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_ccas_projections_are_centred_and_of_unit_variance(num_modalities):
    """With means in place of absent vectors, as they are fitted; new samples by the same means."""
    rng = torch.Generator().manual_seed(0)
    names = ["audio", "visual", "text"][:num_modalities]
    x = {m: 5 + torch.randn(60, 4, generator=rng).double() for m in names}
    present = {m: torch.rand(60, generator=rng) > 0.3 for m in names}
    fusion = CanonicalFusion(dict.fromkeys(names, 4), 3, num_components=2, ridge=1e-9).double()
    fusion.learn_means(x, present)
    fusion.learn_projections(x, present)
    filled = {}
    for m in names:
        filled[m] = array(x[m]).copy()
        filled[m][~array(present[m])] = filled[m][array(present[m])].mean(axis=0)
    projected = array(fusion.project({m: torch.tensor(v) for m, v in filled.items()}))
    assert projected.shape == (60, 2 * 2 * len(fusion.pairs))
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(projected.std(axis=0, ddof=1), 1, atol=1e-6)
    for number, pair in enumerate(fusion.pairs):
        a, b = projected[:, 4 * number : 4 * number + 2], projected[:, 4 * number + 2 :][:, :2]
        correlations = np.corrcoef(a.T, b.T)[:2, 2:]
        left = np.linalg.qr(filled[pair[0]] - filled[pair[0]].mean(axis=0))[0]
        right = np.linalg.qr(filled[pair[1]] - filled[pair[1]].mean(axis=0))[0]
        expected = np.linalg.svd(left.T @ right, compute_uv=False)[:2]  # Björck and Golub 1973
        np.testing.assert_allclose(correlations, np.diag(expected), atol=1e-6)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_cpm_net_takes_its_steps_on_decoders_and_then_on_codes(num_modalities):
    batch = incomplete_batch(num_modalities)
    settings = {"num_steps": 2, "codes_lr": 0.02, "clustering_weight": 0.7}
    ours = build_method("cpm_net", batch, **settings)
    start = build_method("cpm_net", batch, **settings).double()
    fit(ours, [batch], epochs=2, precision="64-true")
    codes, y, lr = array(start.fusion.codes).copy(), array(batch["label"]), 0.05
    weights = {m: array(w).copy() for m, w in start.fusion.weights.items()}
    biases = {m: array(b).copy() for m, b in start.fusion.biases.items()}
    x = {m: array(v) for m, v in batch["inputs"].items()}
    has = {m: array(v)[:, None] for m, v in batch["present"].items()}
    same = (y[:, None] == y) & ~np.eye(SIZE, dtype=bool)

    def errors(m):
        return has[m] * (codes @ weights[m] + biases[m] - x[m])

    def clustering(codes):
        total = 0.0
        for n, label in enumerate(y):
            scores = {}
            for c in set(y.tolist()):
                members = same[n] if c == label else y == c
                products = codes[members] @ codes[n]
                scores[c] = products.mean() if len(products) else 0.0
            best = max(scores, key=scores.get)
            total += max(0.0, (best != label) + scores[best] - scores[label])
        return total

    def slopes(function, at, step=1e-6):
        gradient = np.zeros_like(at)
        for place in np.ndindex(at.shape):
            change = np.zeros_like(at)
            change[place] = step
            gradient[place] = (function(at + change) - function(at - change)) / (2 * step)
        return gradient

    for _ in range(2):
        for _ in range(2):
            changes = {m: errors(m) for m in x}
            for m, error in changes.items():
                weights[m] -= lr * 2 * codes.T @ error
                biases[m] -= lr * 2 * error.sum(axis=0)
        for _ in range(2):
            gradient = sum(2 * errors(m) @ weights[m].T for m in x)
            codes -= 0.02 * (gradient + 0.7 * slopes(clustering, codes))
    np.testing.assert_allclose(array(ours.fusion.codes), codes, atol=1e-6)
    for m in x:
        np.testing.assert_allclose(array(ours.fusion.weights[m]), weights[m], atol=1e-6)
        np.testing.assert_allclose(array(ours.fusion.biases[m]), biases[m], atol=1e-6)
