"""``mla predict``: predictions of a finished run for any data, with or without labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near

PREDICT = """\
examples:
  mla predict runs/train/RUN                              the test split of its own data
  mla predict runs/train/RUN data.path=data/new           every sample of a store, labels or not
  mla predict runs/train/RUN data.path=data/new output=new.npz
  mla predict runs/train/RUN data=mfeat split=val

A store of samples without labels: mla data import new.csv target=data/new labels=none
"""
OPTIONS = ("data", "data.path", "split", "output")


def predict(options: argparse.Namespace) -> int:
    """Write the predictions of a run.

    Args:
        options: ``run``, the run folder, and ``overrides``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown, or the output is there already.
        RunError: If there is no finished run.
        DataError: If the data are not there or lack a modality.
    """
    given = _given(options.overrides)
    output = Path(given.get("output", "predictions.csv"))
    if output.suffix not in (".csv", ".npz"):
        raise ConfigError(f"output={output}: its name must end with .csv or .npz")
    if output.exists():
        raise ConfigError(f"{output} is there already. Name another file: output=FILE")
    from mla_lightning.config import allow_target
    from mla_lightning.data.prepared import Prepared
    from mla_lightning.run.finished import load_run
    from mla_lightning.run.predict import ALL, batches_of_split, predict_samples

    for prefix in options.allow_target:
        allow_target(prefix)
    path = {"path": given["data.path"]} if "data.path" in given else {}
    run = load_run(options.run, _data_node(given.get("data")), **path)
    is_other = bool(path) or "data" in given
    split = given.get("split", ALL if is_other and isinstance(run.data, Prepared) else "test")
    batches, names = batches_of_split(run.data, split, run.data.eval_batch_size)
    prediction = replace(predict_samples(run, batches), ids=names)
    prediction.write(output)
    counts = _counts(prediction.classes)
    print(f"{len(names)} samples ({split} of {run.data.name}): {counts}. Wrote {output}")
    return 0


def _given(overrides: Sequence[str]) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if key not in OPTIONS or not separator or not value:
            raise ConfigError(
                f"mla predict takes {', '.join(f'{name}=...' for name in OPTIONS)}, not {text!r}."
                f"{near(key, OPTIONS)}"
            )
        given[key] = value
    return given


def _data_node(name: str | None) -> dict[str, Any] | None:
    if name is None:
        return None
    from mla_lightning.config import plan

    node: dict[str, Any] = plan([f"data={name}"])[0].config["data"]
    return node


def _counts(classes: Sequence[str]) -> str:
    from collections import Counter

    counts = Counter(classes).most_common()
    listed = ", ".join(f"{count} {name}" for name, count in counts[:8])
    return f"{listed}, and {len(counts) - 8} more classes" if len(counts) > 8 else listed
