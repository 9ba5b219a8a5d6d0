"""Arrays of any size, order and compression: the same store, in the memory of a few blocks."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from mla_lightning.data import mapped
from mla_lightning.data.mapped import RowBlocks, write_rows
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.prepare.array_files import open_arrays
from mla_lightning.prepare.import_arrays import import_arrays

NUM, WIDTH = 2000, 1500
RNG = np.random.default_rng(0)
ARRAYS = {
    "id": np.array([f"x{number:04d}" for number in RNG.permutation(NUM)]),
    "label": np.arange(NUM) % 3,
    "wide": RNG.normal(size=(NUM, WIDTH)).astype(np.float32),
    "narrow": RNG.normal(size=(NUM, 3)),
}
NUM_BYTES = ARRAYS["wide"].nbytes  # 12 MB


def save(folder, form, arrays):
    """Write arrays in one of the forms that users have."""
    if form in ("archive", "compressed", "columns in an archive"):
        path = folder / "a.npz"
        if form.startswith("columns"):
            arrays = arrays | {"wide": np.asfortranarray(arrays["wide"])}
        (np.savez_compressed if form == "compressed" else np.savez)(path, **arrays)
        return path
    path = folder / "arrays"
    path.mkdir()
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", np.asfortranarray(values) if form == "columns" else values)
    return path


@pytest.mark.parametrize(
    "form", ["archive", "compressed", "folder", "columns", "columns in an archive"]
)
def test_an_import_needs_the_memory_of_a_few_blocks(tmp_path, monkeypatch, form):
    monkeypatch.setattr(mapped, "BLOCK_BYTES", 1 << 17)
    path = save(tmp_path, form, ARRAYS)
    tracemalloc.start()
    try:
        import_arrays(path, tmp_path / "s")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < NUM_BYTES / 4
    order = np.argsort(ARRAYS["id"])
    for name in ("wide", "narrow"):
        expected = ARRAYS[name][order].astype(np.float32)
        np.save(tmp_path / "expected.npy", expected)
        written = (tmp_path / "s" / f"{name}.npy").read_bytes()
        assert written == (tmp_path / "expected.npy").read_bytes()
    assert open_store(tmp_path / "s").ids == sorted(ARRAYS["id"].tolist())


def test_a_flipped_byte_in_the_middle_of_an_array_is_found(tmp_path):
    path = save(tmp_path, "archive", ARRAYS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # another value, still finite: only the checksum shows it
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'wide' is no array, or is damaged: Bad CRC-32"):
        import_arrays(path, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_file_that_was_cut_off_is_an_error(tmp_path):
    path = save(tmp_path, "folder", ARRAYS)
    content = (path / "wide.npy").read_bytes()
    (path / "wide.npy").write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"'wide' is no array.*ends before its last row"):
        import_arrays(path, tmp_path / "s")


def test_two_arrays_of_one_name_are_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="x"):
        archive.writestr("x.npy", archive.read("x.npy"))
    with pytest.raises(DataError, match="two arrays 'x'"):
        open_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 5), (1, 4), (0, 4)])
def test_rows_are_written_as_numpy_writes_them(tmp_path, shape):
    values = RNG.integers(0, 99, shape)
    order = RNG.permutation(shape[0])
    rows = RowBlocks(values.dtype, shape, lambda: iter(np.array_split(values, 3)))
    write_rows(tmp_path / "a.npy", rows, np.argsort(order))
    np.save(tmp_path / "b.npy", values[order])
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
