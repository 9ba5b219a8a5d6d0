"""Checks that the files of a finished run belong together and are as the run wrote them.

A run's ``result.json`` records the SHA-256 of the other files that its numbers come from, and of
itself, so that not even one changed bit stays unnoticed. Results of earlier versions do not: their
files are compared with each other, as far as one follows from another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.identity import identity_of
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.parsing import REMEDY
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY, REGRESSION

if TYPE_CHECKING:
    import numpy as np

#: The files whose hashes ``result.json`` records, if they exist.
SEALED = (
    *(files.CONFIG, files.PROVENANCE, files.METRICS, files.PREDICTIONS),
    *(files.DIAGNOSTICS, files.PLANES),
)
#: The files that evaluation and prediction use, beside the checkpoints.
SETTINGS = (files.CONFIG, files.PROVENANCE)
#: Fields of a result that the config holds, too -> the keys of the config.
SAME_IN_CONFIG = {
    "seed": ("seed",),
    "name": ("name",),
    "protocol": ("protocol",),
    "select_by": ("select_by",),
    "method": ("choices", "method"),
    "ablation": ("choices", "ablation"),
    "lr": ("optimizer", "lr"),
}
#: Largest difference between a recorded accuracy and that of the predictions.
TOLERANCE = 1e-6
#: End of the name that training gives to a run folder: seed, and digits of the identity.
_NAME = re.compile(r"-seed(\d+)-([0-9a-f]{10})$")


def seal(run_dir: Path) -> dict[str, str]:
    r"""Return the SHA-256 of the files that a run's numbers come from, as hex, by name.

    Args:
        run_dir: The run folder.

    Example:
        >>> _ = (tmp / "metrics.csv").write_text("epoch\n1\n")
        >>> list(seal(tmp))
        ['metrics.csv']
    """
    hashes = {name: _hash_of(run_dir / name) for name in SEALED}
    return {name: value for name, value in hashes.items() if value is not None}


def check_run(run: RunFiles, names: tuple[str, ...] = SEALED) -> None:
    """Check that the files of a finished run belong together and are as the run wrote them.

    Args:
        run: The run's files.
        names: The files to check beside ``result.json``.

    Raises:
        RunError: If a file was changed, or belongs to another run; the message names it.
    """
    result = run.result
    assert result is not None
    for problem in _identity_problems(run):
        raise RunError(problem)
    if result.files:
        for name in names:
            _check_seal(run.folder, name, result.files.get(name))
        return
    for problem in _config_problems(run):
        raise RunError(f"{files.CONFIG} does not belong to {files.RESULT}: {problem}. {REMEDY}")
    if files.METRICS in names:
        _ = run.metrics, run.diagnostics, run.planes  # each raises an error if it is damaged
    if files.PREDICTIONS in names:
        for problem in _prediction_problems(run):
            raise RunError(f"{files.PREDICTIONS} and {files.RESULT} differ: {problem}. {REMEDY}")


def _check_seal(folder: Path, name: str, recorded: str | None) -> None:
    present = _hash_of(folder / name)
    if present == recorded:
        return
    if recorded is None:
        raise RunError(f"{name} is not a file of this run: its result was made without it. Move it")
    if present is None:
        raise RunError(f"{name} is gone, or cannot be read. {REMEDY}")
    raise RunError(f"{name} was changed since the run wrote it (its SHA-256 differs). {REMEDY}")


def _hash_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _identity_problems(run: RunFiles) -> Iterator[str]:
    """Yield where identity and seed of result, provenance and folder's name contradict."""
    result = run.result
    assert result is not None
    for key in ("identity", "seed"):
        recorded, value = run.provenance.get(key), getattr(result, key)
        if recorded is not None and recorded != value:
            yield (
                f"{files.RESULT} and {files.PROVENANCE} are of different runs: {key} is {value} "
                f"and {recorded}. {REMEDY}"
            )
    name = _NAME.search(run.folder.name)
    if name is None or not run.has_this_layout:
        return
    if int(name[1]) != result.seed or name[2] != result.identity[:10]:
        yield (
            f"{files.RESULT} is not of this folder's run: it is of seed {result.seed} and identity "
            f"{result.identity[:10]}. {REMEDY}"
        )


