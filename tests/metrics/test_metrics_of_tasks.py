"""Metrics of regression and of several labels against scikit-learn, scipy and hand counts."""

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from scipy.stats import pearsonr

from mla_lightning.metrics import Outcome, acc2, acc5, acc7, correlation, f1_2, mae, mean_ap
from mla_lightning.metrics.by_task import EPOCH_METRICS, FUNCTIONS
from mla_lightning.metrics.classification import macro_f1
from mla_lightning.metrics.multilabel import micro_f1
from mla_lightning.metrics.probe import ridge_probe
from mla_lightning.metrics.regression import is_sentiment, r2
from mla_lightning.run_folder.tasks import PRIMARY, SELECT_BY, TASKS

RNG = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_a_number(seed):
    rng = torch.Generator().manual_seed(seed)
    target = 1e4 + 3 * torch.randn(40, generator=rng)
    prediction = target + torch.randn(40, generator=rng)
    outcome = Outcome(prediction[:, None], target)
    y, z = target.double().numpy(), prediction.double().numpy()
    assert float(mae(outcome)) == pytest.approx(oracle.mean_absolute_error(y, z), rel=1e-12)
    assert float(r2(outcome)) == pytest.approx(oracle.r2_score(y, z), rel=1e-9)
    assert float(correlation(outcome)) == pytest.approx(pearsonr(y, z).statistic, rel=1e-9)


def test_the_correlation_with_a_constant_is_zero():
    target = torch.tensor([0.1, 0.2, 0.7])
    assert correlation(Outcome(torch.full((3, 1), 0.1), target)) == 0
    assert correlation(Outcome(target[:, None], torch.full((3,), 0.1))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_several_labels(seed):
    rng = torch.Generator().manual_seed(seed)
    label = (torch.rand(30, 5, generator=rng) < 0.3).float()
    logits = torch.randn(30, 5, generator=rng).round(decimals=1) + label  # with ties
    logits[:, 4], label[:, 4] = -1.0, 0.0  # neither occurs nor is predicted
    outcome = Outcome(logits, label)
    y, predicted = label.numpy(), (logits > 0).numpy()
    assert float(micro_f1(outcome)) == pytest.approx(oracle.f1_score(y, predicted, average="micro"))
    expected = oracle.f1_score(y, predicted, average="macro", zero_division=np.nan)
    assert float(macro_f1(outcome)) == pytest.approx(expected)
    precisions = [oracle.average_precision_score(y[:, k], logits[:, k].numpy()) for k in range(4)]
    assert float(mean_ap(outcome)) == pytest.approx(np.mean(precisions))


def test_metrics_of_labels_that_never_occur():
    nothing = Outcome(-torch.ones(3, 2), torch.zeros(3, 2))
    assert [float(metric(nothing)) for metric in (micro_f1, macro_f1, mean_ap)] == [0, 0, 0]


def test_metrics_of_sentiment_by_hand():
    #                       clipped   rounds to the even  zero     other sign
    target = torch.tensor([3.0, -2.8, 0.5, 1.5, 0.0, 0.0, -1.0, 1.0])
    prediction = [3.9, -3.4, 0.4, 2.4, 0.2, -0.7, 0.3, 0.6]
    outcome = Outcome(torch.tensor(prediction)[:, None], target)
    # rounded targets: 3 -3 0 2 0 0 -1 1; rounded predictions: 3 -3 0 2 0 -1 0 1
    assert acc7(outcome) == 6 / 8
    assert acc5(outcome) == 6 / 8
    assert float(acc2(outcome)) == pytest.approx(5 / 6)  # of the six targets that are not 0
    # positive: 4 found, 1 false; negative: 1 of 2 found
    assert float(f1_2(outcome)) == pytest.approx((4 * (8 / 9) + 2 * (2 / 3)) / 6)
    assert is_sentiment(target)
    assert not is_sentiment(torch.tensor([3.1]))


def test_five_classes_do_not_tell_two_from_three():
    outcome = Outcome(torch.tensor([[2.0], [-3.0]]), torch.tensor([3.0, -2.0]))
    assert (float(acc5(outcome)), float(acc7(outcome))) == (1.0, 0.0)


def test_every_task_has_its_metrics():
    for task in TASKS:
        assert {entry.metric for entry in SELECT_BY[task].values()} == FUNCTIONS[task].keys()
        assert PRIMARY[task].column in EPOCH_METRICS[task]


def test_the_probe_of_a_number_is_the_ridge_regression_of_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    x = torch.randn(30, 4, generator=RNG)
    y = 50 + x @ torch.tensor([1.0, 2, 3, 4]) + torch.randn(30, generator=RNG)
    probe = ridge_probe((x[:20], y[:20]), (x[20:], y[20:]), 1, "regression")
    scaler = StandardScaler().fit(x[:20])
    model = Ridge(alpha=20 * probe.ridge).fit(scaler.transform(x[:20]), y[:20])
    expected = model.predict(scaler.transform(x[20:]))
    np.testing.assert_allclose(probe(x[20:])[:, 0], expected, rtol=1e-5)


def test_the_probe_of_labels_finds_labels_that_features_show():
    label = (torch.rand(40, 3, generator=RNG) < 0.4).float()
    probe = ridge_probe((label, label), (label, label), 3, "multilabel")
    assert torch.equal(probe(label) > 0, label > 0)
