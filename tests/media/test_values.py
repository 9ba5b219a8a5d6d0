"""Values that are there already are checked and passed on."""

from pathlib import Path

import numpy as np
import pytest

from mla_lightning.media.parts import ArrayPart, BadMedia, TextPart
from mla_lightning.media.values import Values


def test_values_are_passed_on_in_the_type_of_the_store():
    values = Values((2, 3), "float16", "spectrogram")
    found = values(Path(), ArrayPart(np.arange(6.0).reshape(2, 3)))
    assert found.dtype == np.float16
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert values.kind == "spectrogram"
    assert values.options()["shape"] == [2, 3]


def test_other_shapes_and_parts_are_refused():
    with pytest.raises(BadMedia, match=r"shape \(3,\) instead of \(2,\)"):
        Values((2,))(Path(), ArrayPart(np.zeros(3)))
    with pytest.raises(TypeError):
        Values((2,))(Path(), TextPart("a"))
