"""The columns of ``metrics.csv``: one place spells them, for who writes and who reads."""

from __future__ import annotations

EPOCH = "epoch"
STEP = "step"
LR = "lr"
EPOCH_TIME = "time/epoch_s"
STEP_TIME = "time/step_s"
DIAGNOSTICS_TIME = "time/diagnostics_s"
STEP_FLOPS = "cost/step_flops"
VAL_ACCURACY = "val/acc"
#: Reported by this name: the logits of the fusion, as against those of one modality.
MULTI = "multi"

#: Beginnings of the columns that a family has.
TRAIN_LOSS = "train/loss/"
PROBE_ACCURACY = "probe/acc/"
FORGETTING = "forgetting/"
GRADIENT = "gradient/"
PROJECTOR = "projector/"
GAP = "gap/"


def validation(metric: str, modality: str = MULTI) -> str:
    """Return the column of a validation metric.

    Args:
        metric: ``acc``, ``f1_macro``, ``ece`` or another one that is computed in every epoch.
        modality: A modality, or ``multi``.

    Example:
        >>> validation("acc"), validation("acc", "audio")
        ('val/acc', 'val/acc/audio')
    """
    return f"val/{metric}" if modality == MULTI else f"val/{metric}/{modality}"


def forgetting(measure: str, step: str, modality: str) -> str:
    """Return the column of what a step changes in a modality.

    Args:
        measure: ``loss`` or ``acc`` by the whole step, ``own_loss`` or ``own_acc`` by its gradient
            alone.
        step: The losses that the step is on, joined by ``+``.
        modality: The modality whose loss or accuracy changes.
    """
    return f"{FORGETTING}{measure}/{step}/{modality}"


def parse_forgetting(column: str) -> tuple[str, str, str] | None:
    """Return measure, step and modality of a column of forgetting, None for another column.

    Example:
        >>> parse_forgetting("forgetting/own_loss/audio/text")
        ('own_loss', 'audio', 'text')
        >>> parse_forgetting("val/acc")
    """
    if not column.startswith(FORGETTING):
        return None
    measure, _, rest = column.removeprefix(FORGETTING).partition("/")
    step, _, modality = rest.rpartition("/")
    return measure, step, modality


def gradient(kind: str, first: str, second: str) -> str:
    """Return the column of the cosine between two modalities' gradients of the shared head.

    Args:
        kind: ``raw``, ``edited`` (after the head gradient modification) or ``applied`` (movements).
        first: A modality.
        second: Another one.
    """
    return f"{GRADIENT}{kind}/{first}/{second}"


def projector(statistic: str, name: str) -> str:
    """Return the column of a statistic of a projector's eigenvalues."""
    return f"{PROJECTOR}{statistic}/{name}"


def gap(first: str, second: str) -> str:
    """Return the column of the modality gap between two modalities."""
    return f"{GAP}{first}/{second}"
