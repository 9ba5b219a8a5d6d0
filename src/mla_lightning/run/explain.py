"""Errors of torch during training, in words that name the place, the reason and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer

from mla_lightning.errors import MLAError, RunError

_SMALLER_RATE = "Try a smaller optimizer.lr, or trainer.clip_norm=1."
#: Pattern of torch's message -> the reason, and what to do.
_KNOWN = {
    r"Expected more than 1 value per channel": (
        "batch normalisation cannot normalise a batch in which one sample alone has the modality. "
        "Choose data.batch_size so that the last batch of an epoch has more samples, or an encoder "
        "without batch normalisation."
    ),
    r"can't allocate memory|CUDA out of memory|out of memory": (
        "the memory of the device is used up. Try trainer.accumulate=4, which computes each batch "
        "in chunks with the same gradient, a smaller data.batch_size, or trainer.precision="
        "bf16-mixed."
    ),
    r"does not have a deterministic implementation": (
        "an operation of the model has no deterministic implementation. Leave it out, or write "
        "trainer.deterministic=false: then the numbers of two runs may differ."
    ),
    r"index out of range in self|out of bounds": (
        "the data hold an index, such as a token, that the encoder's embedding does not have. "
        "Were they prepared with another vocabulary? See `mla data show STORE`."
    ),
}


@contextmanager
def errors_explained(trainer: Trainer) -> Iterator[None]:
    """Raise known errors of torch in the context with the epoch and batch, and what to do.

    Args:
        trainer: The Trainer that trains in the context.

    Raises:
        RunError: From the error of torch. Errors of mla_lightning and unknown ones pass unchanged.

    Example:
        >>> with errors_explained(Trainer(logger=False, accelerator="cpu")):
        ...     torch.nn.BatchNorm1d(2)(torch.zeros(1, 2))
        Traceback (most recent call last):
        mla_lightning.errors.RunError: Epoch 1, batch 1: batch normalisation cannot normalise ...
    """
    try:
        yield
    except MLAError:
        raise
    except Exception as error:
        reason = _reason_of(error, trainer)
        if not reason:
            raise
        batch = max(trainer.fit_loop.epoch_loop.batch_idx, 0) + 1
        raise RunError(f"Epoch {trainer.current_epoch + 1}, batch {batch}: {reason}") from error


def _reason_of(error: Exception, trainer: Trainer) -> str:
    """Return reason and remedy of an error of torch; empty if it is unknown."""
    for pattern, reason in _KNOWN.items():
        if re.search(pattern, str(error)):
            return reason
    if "LinAlgError" in type(error).__name__:  # of torch or of NumPy
        return (
            "a matrix of the method has no decomposition, as its entries are not finite or too "
            f"large. The last checkpoint before it is kept. {_SMALLER_RATE}"
        )
    module = trainer.lightning_module
    diverged = [
        name
        for name, weight in (module.named_parameters() if module is not None else ())
        if not bool(weight.detach().isfinite().all())
    ]
    if diverged and isinstance(error, ValueError | RuntimeError | ArithmeticError):
        text = " ".join(str(error).split())
        return (
            f"the weights {diverged[0]} are not finite, so that training failed ({text}). The last "
            f"checkpoint before it is kept. {_SMALLER_RATE}"
        )
    return ""
