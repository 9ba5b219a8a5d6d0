"""The names of the columns of ``metrics.csv``, and those of ``results.csv`` that are no metric."""

from __future__ import annotations

EPOCH = "epoch"
STEP = "step"
LR = "lr"
EPOCH_TIME = "time/epoch_s"
STEP_TIME = "time/step_s"
DIAGNOSTICS_TIME = "time/diagnostics_s"
STEP_FLOPS = "cost/step_flops"
VAL_ACCURACY = "val/acc"
#: Stands for the fused logits where otherwise a modality is named.
MULTI = "multi"

#: Columns of ``results.csv`` that are no metric of the package: no other metric can have one.
RESULTS_COLUMNS = frozenset(
    (
        *("dataset", "method", "ablation", "overrides", "seed", "modality", "split", "state"),
        *("reason", "best_epoch", "epochs", "lr", "train_time_s", "epoch_time_s", "step_time_s"),
        *("peak_memory_mb", "num_parameters", "protocol", "data_split", "num_train", "num_val"),
        *("num_test", "unimodal_rule", "name", "identity", "code", "data", "git_commit"),
        *("versions", "device", "threads", "missing_percent", "masks", "patterns", "forgetting"),
        *("forgetting_pairs", "forgetting_own", "gradient_cosine", "projector_trace"),
        *("ece_scaled", "weight_gain", "method_label", "stale", "metrics", "retry", "run"),
        *("where", "path", "scores", "probe_percent", "select_by", "task", "majority_percent"),
        "train_gflop",
    )
)

#: Prefixes of columns that exist once per modality, loss or pair of modalities.
TRAIN_LOSS = "train/loss/"
PROBE_ACCURACY = "probe/acc/"
FORGETTING = "forgetting/"
GRADIENT = "gradient/"
PROJECTOR = "projector/"
GAP = "gap/"


def validation(metric: str, modality: str = MULTI) -> str:
    """Return the column of a validation metric.

    Args:
        metric: ``acc``, ``f1_macro``, ``ece`` or another metric that is computed in every epoch.
        modality: A modality, or ``multi`` for the fused logits.

    Example:
        >>> validation("acc"), validation("acc", "audio")
        ('val/acc', 'val/acc/audio')
    """
    return f"val/{metric}" if modality == MULTI else f"val/{metric}/{modality}"


def probe(metric: str, modality: str) -> str:
    """Return the column of the score of a probe on a modality's features.

    Args:
        metric: Column of the task's primary metric.
        modality: The modality.

    Example:
        >>> probe("acc", "audio")
        'probe/acc/audio'
    """
    return f"probe/{metric}/{modality}"


def forgetting(measure: str, step: str, modality: str) -> str:
    """Return the column of the change that a step makes to a modality's loss or accuracy.

    Args:
        measure: ``loss`` or ``acc`` (of other tasks the column of the primary metric) by the whole
            step, ``own_loss`` or ``own_acc`` by its gradient alone.
        step: The losses of the step, joined by ``+``.
        modality: The modality whose loss or accuracy changes.

    Example:
        >>> forgetting("loss", "audio", "text")
        'forgetting/loss/audio/text'
    """
    return f"{FORGETTING}{measure}/{step}/{modality}"


def parse_forgetting(column: str) -> tuple[str, str, str] | None:
    """Return measure, step and modality of a column of :func:`forgetting`, None for any other.

    Example:
        >>> parse_forgetting("forgetting/own_loss/audio/text")
        ('own_loss', 'audio', 'text')
        >>> parse_forgetting("val/acc") is None
        True
    """
    if not column.startswith(FORGETTING):
        return None
    measure, _, rest = column.removeprefix(FORGETTING).partition("/")
    step, _, modality = rest.rpartition("/")
    return measure, step, modality


def gradient(kind: str, first: str, second: str) -> str:
    """Return the column of the cosine between two modalities' gradients of the shared head.

    Args:
        kind: ``raw``, ``edited`` (after the head gradient modification) or ``applied`` (the change
            of the head's weights).
        first: A modality.
        second: Another modality.

    Example:
        >>> gradient("raw", "audio", "text")
        'gradient/raw/audio/text'
    """
    return f"{GRADIENT}{kind}/{first}/{second}"


def projector(statistic: str, name: str) -> str:
    """Return the column of a statistic of a projector's eigenvalues.

    Example:
        >>> projector("trace", "audio")
        'projector/trace/audio'
    """
    return f"{PROJECTOR}{statistic}/{name}"


def gap(first: str, second: str) -> str:
    """Return the column of the modality gap between two modalities.

    Example:
        >>> gap("audio", "text")
        'gap/audio/text'
    """
    return f"{GAP}{first}/{second}"
