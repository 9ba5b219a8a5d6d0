"""The verb ``mla predict``: predict samples, with or without labels, with a finished run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.cli.words import check_output, run_options
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

PREDICT = """\
examples:
  mla predict runs/train/RUN                              the test split of its own data
  mla predict runs/train/RUN data.path=data/new           every sample of a store
  mla predict runs/train/RUN data.path=data/new output=new.npz
  mla predict runs/train/RUN data=mfeat split=val

The samples need no labels, but inputs like those of the run's data. To make a store of unlabelled
samples whose sizes and categories are those of the store data/my:
  mla data import new.csv target=data/new labels=none like=data/my
"""
OPTIONS = ("data", "data.path", "split", "output")


if TYPE_CHECKING:
    from mla_lightning.run.prediction import Prediction


def predict(options: argparse.Namespace) -> int:
    """Write the predictions of a finished run to a file.

    Args:
        options: ``run``, the run folder; ``overrides``; ``allow_target``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown, or the output file exists or cannot be written.
        RunError: If the folder holds no finished run.
        DataError: If the data do not exist or a modality is missing.
    """
    values = run_options(options.overrides, OPTIONS, "mla predict")
    output = Path(values.get("output", "predictions.csv"))
    check_output(output, (".csv", ".npz"))
    from mla_lightning.config import allow_target
    from mla_lightning.data.prepared import Prepared
    from mla_lightning.run.finished import load_run
    from mla_lightning.run.predict import ALL, predict_split

    for prefix in options.allow_target:
        allow_target(prefix)
    run = load_run(options.run, _data_node(options.run, values))
    has_other_data = "data.path" in values or "data" in values
    is_whole_store = has_other_data and isinstance(run.data, Prepared)
    split = values.get("split", ALL if is_whole_store else "test")
    prediction = predict_split(run, run.data, split, run.data.eval_batch_size)
    prediction.write(output)
    counts = _summary(prediction)
    print(f"{len(prediction.ids)} samples ({split} of {run.data.name}): {counts}. Wrote {output}")
    return 0


def _data_node(run_dir: Path, values: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the config node of other data than the run's own; None for its own."""
    from mla_lightning.config import plan
    from mla_lightning.run.finished import finished_run

    node: dict[str, Any] | None = None
    if "data" in values:
        node = plan([f"data={values['data']}"])[0].config["data"]
    if "data.path" in values:
        node = node or finished_run(run_dir).config.data
        if "path" not in node:
            raise ConfigError(
                f"data.path={values['data.path']} has no effect: the data of {run_dir} are no "
                "prepared store. For a store of your own: data=store data.path=FOLDER"
                if "data" not in values
                else f"data.path has no effect on data={values['data']}, which is no prepared store"
            )
        node = {**node, "path": values["data.path"]}
    return node


def _summary(prediction: Prediction) -> str:
    """Return a few words on the predictions: numbers of classes or labels, or their range."""
    if prediction.task == REGRESSION:
        values = prediction.values
        low, mean, high = (f"{float(v):.4g}" for v in (values.min(), values.mean(), values.max()))
        return f"predictions from {low} to {high}, mean {mean}"
    if prediction.task == MULTILABEL:
        from mla_lightning.run.prediction import SEPARATOR

        labels = [name for text in prediction.classes for name in text.split(SEPARATOR)]
        return f"with {_format_counts([name or 'no label' for name in labels])}"
    return _format_counts(prediction.classes)


def _format_counts(classes: Sequence[str]) -> str:
    """Format the number of samples by predicted class, the most frequent classes first."""
    from collections import Counter

    counts = Counter(classes).most_common()
    listed = ", ".join(f"{count} {name}" for name, count in counts[:8])
    return f"{listed}, and {len(counts) - 8} more classes" if len(counts) > 8 else listed
