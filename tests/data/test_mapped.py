"""Rows of mapped files: equal to those of the array, and requested together from the disk."""

import mmap
import os
import resource

import numpy as np
import pytest
import torch

from mla_lightning.data import mapped
from mla_lightning.data.mapped import MappedArray

N = 300
ROWS = np.random.default_rng(1).permutation(N)[:64]


@pytest.fixture
def large(monkeypatch):
    """Let files of any size count as large."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 1)


def opened(tmp_path, shape=(5000,), dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, (N, *shape)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    return values, MappedArray(tmp_path / "a.npy")


def read_cold(path, *, reads_ahead):
    """Read rows that are not in memory; return the number of waits for the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # of what is not mapped any more
    os.close(handle)
    array = MappedArray(path)
    array._values.base.madvise(mmap.MADV_RANDOM)  # the system reads only what is asked for
    array._reads_ahead = reads_ahead
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
    array.index_select(0, torch.from_numpy(ROWS))
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt - before


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5000,), np.uint8), ((3, 40), np.float16), ((), np.int64), ((2, 2, 9), np.float64)],
)
@pytest.mark.parametrize(
    ("counts", "num_requested"),
    [
        ([7, 7, 7, 7, 7, 7], [4, 4]),  # all in memory
        ([7, 8, 8, 8, 8, 8], [64, 64]),  # on the disk, read by the requests; then in memory
        ([7, 7, 9, 9, 9, 9], [4, 64]),  # on a disk where requests do not count, but waits do
        ([7, 8, 8, 8, 8, 8, 8, 8, 8], [64, 64, 4]),
    ],
)
def test_rows_are_those_of_the_array_and_all_bytes_on_the_disk_are_requested(
    tmp_path, monkeypatch, large, shape, dtype, counts, num_requested
):
    values, array = opened(tmp_path, shape, dtype)
    count = iter(counts)  # before the requests, after the first of them, and after the copy
    monkeypatch.setattr(mapped, "_num_reads", lambda: next(count))
    requests = []
    monkeypatch.setattr(MappedArray, "_advise", lambda self, *part: requests.append(part))
    row_bytes, header = values[0].nbytes, (tmp_path / "a.npy").stat().st_size - values.nbytes
    for number in num_requested:
        requests.clear()
        rows = array.index_select(0, torch.from_numpy(ROWS))
        np.testing.assert_array_equal(rows.numpy(), values[ROWS])
        assert len(requests) == number
        for row, (start, length) in zip(ROWS, requests, strict=False):
            first = header + int(row) * row_bytes
            assert start % mmap.PAGESIZE == 0  # as madvise requires
            assert first - mmap.PAGESIZE < start <= first
            assert start + length == first + row_bytes


def test_small_files_are_read_without_requests(tmp_path, monkeypatch):
    values, array = opened(tmp_path)
    monkeypatch.setattr(mapped, "_num_reads", lambda: pytest.fail("it was counted"))
    rows = array.index_select(0, torch.from_numpy(ROWS)).numpy()
    np.testing.assert_array_equal(rows, values[ROWS])


def test_rows_in_the_order_of_fortran_are_read_without_requests(tmp_path, large):
    values = np.asfortranarray(np.arange(N * 6.0).reshape(N, 6))
    np.save(tmp_path / "a.npy", values)
    rows = MappedArray(tmp_path / "a.npy").index_select(0, torch.from_numpy(ROWS))
    np.testing.assert_array_equal(rows.numpy(), values[ROWS])


def test_few_rows_wait_for_the_disk(tmp_path):
    opened(tmp_path, (2 * mmap.PAGESIZE,))
    one_by_one = read_cold(tmp_path / "a.npy", reads_ahead=False)
    if one_by_one < len(ROWS):
        pytest.skip("this file system keeps its files in memory")
    together = read_cold(tmp_path / "a.npy", reads_ahead=True)
    assert together < one_by_one / 4
