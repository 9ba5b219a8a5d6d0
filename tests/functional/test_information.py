"""InfoReg's window and strength, against numbers that were computed independently."""

import pytest
import torch

from mla_lightning.functional import information_growth, regulation_strengths

TRACES = [8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.8, 2.6, 2.4, 2.2]
GROWTH = [
    *(1, 0.466667, 0.285714, 0.192308, 0.147541, 0.115942, 0.092105, 0.073171, 0.063927),
    *(0.056034, -0.137255, -0.133333),
]


def test_steadily_falling_traces_end_the_window_after_its_epochs():
    padded = [0.0] * 11 + TRACES
    windows = [padded[e + 1 : e + 12] for e in range(len(TRACES))]
    growth = information_growth(torch.tensor(windows, dtype=torch.float64))
    assert growth.tolist() == pytest.approx(GROWTH, abs=1e-6)


def test_no_information_does_not_grow():
    assert information_growth(torch.zeros(2, 4)).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lead", "scale", "expected"),
    [(0.3, 1, 1.338183), (0.3, 0.95, 1.271274), (6.0, 0.95, 2.582336), (6.0, 0.1, 0.271825)],
)
def test_strength_of_the_pull(lead, scale, expected):
    scores = torch.tensor([1.0 + lead, 1.0], dtype=torch.float64)
    strengths = regulation_strengths(scores, 1.0)
    assert scale * float(strengths[0]) == pytest.approx(expected, abs=1e-6)
    assert float(strengths[1]) == 0


def test_leads_are_over_the_mean_of_the_others():
    scores = torch.tensor([3.0, 2.1, 1.0], dtype=torch.float64)
    leads = torch.tensor([3.0 - 1.55, 2.1 - 2.0], dtype=torch.float64)
    strengths = regulation_strengths(scores, 0.5)
    torch.testing.assert_close(strengths[:2], (0.5 * leads.tanh()).exp())
    assert float(strengths[2]) == 0
    assert regulation_strengths(torch.ones(2), 1.0).tolist() == [0, 0]
    with pytest.raises(ValueError, match="beta must be >= 0"):
        regulation_strengths(scores, -1.0)
