"""Errors of torch during training, in words that name the place, the reason and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer

from mla_lightning.errors import MLAError, RunError, reason_of

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


#: Begin of the note of an error that says where in a run it was raised.
_WHERE = "Raised in "


@contextmanager
def errors_placed(where: str) -> Iterator[None]:
    """Add a note to errors raised in the context that says where in a run they were raised.

    Args:
        where: The place, such as ``evaluation``. The innermost place of an error counts.

    Raises:
        Exception: The error itself, with the note. Errors of mla_lightning have none.

    Example:
        >>> import torch
        >>> try:
        ...     with errors_placed("evaluation"):
        ...         torch.zeros(2) + torch.zeros(3)
        ... except RuntimeError as error:
        ...     print(describe_unknown(error))
        Failed in evaluation: RuntimeError: The size of tensor a (2) must match ...
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # also sys.exit() of user code
        if not isinstance(error, MLAError):
            error.add_note(f"{_WHERE}{where}")
        raise


def describe_unknown(error: BaseException) -> str:
    """Return where in a run an error was raised, its kind and its text.

    Args:
        error: An error that is none of this package.

    Example:
        >>> describe_unknown(KeyError("audio"))
        "Failed: KeyError: 'audio'"
    """
    notes = getattr(error, "__notes__", ())
    where = next((note.removeprefix(_WHERE) for note in notes if note.startswith(_WHERE)), "")
    text = " ".join(str(error).split())
    kind = type(error).__name__
    place = f"Failed in {where}" if where else "Failed"
    return f"{place}: {kind}: {text}" if text else f"{place}: {kind}"


def describe_error(error: BaseException, num_workers: int | None = None) -> str:
    """Return the reason of a failure that is no error of this package.

    Args:
        error: The error.
        num_workers: ``data.num_workers``; None for data without loader workers.

    Example:
        >>> describe_error(ConnectionResetError("pipe"), num_workers=2)
        'A loader worker was killed (pipe), perhaps because memory was full. ...'
        >>> describe_error(FileNotFoundError(2, "No such file", "audio.npy"))
        'audio.npy: No such file. When that is mended, run the same command again to resume.'
    """
    text = str(error).strip().rstrip(".")
    is_named = isinstance(error, RuntimeError) and text.startswith("DataLoader worker")
    if is_named or (num_workers and isinstance(error, ConnectionError | EOFError)):
        detail = f" ({text})" if text else ""
        return (
            f"A loader worker was killed{detail}, perhaps because memory was full. Run the same "
            "command again to resume; a smaller data.num_workers needs less memory."
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{reason_of(error)}. When that is mended, run the same command again to resume."
    return describe_unknown(error)


@contextmanager
def errors_explained(trainer: Trainer) -> Iterator[None]:
    """Raise known errors of torch in the context with the epoch and batch, and what to do.

    Args:
        trainer: The Trainer that trains in the context.

    Raises:
        RunError: From the error of torch. Errors of mla_lightning pass unchanged; unknown ones get
            a note of epoch and batch.

    Example:
        >>> import torch
        >>> with errors_explained(Trainer(logger=False, accelerator="cpu")):
        ...     torch.nn.BatchNorm1d(2)(torch.zeros(1, 2))
        Traceback (most recent call last):
        mla_lightning.errors.RunError: Epoch 1, batch 1: batch normalisation cannot normalise ...
    """
    try:
        yield
    except MLAError:
        raise
    except (Exception, SystemExit) as error:  # also sys.exit() of user code
        reason = _reason_of(error, trainer)
        epoch, batch = trainer.current_epoch + 1, max(trainer.fit_loop.epoch_loop.batch_idx, 0) + 1
        if not reason:
            place = "validation" if trainer.validating else f"batch {batch}"
            error.add_note(f"{_WHERE}training, epoch {epoch}, {place}")
            raise
        raise RunError(f"Epoch {epoch}, batch {batch}: {reason}") from error


def _reason_of(error: BaseException, trainer: Trainer) -> str:
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
