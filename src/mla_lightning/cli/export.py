"""The verb ``mla export``: write the model of a finished run to an ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mla_lightning.cli.words import check_output, run_options

EXPORT = """\
examples:
  mla export runs/train/RUN                              model.onnx
  mla export runs/train/RUN output=mine.onnx
  mla export runs/train/RUN data.path=/new/place         if the run's store was moved

The file takes the rows of each modality as the run's data set stores them, and which samples have
which modality (present_MODALITY). It returns prediction, probabilities, logits and weights, for
any number of samples. It is only kept if onnxruntime computes what the run's model computes.
Needs: pip install 'mla_lightning[export]'
"""
OPTIONS = ("output", "data.path")


def export(options: argparse.Namespace) -> int:
    """Write the model of a finished run to an ONNX file.

    Args:
        options: ``run``, the run folder; ``overrides``; ``allow_target``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown, the file exists or cannot be written, a package is
            missing, or the model cannot be exported.
        RunError: If the folder holds no finished run, or the exported model computes something
            else.
        DataError: If the data of the run do not exist.
    """
    values = run_options(options.overrides, OPTIONS, "mla export")
    output = Path(values.get("output", "model.onnx"))
    check_output(output, (".onnx",))
    from mla_lightning.config import allow_target
    from mla_lightning.run.finished import load_run
    from mla_lightning.run.onnx_file import check_packages, write_onnx

    check_packages()
    for prefix in options.allow_target:
        allow_target(prefix)
    moved: dict[str, Any] = {"path": values["data.path"]} if "data.path" in values else {}
    written = write_onnx(load_run(options.run, **moved), output)
    print(f"inputs   {', '.join(written.inputs)}")
    print(f"outputs  {', '.join(written.outputs)}")
    if written.mixes_samples:
        print("note: fusion weights are those of a whole batch, so they depend on its samples")
    print(
        f"Largest difference to the run's model: {written.difference:.2g}, of "
        f"{written.num_samples} samples of {written.split}, with and without each modality"
    )
    print(f"Wrote {written.path} ({written.path.stat().st_size / 1e6:.2f} MB)")
    return 0
