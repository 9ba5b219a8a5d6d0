"""The losses of methods with a teacher, written out in numpy, and the gradients they give."""

import numpy as np
import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch

#: Sample 1 has no audio at all: it is neither present nor hidden, so no teacher knows it.
UNKNOWN = 1


def built(name, num_modalities, target, **options):
    """Build a method in its second stage, whose teacher has weights of its own."""
    batch = incomplete_batch(num_modalities)
    batch["present"]["audio"][UNKNOWN] = batch["hidden"]["audio"][UNKNOWN] = False
    batch["inputs"]["audio"][UNKNOWN] = batch["truth"]["audio"][UNKNOWN] = 0
    module = build_method(name, batch, recon_target=target, **options).double()
    rng = torch.Generator().manual_seed(5)
    for parameter in module.teacher.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    return module, batch


def array(x):
    return x.detach().numpy()


def encoded(encoders, x, has):
    """Encode by linear layers, zeros where not present."""
    return np.concatenate(
        [
            (array(x[m]) @ array(e.weight).T + array(e.bias)) * array(has[m])[:, None]
            for m, e in encoders.items()
        ],
        axis=1,
    )


def known_inputs(batch, target):
    """Return the teacher's inputs, where they are known, and where they are targets."""
    if target == "observed":
        return batch["inputs"], batch["present"], batch["present"]
    known = {m: has | batch["hidden"][m] for m, has in batch["present"].items()}
    return batch["truth"], known, batch["hidden"]


def squared_error(imagined, module, batch, target):
    """Mean squared error of imagined features from the teacher's, over all entries."""
    x, known, is_target = known_inputs(batch, target)
    expected = encoded(module.teacher["encoders"], x, is_target)
    width = imagined.shape[1] // len(known)
    counts = np.repeat(np.stack([array(k) for k in known.values()], axis=1), width, axis=1)
    return float((counts * (array(imagined) - expected) ** 2).mean())


def cross_entropy(logits, label):
    z = array(logits)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(z)), array(label)].mean())


