"""Encoders of sequences: padding has no effect, and the published form is kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_lightning.encoders.lstm import LSTM
from mla_lightning.encoders.steps import Steps
from mla_lightning.encoders.text_cnn import TextCNN
from mla_lightning.errors import ConfigError
from mla_lightning.functional.sequences import is_present_step, mean_of_present_steps


def test_the_lstm_takes_the_maximum_over_present_steps():
    torch.manual_seed(0)
    encoder = LSTM(3, out_features=5)
    x = torch.randn(2, 4, 3)
    outputs, _ = encoder.layer(x)
    assert torch.equal(encoder(x), outputs.amax(dim=1))
    padded = torch.cat([x, torch.zeros(2, 6, 3)], dim=1)
    torch.testing.assert_close(encoder(padded), encoder(x))
    assert encoder(torch.zeros(1, 4, 3)).abs().sum() == 0
    assert encoder.layer.weight_ih_l0.shape == (20, 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 99))
def test_the_lstm_encodes_each_sequence_of_a_batch_as_if_it_were_alone(lengths, num_more, seed):
    torch.manual_seed(seed)
    encoder = LSTM(2, out_features=3)
    sequences = [torch.randn(length, 2) for length in lengths]
    padded = torch.zeros(len(lengths), max(lengths) + num_more, 2)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    alone = torch.cat([encoder(sequence[None]) for sequence in sequences])
    torch.testing.assert_close(encoder(padded), alone)


def test_the_text_cnn_is_three_convolutions_and_a_linear_layer():
    torch.manual_seed(0)
    encoder = TextCNN(6, channels=7, out_features=4).eval()
    x = torch.randn(2, 9, 6)
    maxima = [layer(x.transpose(1, 2)).relu().amax(dim=2) for layer in encoder.convolutions]
    expected = encoder.out[1](torch.cat(maxima, dim=1)).relu()
    torch.testing.assert_close(encoder(x), expected)
    assert [layer.kernel_size for layer in encoder.convolutions] == [(3,), (4,), (5,)]
    assert encoder(x[:, :2]).shape == (2, 4)  # shorter than the widest filter
    encoder.train()
    assert not torch.equal(encoder(x), encoder(x))  # dropout


@pytest.mark.parametrize("make", [LSTM, TextCNN, Steps])
def test_other_inputs_raise_an_error(make):
    with pytest.raises(ConfigError, match=r"expects sequences \(B, T, 3\)"):
        make(3)(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="in_features must be at least 1"):
        make(0)


def test_steps_are_returned_unchanged_and_averaged_where_present():
    x = torch.tensor([[[1.0, 2], [3, 4], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    assert torch.equal(Steps(2)(x), x)
    assert is_present_step(x).tolist() == [[True, True, False], [False, False, False]]
    assert mean_of_present_steps(x).tolist() == [[2, 3], [0, 0]]
