"""Arrays in memory are checked and converted."""

from pathlib import Path

import numpy as np
import pytest

from mla_lightning.media.base import ArrayInput, BadMedia, TextInput
from mla_lightning.media.values import Values


def test_values_are_converted_to_the_type_of_the_store():
    values = Values((2, 3), "float16", "spectrogram")
    converted = values(Path(), ArrayInput(np.arange(6.0).reshape(2, 3)))
    assert converted.dtype == np.float16
    assert converted.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert values.kind == "spectrogram"
    assert values.options()["shape"] == [2, 3]


def test_other_shapes_and_inputs_are_errors():
    with pytest.raises(BadMedia, match=r"shape \(3,\) instead of \(2,\)"):
        Values((2,))(Path(), ArrayInput(np.zeros(3)))
    with pytest.raises(TypeError):
        Values((2,))(Path(), TextInput("a"))