def _config_problems(run: RunFiles) -> Iterator[str]:
    result, tree = run.result, run.tree
    assert result is not None
    for field, keys in SAME_IN_CONFIG.items():
        value: Any = tree
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None and value != getattr(result, field):
            yield f"{'.'.join(keys)} is {value!r}, the result's {getattr(result, field)!r}"
    code = run.provenance.get("code")
    if isinstance(code, Mapping) and run.has_this_layout and code.get("hash") != result.code:
        yield f"{files.PROVENANCE} records other code than the result"
    fingerprint = run.provenance.get("data_fingerprint")
    if not run.has_this_layout or not isinstance(fingerprint, str):
        return
    try:
        identity = identity_of(tree, fingerprint)
    except (AttributeError, TypeError, ValueError) as error:
        yield str(error)
        return
    if identity != result.identity:
        yield (
            f"its settings have the identity {identity[:10]}, the result's is "
            f"{result.identity[:10]}, so a setting or the data were changed"
        )


def _prediction_problems(run: RunFiles) -> Iterator[str]:
    """Yield where the recorded scores are not those of the recorded predictions."""
    import numpy as np

    result, arrays = run.result, run.predictions
    assert result is not None
    if arrays is None or result.test is None or "label" not in arrays:
        return
    label, primary = arrays["label"], PRIMARY[result.task]
    if len(label) != result.num_test:
        yield f"{len(label)} and {result.num_test} test samples"
    has_presence = not result.missing or any(key.startswith("present_") for key in arrays)
    for name, scores in result.test.items():
        if not has_presence and name != MULTI:
            continue  # of an earlier version, which did not record who has the modality
        logits, recorded = arrays.get(f"logits_{name}"), scores[primary.metric]
        if logits is None or recorded is None:
            continue
        is_fitting = label.dtype.kind in ("iu" if result.task == CLASSIFICATION else "f")
        if logits.ndim != 2 or len(logits) != len(label) or not is_fitting:
            yield f"logits of {name} have the shape {logits.shape}, labels {label.shape}"
            continue
        rows = arrays.get(f"present_{name}", np.ones(len(label), bool)).astype(bool)
        if result.task == CLASSIFICATION and not _are_classes(label, logits.shape[1]):
            yield f"labels are outside of the {logits.shape[1]} classes"
            continue
        lowest, highest = _BOUNDS[result.task](logits[rows], label[rows])
        allowed = TOLERANCE * max(1.0, abs(recorded)) if primary.in_target_unit else TOLERANCE
        if not lowest - allowed <= recorded <= highest + allowed:
            yield (
                f"the test {primary.metric} of {name} is {recorded:.6g}, by the predictions "
                f"{lowest:.6g}"
            )


def _are_classes(label: np.ndarray, num_classes: int) -> bool:
    return bool(len(label)) and 0 <= label.min() <= label.max() < num_classes


def _accuracy_bounds(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest accuracy: with ties, either class may be predicted.

    So it is with values that are not finite.
    """
    import numpy as np

    of_label = logits[np.arange(len(label)), label][:, None]
    num_larger, num_equal = (logits > of_label).sum(axis=1), (logits == of_label).sum(axis=1)
    is_finite = np.isfinite(logits).all(axis=1)
    lowest = (is_finite & (num_larger == 0) & (num_equal == 1)).mean()
    return lowest, (~is_finite | (num_larger == 0)).mean()


def _error_bounds(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return the mean absolute error twice."""
    error = float(abs(logits[:, 0].astype(float) - label.astype(float)).mean())
    return error, error


def _f1_bounds(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return the F1 of all labels twice."""
    predicted, has = logits > 0, label > 0
    num_hits, total = (predicted & has).sum(), predicted.sum() + has.sum()
    f1 = float(2 * num_hits / total) if total else 0.0
    return f1, f1


#: Task -> bounds of its primary metric by logits and labels.
_BOUNDS = {CLASSIFICATION: _accuracy_bounds, REGRESSION: _error_bounds, MULTILABEL: _f1_bounds}
