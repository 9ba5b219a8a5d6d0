"""HDF5 files: nothing but the file itself is read, and damage is an error of ours."""

import os
from contextlib import suppress

import h5py
import numpy as np
import pytest

from mla_lightning.errors import DataError
from mla_lightning.media.hdf5 import open_hdf5

SECRET = np.arange(6.0, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """A folder with a file that a prepared file must not read, as raw bytes and as HDF5."""
    SECRET.tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = SECRET
    return tmp_path


def external_storage(file, folder):
    file.create_dataset(
        "x", (6,), np.float32, external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
    )


def external_link(file, folder):
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link_to_external_link(file, folder):
    file["y"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")
    file["x"] = h5py.SoftLink("/y")


def virtual_dataset(file, folder):
    layout = h5py.VirtualLayout((6,), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (6,))
    file.create_virtual_dataset("x", layout)


def group_behind_a_link(file, folder):
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


@pytest.mark.parametrize(
    ("make", "names", "message"),
    [
        (external_storage, ["x"], "its values are in another file"),
        (external_link, ["x"], "a link to another file"),
        (soft_link_to_external_link, ["x"], "a link to '/y'"),
        (virtual_dataset, ["x"], "its values are in other arrays"),
        (group_behind_a_link, ["x", "secret"], "a link to another file"),
    ],
)
def test_no_other_file_is_read(folder, make, names, message):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        make(file, folder)
    with h5py.File(path) as file:  # the library itself follows
        assert np.array_equal(file["/".join(names)][()], SECRET)
    with open_hdf5(path) as file:
        assert "x" in file
        with pytest.raises(DataError, match=f"{path}.*is not read: .*{message}"):
            file.array(*names)


def test_arrays_of_the_file_are_read_and_all_others_are_errors(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["one/two"] = SECRET
        file["text"] = "abc"
        file["pointer"] = np.array([file.ref], dtype=h5py.ref_dtype)
        file.create_dataset("huge", (1 << 40,), np.float32, chunks=(1024,))  # a small file
    assert (folder / "a.h5").stat().st_size < 20_000
    with open_hdf5(folder / "a.h5") as file:
        assert np.array_equal(file.array("one", "two"), SECRET)
        assert "one" in file
        assert "../a" not in file
        for names, message in (
            (["tow"], r"a\.h5 has no 'tow'"),
            (["one", "tow"], "has no 'one/tow'. Did you mean 'two'"),
            (["one"], "'one' is no array"),
            (["one", "two", "x"], "has no"),
            (["one/two"], "must have no '/'"),
            (["text"], "not numbers"),
            (["pointer"], "not numbers"),
            (["huge"], "needs 4398.0 GB"),
        ):
            with pytest.raises(DataError, match=message):
                file.array(*names)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_garbage_is_an_error_with_the_file(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    message = r"a\.h5 cannot be read as HDF5: .*Get the file again"
    with pytest.raises(DataError, match=message), open_hdf5(tmp_path / "a.h5"):
        pass


def test_every_cut_and_every_flipped_byte_is_an_error_of_ours_or_none(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.tile(SECRET, 50), compression="gzip")
    content = path.read_bytes()
    damaged = [content[:end] for end in range(0, len(content), 211)]
    for place in range(0, len(content), 17):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        damaged.append(bytes(changed))
    for bad in damaged:
        path.write_bytes(bad)
        with suppress(DataError), open_hdf5(path) as file:
            file.array("x")


def test_a_pipe_or_device_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path, kind in ((tmp_path / "pipe.h5", "a pipe"), (tmp_path, "a folder")):
        with pytest.raises(DataError, match=kind), open_hdf5(path):
            pass
