"""Features that are a file per sample, in the formats of NumPy and torch."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.feature_files import FeatureFile, features_shape, read_features

VECTOR = np.arange(4, dtype=np.float32)
SEQUENCE = np.arange(6, dtype=np.float64).reshape(3, 2)


def written(folder, name, content):
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".npy"):
        np.save(path, content)
    elif name.endswith(".npz"):
        np.savez(path, **content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", VECTOR),
        ("a.npy", VECTOR.astype(np.int16)),
        ("a.npy", VECTOR[None]),
        ("a.npz", {"x": VECTOR.astype(np.float16)}),
        ("a.pt", torch.tensor(VECTOR, requires_grad=True)),
        ("a.pth", {"x": torch.tensor(VECTOR).bfloat16(), "note": "mean of layers"}),
    ],
)
def test_every_format_gives_the_same_vector(tmp_path, name, content):
    written(tmp_path, name, content)
    values = FeatureFile((4,))(tmp_path, FileInput(Path(name)))
    assert values.dtype == np.float32
    assert (values == VECTOR).all()


def test_sequences_are_padded_and_cut_to_one_length(tmp_path):
    file = FileInput(Path(written(tmp_path, "a.npy", SEQUENCE).name))
    assert (FeatureFile((3, 2))(tmp_path, file) == SEQUENCE).all()
    padded = FeatureFile((5, 2))(tmp_path, file)
    assert (padded[:3] == SEQUENCE).all()
    assert not padded[3:].any()
    assert (FeatureFile((2, 2))(tmp_path, file) == SEQUENCE[:2]).all()
    with pytest.raises(BadMedia, match=r"shape \(3, 2\) instead of \(steps, 7\)"):
        FeatureFile((5, 7))(tmp_path, file)
    with pytest.raises(BadMedia, match=r"shape \(3, 2\) instead of \(6,\)"):
        FeatureFile((6,))(tmp_path, file)


def test_one_of_several_arrays_is_chosen_by_its_key(tmp_path):
    for name, convert in (("a.npz", np.asarray), ("a.pt", torch.tensor)):
        path = written(tmp_path, name, {"x": convert(VECTOR), "y": convert(VECTOR + 1)})
        assert (read_features(path, key="y") == VECTOR + 1).all()
        with pytest.raises(BadMedia, match=r"holds 2 arrays \(x, y\); choose one by key="):
            read_features(path)
        with pytest.raises(BadMedia, match="has no array 'z'; it has x, y"):
            read_features(path, key="z")


def test_a_file_with_the_other_ending_is_named(tmp_path):
    written(tmp_path, "a.npy", VECTOR).rename(tmp_path / "b.npz")
    written(tmp_path, "a.npz", {"x": VECTOR}).rename(tmp_path / "b.npy")
    with pytest.raises(BadMedia, match=r"one array, not an archive; name it \.npy"):
        read_features(tmp_path / "b.npz")
    with pytest.raises(BadMedia, match=r"an archive of arrays; name it \.npz"):
        read_features(tmp_path / "b.npy")


class Command:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.array([{}, []], dtype=object), "holds Python objects"),
        ("a.pt", Command(), "holds Python objects"),
        ("a.pt", pickle.dumps(VECTOR), "holds Python objects|damaged"),
        ("a.pt", ["a"], "holds a list, not a tensor"),
        ("a.npy", b"<html>not found", "damaged, or not what|holds Python objects"),
        ("a.npz", b"PK\x03\x04" + bytes(90), "damaged, or not what its ending says"),
        ("a.npy", np.array([1, np.nan]), r"not finite, or too large for float32 \(nan\)"),
        ("a.npy", np.array([1, 1e300]), r"too large for float32 \(1e\+300\)"),
        ("a.npy", np.array(["a"]), "holds <U1, not numbers"),
        ("a.bin", b"1234", "ending '.bin' is none of .npy"),
        ("a.pt", torch.tensor([1j]), "holds torch.complex64, not real numbers"),
    ],
)
def test_other_files_are_errors_and_run_no_code(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, name, content)
    with pytest.raises(BadMedia, match=message):
        read_features(path)
    assert not Path("ran").exists()


def test_the_stored_length_holds_nearly_all_sequences_as_a_whole():
    shapes = [(length, 8) for length in [10] * 996 + [500] * 4]
    assert features_shape(shapes, "sequence") == (10, 8)
    assert features_shape(shapes[:900] + [(11, 8)] * 10, "sequence") == (11, 8)
    assert features_shape([(4,), (1, 4)], "features") == (4,)
    with pytest.raises(BadMedia, match="different widths: 7, 8"):
        features_shape([(3, 8), (3, 7)], "sequence")
    with pytest.raises(BadMedia, match=r"shape \(3, 8\) instead of \(D,\)"):
        features_shape([(3, 8)], "features")
