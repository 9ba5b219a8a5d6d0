"""Trainings of methods that plan rows, and what each of their batches had."""

import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import fit

from mla_lightning.batch import slice_batch

SIZES = (slice(0, 4), slice(4, 8), slice(8, 11))


def recorded(name, num_modalities=2, *, epochs=2, **options):
    """Train a method of the catalogue in double precision.

    Returns:
        The module, all samples, losses, and per step: the weights before it, the samples of its
        batch and which modalities they have.
    """
    whole = incomplete_batch(num_modalities, is_complete=True)
    for key in ("hidden", "truth"):
        del whole[key]
    pieces = [slice_batch(whole, rows) for rows in SIZES]
    module = build_method(name, whole, **options)
    steps, original = [], module.fit_batch

    def recording(batch):
        state = {key: value.clone() for key, value in module.state_dict().items()}
        steps.append((module.current_epoch, state, batch["index"], batch["present"]))
        return original(batch)

    module.fit_batch = recording
    losses = fit(module, pieces, epochs=epochs, precision="64-true")
    return module, whole, losses, steps


def plain_loop(steps, whole, loss_of, lr=0.05):
    """Descend from the weights before the first step, on the rows of each; return the weights."""
    frozen = ("counts", "prepared_epoch")
    weights = {k: v.clone() for k, v in steps[0][1].items() if k not in frozen}
    for epoch, _, index, present in steps:
        for value in weights.values():
            value.requires_grad_()
        inputs = {name: x[index] for name, x in whole["inputs"].items()}
        loss = loss_of(weights, inputs, whole["label"][index], present, epoch)
        gradients = torch.autograd.grad(loss, [*weights.values()], allow_unused=True)
        weights = {
            key: (value if gradient is None else value - lr * gradient).detach()
            for (key, value), gradient in zip(weights.items(), gradients, strict=True)
        }
    return weights


def features_of(weights, inputs, present):
    """Encode by one linear layer per modality, with zeros where it is absent."""
    return {
        m: (x @ weights[f"encoders.{m}.weight"].T + weights[f"encoders.{m}.bias"])
        * present[m][:, None]
        for m, x in inputs.items()
    }


def fused_of(weights, features):
    joined = torch.cat([*features.values()], dim=1)
    return joined @ weights["fusion.head.weight"].T + weights["fusion.head.bias"]


def nll(z, y):
    """Cross-entropy of each sample."""
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def all_present(whole):
    return {m: torch.ones(len(whole["label"]), dtype=torch.bool) for m in whole["inputs"]}


def rows_of(steps, num_modalities, num_samples):
    """Count how often samples occurred in steps, whole and with each modality alone."""
    counts = torch.zeros(num_samples, 1 + num_modalities, dtype=torch.int64)
    for _, _, index, present in steps:
        has = torch.stack([*present.values()], dim=1)
        for i, row in zip(index.tolist(), has.tolist(), strict=True):
            assert all(row) or sum(row) == 1
            counts[i, 0 if all(row) else 1 + row.index(True)] += 1
    return counts
