"""Checks that the parts of a method fit its training rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mla_lightning.errors import ConfigError
from mla_lightning.inputs.names import modality_name_problem
from mla_lightning.run_folder.tasks import held_out_message

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from mla_lightning.parts import Parts


def check_composition(method: Any, parts: Parts) -> None:
    """Check that a method's parts fit its training rule.

    Args:
        method: The method.
        parts: Its parts.

    Raises:
        ConfigError: If there are too few modalities or one has a reserved name, samples have
            missing modalities and the method has no rule for them, the method is not defined for
            the task, something that it needs of the data is not given, or a setting is out of range
            or would have no effect.
    """
    name = type(method).__name__
    for modality in parts.encoders:
        if problem := modality_name_problem(modality):
            raise ConfigError(f"{modality!r} {problem}. Rename it in encoders and batches.")
    type(method).check_modalities(tuple(parts.encoders))
    is_weighted = getattr(parts.task, "class_weights", None) is not None
    type(method).check_task(parts.task.name, has_class_weights=is_weighted)
    if not parts.is_complete and not method.takes_incomplete:
        raise ConfigError(
            f"{name} has no rule for samples with missing modalities. Use another method."
        )
    if method.needs_num_train and parts.num_train is None:
        raise ConfigError(
            f"{name} stores a history per training sample: give "
            "num_train=<number of training samples>, and each sample's number as batch['index']."
        )
    if method.fits_all_at_once or method.needs_train_batches:
        check_train_batches(method, parts, "fits" if method.fits_all_at_once else "also reads")
    if method.needs_held_out and parts.held_out_batches is None:
        raise ConfigError(held_out_message(name))
    if parts.accumulate < 1:
        raise ConfigError(f"trainer.accumulate must be at least 1, got {parts.accumulate}")
    if parts.accumulate > 1 and (method.fits_all_at_once or not method.takes_chunks):
        raise ConfigError(
            f"trainer.accumulate={parts.accumulate}: the loss of {name} is computed from all "
            "samples of a batch together and cannot be computed in chunks. Set it to 1."
        )
    check_ranks(type(method), parts)
    if parts.resamples_masks and method.fits_all_at_once:
        raise ConfigError(
            f"missing.resample_train_masks has no effect on {name}, which fits all training "
            "samples at once"
        )


def check_ranks(kind: type, parts: Parts) -> None:
    """Check that several ranks may train a method.

    Args:
        kind: The class of the method.
        parts: Its parts.

    Raises:
        ConfigError: If they may not, with the reason.
    """
    count = parts.num_ranks
    if count < 1:
        raise ConfigError(f"num_ranks must be at least 1, got {count}")
    if count == 1 or takes_ranks(kind):
        return
    is_ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    reason = (
        "it computes something from all samples of a batch or of the data together"
        if is_ours
        else "it does not say that this gives the gradient of the whole batch. If its losses are "
        "means over samples, and whatever else depends on all samples of a batch is computed by "
        "mla_lightning.ranks, set its class attribute takes_ranks = True"
    )
    raise ConfigError(
        f"{count} devices: {kind.__name__} is for one device: {reason}. Set trainer.devices=1 and "
        "trainer.num_nodes=1."
    )


def takes_ranks(kind: type) -> bool:
    """Return whether several ranks may train a method, as its class itself says.

    What a class of this package says is not inherited by one of the user: its own training rule may
    need what the package's does not.

    Args:
        kind: The class of the method.

    Example:
        >>> from mla_lightning.methods import DCCA, Joint
        >>> takes_ranks(Joint), takes_ranks(DCCA)
        (True, False)
        >>> own = type("Own", (Joint,), {"__module__": "my_lab"})
        >>> takes_ranks(own)
        False
    """
    package = __name__.partition(".")[0]
    for base in kind.__mro__:
        if "takes_ranks" in vars(base):
            return bool(vars(base)["takes_ranks"])
        if base.__module__.partition(".")[0] != package:
            return False
    return False


def check_strategy(trainer: Trainer) -> None:
    """Check that the gradients of several devices are left to the module's own steps.

    Args:
        trainer: The Trainer, at the start of training.

    Raises:
        ConfigError: If its strategy averages them, as Lightning's own strategies do.
    """
    strategy = trainer.strategy
    if trainer.world_size > 1 and not getattr(strategy, "leaves_gradients", False):
        raise ConfigError(
            f"Trainer(devices=..., strategy=...) with {type(strategy).__name__} would train the "
            "module wrongly: losses, projections and batch statistics are those of whole batches. "
            'Use mla.train("trainer.devices=2", ...), or Trainer(devices=1).'
        )


def check_mixing(method: Any, parts: Parts) -> None:
    """Check that the samples of a batch may be computed apart, if they are.

    Args:
        method: The method, with its fusion.
        parts: Its parts.

    Raises:
        ConfigError: If the fused logits of a sample depend on the others of its batch.
    """
    if not method.fusion.mixes_samples:
        return
    if parts.num_ranks > 1:
        raise ConfigError(
            f"{parts.num_ranks} devices: the fused logits of a sample depend on all samples of its "
            "batch (weighting=batch_entropy), of which each device has a part. Set "
            "trainer.devices=1 and trainer.num_nodes=1, or choose another weighting."
        )
    if parts.accumulate > 1 and method.trains_fused_logits:
        raise ConfigError(
            f"trainer.accumulate={parts.accumulate}: the fused logits of a sample depend "
            "on all samples of its batch (weighting=batch_entropy) and cannot be computed in "
            "chunks. Set it to 1."
        )


def check_train_batches(method: Any, parts: Parts, reads: str) -> None:
    """Check that all training samples can be read.

    Args:
        method: The method.
        parts: Its parts.
        reads: What it does with them, for the message.

    Raises:
        ConfigError: If they cannot.
    """
    if parts.train_batches is None:
        raise ConfigError(
            f"{type(method).__name__} {reads} all training samples at once: give "
            "train_batches=lambda: loader, a function that returns the training batches in a fixed "
            "order."
        )
