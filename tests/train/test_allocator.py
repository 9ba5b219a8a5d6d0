"""Freed memory is kept for reuse, and nothing fails where the C library has no such settings."""

import ctypes
import platform
import subprocess
import sys

import numpy as np
import pytest
from tests.train.jobs import in_child, make_job, outcome, same

from mla_lightning.run import allocator
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import PREDICTIONS

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
#: Takes and frees 40 MB ten times, in blocks that glibc takes from its heap.
PAGES = """
import ctypes, resource, sys
from mla_lightning.run.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc, size = ctypes.CDLL(None), 100_000
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    blocks = [libc.malloc(size) for _ in range(400)]
    for block in blocks:
        libc.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@needs_glibc
def test_freed_memory_is_used_again_without_new_pages():
    """In processes of their own: glibc adapts its thresholds to what was freed before."""
    pages = {}
    for word in ("keep", "default"):
        command = [sys.executable, "-c", PAGES, word]
        pages[word] = int(subprocess.run(command, capture_output=True, text=True).stdout)
    once = 400 * 100_000 / 4096
    assert 0.5 * once < pages["keep"] < 1.5 * once
    assert pages["default"] > 5 * once


@needs_glibc
def test_predictions_and_weights_do_not_depend_on_the_settings(tmp_path, monkeypatch):
    runs = {}
    for name in ("kept", "default"):
        job = make_job(tmp_path / name, "method=mla", "data.num_features=600", "data.num_train=400")
        assert in_child(lambda job=job: run_job(job)) == 0
        with np.load(job.run_dir / PREDICTIONS) as file:
            predictions = {key: file[key].tobytes() for key in file.files}
        runs[name] = {**outcome(job.run_dir), "predictions": predictions}
        for key in ("MMAP_BYTES", "TRIM_BYTES"):  # for the next run, as glibc starts
            monkeypatch.setattr(allocator, key, 128 * 1024)
    assert same(runs["kept"], runs["default"])


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(monkeypatch, error):
    def load(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert not allocator.keep_freed_memory()
