"""UMAP of features: of the library where it is installed, and what is given to it anywhere."""

import sys
from types import SimpleNamespace

import pytest
import torch

from mla_lightning.config import compose_jobs
from mla_lightning.errors import ConfigError
from mla_lightning.metrics import umap_plane
from mla_lightning.run import preflight, submission
from mla_lightning.run.diagnose import feature_planes


def clusters():
    """Return features of two modalities, in two clusters each, and the clusters."""
    generator = torch.Generator().manual_seed(0)
    cluster = torch.arange(60) % 2
    centres = 6 * torch.randn(2, 8, generator=generator)
    return {m: centres[cluster] + torch.randn(60, 8, generator=generator) for m in "ab"}, cluster


@pytest.mark.slow
def test_neighbours_stay_together_and_a_seed_gives_the_same():
    pytest.importorskip("umap", reason="pip install 'mla_lightning[umap]'")
    features, cluster = clusters()
    planes = umap_plane(features, 3)
    assert torch.equal(planes["b"], umap_plane(features, 3)["b"])
    assert not torch.equal(planes["b"], umap_plane(features, 4)["b"])
    distances = torch.cdist(planes["a"], planes["b"])
    nearest = cluster[distances.argmin(dim=1)]
    assert (nearest == cluster).double().mean() > 0.95


@pytest.fixture
def given(monkeypatch):
    """A stand-in that keeps what it is given, and returns the first two columns."""
    calls = []

    class Umap:
        def __init__(self, **options):
            calls.append(options)

        def fit_transform(self, rows):
            calls.append(rows)
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    return calls


def test_directions_of_all_modalities_are_placed_together(given):
    features, _ = clusters()
    planes = umap_plane(features, 5)
    options, rows = given
    assert options["random_state"] == 5
    assert options["n_jobs"] == 1  # more threads would not be reproducible
    torch.testing.assert_close(torch.from_numpy(rows).norm(dim=1), torch.ones(120).double())
    assert torch.equal(torch.cat([planes["a"], planes["b"]]), torch.from_numpy(rows[:, :2]))


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [("epoch", {"pca"}), ("full", {"pca", "tsne"}), ("umap", {"pca", "tsne", "umap"})],
)
def test_the_mode_says_which_planes_there_are(given, mode, kinds):
    features, cluster = clusters()
    has = torch.ones(60, dtype=torch.bool)
    predictions = SimpleNamespace(label=cluster, present={"a": has, "b": has})
    arrays = feature_planes(features, predictions, mode, 0)
    assert {name.partition("/")[0] for name in arrays} == {"label", "present", *kinds}


def test_without_the_package_nothing_starts(monkeypatch):
    # also where a job before it has the same data and model
    jobs = [
        job
        for mode in ("full", "umap")
        for job in compose_jobs(["data=synthetic", f"diagnostics={mode}"])
    ]
    monkeypatch.setattr(submission, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mla_lightning\[umap\]'.*diagnostics=full"):
        preflight.check_before_start(jobs)
    monkeypatch.setattr(submission, "find_spec", lambda name: object())
    preflight.check_before_start(jobs)