@pytest.mark.parametrize("target", ["oracle", "observed"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_mmin_imagines_the_teachers_features_and_back(num_modalities, target):
    module, batch = built("mmin", num_modalities, target)
    module.imagination_weight, module.cycle_weight = 4.0, 2.0
    losses = module.taught_losses(batch)
    h = encoded(module.encoders, batch["inputs"], batch["present"])
    imagined, codes = module.fusion.imagination(torch.tensor(h))
    back, _ = module.fusion.backward_imagination(imagined)
    error = squared_error(imagined, module, batch, target)
    assert losses["imagination"].item() == pytest.approx(4 * error, rel=1e-10)
    assert losses["cycle"].item() == pytest.approx(2 * ((array(back) - h) ** 2).mean(), rel=1e-10)
    expected = cross_entropy(module.fusion.classifier(codes), batch["label"])
    assert losses["joint"].item() == pytest.approx(expected, rel=1e-10)
    # What is imagined back is compared with features that this loss does not move.
    encoders = list(module.encoders.parameters())
    features = module.fusion.join(module.features(batch), module.parts.presence(batch))
    back, _ = module.fusion.backward_imagination(module.fusion.imagination(features)[0])
    cycle = 2 * torch.nn.functional.mse_loss(back, torch.tensor(h))
    expected = torch.autograd.grad(cycle, encoders)
    torch.testing.assert_close(torch.autograd.grad(losses["cycle"], encoders), expected)


@pytest.mark.parametrize("target", ["oracle", "observed"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_if_mmin_compares_invariant_features_with_the_teachers(num_modalities, target):
    module, batch = built("if_mmin", num_modalities, target)
    module.imagination_weight, module.invariant_weight = 3.0, 5.0
    losses = module.taught_losses(batch)
    h = encoded(module.encoders, batch["inputs"], batch["present"])
    parts = np.split(h, num_modalities, axis=1)
    c = np.concatenate([array(module.fusion.shared(torch.tensor(part))) for part in parts], axis=1)
    imagined, _ = module.fusion.imagination.imagine(torch.tensor(h), torch.tensor(c))
    error = squared_error(imagined, module, batch, target)
    assert losses["imagination"].item() == pytest.approx(3 * error, rel=1e-10)
    x, known, _ = known_inputs(batch, target)
    complete = np.split(encoded(module.teacher["encoders"], x, known), num_modalities, axis=1)
    shared = module.teacher["shared"]
    teacher_c = np.concatenate([array(shared(torch.tensor(part))) for part in complete], axis=1)
    width = c.shape[1] // num_modalities
    counts = np.repeat(np.stack([array(k) for k in known.values()], axis=1), width, axis=1)
    expected = 5 * (counts * (c - teacher_c) ** 2).mean()
    assert losses["invariant"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_if_mmins_first_stage_compares_the_moments_of_all_pairs(num_modalities):
    module, batch = built("if_mmin", num_modalities, "oracle")
    x, known, _ = known_inputs(batch, "oracle")
    parts = np.split(encoded(module.encoders, x, known), num_modalities, axis=1)
    invariant = [array(module.fusion.shared(torch.tensor(part))) for part in parts]

    def discrepancy(a, b):
        total = np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))
        for k in range(2, 6):
            moments = [((v - v.mean(axis=0)) ** k).mean(axis=0) for v in (a, b)]
            total += np.linalg.norm(moments[0] - moments[1])
        return total

    pairs = [(a, b) for i, a in enumerate(invariant) for b in invariant[:i]]
    expected = sum(discrepancy(*pair) for pair in pairs) / len(pairs)
    losses = module.pretraining_losses(batch)
    assert losses["moments"].item() == pytest.approx(expected, rel=1e-10)
    joined = torch.tensor(np.concatenate([*parts, *invariant], axis=1))
    full = cross_entropy(module.fusion.full_classifier(joined), batch["label"])
    assert losses["full"].item() == pytest.approx(full, rel=1e-10)


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def divergence(a, b):
    """Mean over samples and steps of KL(p|q) + KL(q|p)."""
    p, q = softmax(array(a)), softmax(array(b))
    kl = (p * np.log(p / q)).sum(axis=-1) + (q * np.log(q / p)).sum(axis=-1)
    return float(kl.mean(axis=1).mean())


@pytest.mark.parametrize("target", ["oracle", "observed"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_tate_compares_encoding_decoding_and_tag(num_modalities, target):
    module, batch = built("tate", num_modalities, target)
    module.weight = 0.7
    losses = module.taught_losses(batch)
    features = {m: e(batch["inputs"][m]) for m, e in module.encoders.items()}
    tokens, _ = module.fusion.tokens_of(features, batch["present"])
    encoding = module.fusion.encode_tokens(tokens)
    decoding = module.fusion.decode_tokens(encoding)
    x, known, _ = known_inputs(batch, target)
    teacher = module.teacher["fusion"]
    teacher_features = {m: e(x[m]) for m, e in module.teacher["encoders"].items()}
    teacher_encoding = teacher.encode_tokens(*teacher.tokens_of(teacher_features, known))
    expected = 0.7 * divergence(encoding, teacher_encoding)
    assert losses["forward"].item() == pytest.approx(expected, rel=1e-10)
    expected = 0.7 * divergence(decoding, tokens)
    assert losses["backward"].item() == pytest.approx(expected, rel=1e-10)
    missing = np.stack([~array(has) for has in batch["present"].values()], axis=1)
    tag = np.concatenate([~missing.any(axis=1, keepdims=True), missing], axis=1).astype(float)
    pooled = array(module.fusion.pool(encoding))[:, -tag.shape[1] :]
    expected = 0.7 * np.abs(1 / (1 + np.exp(-pooled)) - tag).mean()
    assert losses["tag"].item() == pytest.approx(expected, rel=1e-10)
    expected = cross_entropy(module.fusion.classify(encoding), batch["label"])
    assert losses["joint"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["forward", "backward", "tag", "joint"])
def test_the_gradient_of_each_loss_of_tate_is_that_of_its_value(name):
    """Central differences along a random direction; no loss is cut off from what it depends on."""
    module, batch = built("tate", 2, "oracle")
    parameters = [p for p in module.parameters() if p.requires_grad]
    rng = torch.Generator().manual_seed(7)
    direction = [torch.randn(p.shape, generator=rng).double() for p in parameters]

    def moved(size):
        with torch.no_grad():
            for parameter, change in zip(parameters, direction, strict=True):
                parameter.add_(change, alpha=size)
            value = float(module.taught_losses(batch)[name])
            for parameter, change in zip(parameters, direction, strict=True):
                parameter.add_(change, alpha=-size)
        return value

    step = 1e-6
    expected = (moved(step) - moved(-step)) / (2 * step)
    module.taught_losses(batch)[name].backward()
    pairs = zip(parameters, direction, strict=True)
    slope = sum(float((p.grad * change).sum()) for p, change in pairs if p.grad is not None)
    assert slope == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["mmin", "if_mmin", "tate"])
def test_the_teacher_is_never_in_training_mode(name):
    """Its features are targets, which dropout must not change."""
    module, _ = built(name, 2, "oracle")
    for mode in (True, False, True):
        module.train(mode)
        assert module.training == module.encoders.training == mode
        assert not any(part.training for part in module.teacher.modules())
