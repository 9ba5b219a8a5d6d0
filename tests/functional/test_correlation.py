"""Canonical correlation and central moments: pinned numbers, scikit-learn, properties."""

import pytest
import torch
from torch.testing import assert_close

from mla_lightning.functional import central_moment_discrepancy, dcca_loss, linear_cca

X = torch.tensor([[1, 2], [2, 1], [3, 4], [4, 3], [5, 6], [6, 5]], dtype=torch.float64)
Y = torch.tensor([[1, 0], [2, 2], [2, 5], [4, 1], [5, 3], [7, 4]], dtype=torch.float64)
GRADIENT_X = [
    [-0.1590304341, 0.1857433955],
    [0.0773328034, -0.1041203365],
    [0.2367882525, -0.2901808609],
    [-0.0733307120, 0.1269430792],
    [-0.0773328034, 0.1041203365],
    [-0.0044271064, -0.0225056137],
]
GRADIENT_Y = [
    [0.0503562939, -0.0823659099],
    [-0.0609833817, 0.1501885096],
    [0.0035774049, -0.0226322205],
    [-0.0456281575, 0.0522569832],
    [0.0609833817, -0.1501885096],
    [-0.0083055413, 0.0527411471],
]


def near(actual, expected, tolerance=1e-8):
    assert_close(actual, torch.tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance)


def test_linear_cca():
    weights_x, weights_y, correlations = linear_cca(X, Y, 0.0)
    near(correlations, [0.9870787877, 0.3635680209])
    near(weights_x.mT, [[0.5932009425, -0.0726915268], [-0.7480447682, 0.9519318648]])
    near(weights_y.mT, [[0.4108704527, 0.0824872699], [-0.255230661, 0.578018115]])
    s11, s12 = torch.cov(X.mT), (X - X.mean(0)).mT @ (Y - Y.mean(0)) / 5
    assert_close(weights_x.mT @ s11 @ weights_x, torch.eye(2).double())
    assert_close(weights_x.mT @ s12 @ weights_y, correlations.diag())
    near(linear_cca(X, Y, 1e-4)[2], [0.9870524948, 0.3635341218])


def test_linear_cca_equals_scikit_learn():
    from sklearn.cross_decomposition import CCA

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 5, generator=generator, dtype=torch.float64)
    y = x[:, :3] + torch.randn(80, 3, generator=generator, dtype=torch.float64)
    weights_x, weights_y, correlations = linear_cca(x, y, 0.0)
    library = CCA(n_components=3, max_iter=5000, tol=1e-12).fit(x.numpy(), y.numpy())
    pairs = zip(*(z.T for z in library.transform(x.numpy(), y.numpy())), strict=True)
    expected = [torch.corrcoef(torch.stack([*map(torch.tensor, pair)]))[0, 1] for pair in pairs]
    assert_close(correlations, torch.stack(expected), rtol=1e-6, atol=1e-6)
    projected = torch.corrcoef(torch.cat([(x @ weights_x).mT, (y @ weights_y).mT]))
    assert_close(projected[:3, 3:], correlations.diag(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("ridge", "loss"),
    [(1e-4, -1.3505866166), (1e-3, -1.3500454232), (0.1, -1.2956998077), (0.0, -1.3506468085)],
)
def test_dcca_loss(ridge, loss):
    near(dcca_loss(X, Y, ridge), loss)


def test_gradient_of_the_dcca_loss():
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    dcca_loss(x, y, 1e-3).backward()
    near(x.grad, GRADIENT_X)
    near(y.grad, GRADIENT_Y)
    near(x.grad.sum(dim=0), [0.0, 0.0], 1e-12)
    assert torch.autograd.gradcheck(lambda a, b: dcca_loss(a, b, 1e-3), (x, y))


def test_repeated_eigenvalues_have_a_finite_gradient():
    h = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], requires_grad=True)
    z = torch.tensor([[1.0, 0], [0, -1], [0, 1], [-1, 0]], requires_grad=True)
    loss = dcca_loss(h, z, 1e-3)
    near(loss, -1.9977526686)
    loss.backward()
    assert h.grad.isfinite().all()
    assert z.grad.isfinite().all()
    assert h.grad.abs().max() < 1e-3


def test_properties_of_the_dcca_loss():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    change = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    assert_close(dcca_loss(x, y, 0.0), dcca_loss(x @ change + 5, y, 0.0))
    assert_close(dcca_loss(x, x, 0.0), torch.tensor(-3.0).double())
    assert -3 <= dcca_loss(x, y) <= 0


def test_the_loss_is_not_computed_in_half_precision_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near(dcca_loss(X.float(), Y.float(), 1e-3), -1.3500454232, 1e-6)


@pytest.mark.parametrize(
    ("x", "y", "ridge", "message"),
    [
        (X[:3], Y[:3], 1e-3, "3 samples are too few for 2 features"),
        (X, Y[:4], 1e-3, "differ in their number of samples"),
        (X[:, :1].expand(6, 2), Y, 0.0, "singular"),
    ],
)
def test_impossible_batches_raise_an_error(x, y, ridge, message):
    with pytest.raises(ValueError, match=message):
        dcca_loss(x, y, ridge)


def test_modalities_that_no_sample_has_together_do_not_correlate_after_mean_padding():
    """Every centred product has a zero factor: what public code calls CCA at 70 % is noise."""
    generator = torch.Generator().manual_seed(0)
    has_x = torch.rand(50, generator=generator) < 0.5
    features = []
    for present in (has_x, ~has_x):
        x = torch.randn(50, 4, generator=generator, dtype=torch.float64)
        features.append(torch.where(present[:, None], x, x[present].mean(dim=0)))
    assert linear_cca(*features, 1e-4)[2].max() < 1e-10


def test_central_moment_discrepancy():
    x1 = torch.tensor([[0.0, 1], [1, 3], [2, 2]], dtype=torch.float64)
    x2 = torch.tensor([[1.0, 1], [1, 2], [4, 3]], dtype=torch.float64)
    near(central_moment_discrepancy(x1, x2, 5), 19.6666666667)
    terms = [central_moment_discrepancy(x1, x2, k).item() for k in range(1, 6)]
    steps = [b - a for a, b in zip([0.0, *terms], terms, strict=False)]
    assert steps == pytest.approx([1, 1.3333333333, 2, 5.3333333333, 10])
    shuffled = x1[[2, 0, 1]].requires_grad_()
    same = central_moment_discrepancy(x1, shuffled)
    same.backward()
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert shuffled.grad.isfinite().all()
    with pytest.raises(ValueError, match="num_moments"):
        central_moment_discrepancy(x1, x2, 0)
    with pytest.raises(ValueError, match="widths"):
        central_moment_discrepancy(x1, x2[:, :1])
