"""Whatever an absent feature holds reaches neither the fused logits nor a gradient."""

import pytest
import torch

from mla_lightning.config.listing import list_entries
from mla_lightning.config.targets import instantiate
from mla_lightning.fusion.late import LateFusion
from mla_lightning.fusion.shared_head import SharedHead

SIZE, WIDTH, NUM_CLASSES = 6, 8, 4
PRESENT = {
    "audio": torch.tensor([True, False, True, False, True, True]),
    "visual": torch.tensor([True, True, False, True, False, True]),
    "text": torch.tensor([True, True, True, False, False, True]),
}
LOGITS = ("mean", "entropy", "batch_entropy", [0.5, 0.3, 0.2])


def catalogue():
    import yaml

    for entry in list_entries("fusion"):
        content = yaml.safe_load(entry.path.read_text())
        base = next((d for d in content.pop("defaults", []) if isinstance(d, str)), None)
        if base:
            content = yaml.safe_load((entry.path.parent / f"{base}.yaml").read_text()) | content
        yield pytest.param(content, id=entry.name)


def built(build):
    torch.manual_seed(0)
    fusion = build(dict.fromkeys(PRESENT, WIDTH), NUM_CLASSES)
    if hasattr(fusion, "allocate_codes"):
        fusion.allocate_codes(5)
    return fusion.eval()  # without dropout


def outcome(fusion, filling):
    """Return the fused logits, and the gradients of the weights and of the features."""
    rng = torch.Generator().manual_seed(1)
    features = {}
    for name, has in PRESENT.items():
        x = torch.randn(SIZE, WIDTH, generator=rng)
        features[name] = torch.where(has[:, None], x, filling).requires_grad_()
    fusion.zero_grad()
    fused = fusion(features, PRESENT)
    gradients = []
    if fused.requires_grad:
        (fused * torch.randn(SIZE, NUM_CLASSES, generator=rng)).sum().backward()
        inputs = [x.grad for x in features.values()]
        gradients = [g for g in (*inputs, *(p.grad for p in fusion.parameters())) if g is not None]
    return [fused.detach(), *gradients]


def check(fusion):
    expected = outcome(fusion, 0.0)
    assert all(bool(value.isfinite().all()) for value in expected)
    for filling in (float("nan"), float("inf"), 1e4):
        for one, other in zip(expected, outcome(fusion, filling), strict=True):
            assert torch.equal(one, other)
    return len(expected)


@pytest.mark.parametrize("content", list(catalogue()))
def test_no_fusion_of_the_catalogue_reads_absent_features(content):
    check(built(instantiate(content)))


@pytest.mark.parametrize("fusion", [LateFusion, SharedHead])
@pytest.mark.parametrize("weighting", LOGITS, ids=str)
def test_no_weighting_of_logits_reads_absent_features(fusion, weighting):
    assert check(built(lambda *args: fusion(*args, weighting=weighting))) > len(PRESENT)


def test_the_mean_probability_is_that_of_the_present_modalities():
    fusion = built(lambda *args: LateFusion(*args, weighting="mean_probability"))
    assert check(fusion) > len(PRESENT)
    features = {m: torch.randn(SIZE, WIDTH) for m in PRESENT}
    own = {m: z.softmax(dim=1) for m, z in fusion.unimodal(features).items()}
    fused = fusion(features, PRESENT).exp()
    for row in (0, 1, 2, 4):
        has = [own[m][row] for m in PRESENT if PRESENT[m][row]]
        torch.testing.assert_close(fused[row], sum(has) / len(has))
