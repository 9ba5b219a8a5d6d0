"""The verb ``mla export``: write the model of a finished run to a file or folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mla_lightning.cli.words import check_output, check_place, run_options
from mla_lightning.errors import ConfigError, check_choice

EXPORT = """\
examples:
  mla export runs/train/RUN                              model.onnx
  mla export runs/train/RUN output=mine.onnx
  mla export runs/train/RUN output=mine format=safetensors
  mla export runs/train/RUN output=mine format=safetensors hub=OWNER/NAME
  mla export runs/train/RUN data.path=/new/place         if the run's store was moved

format=onnx (the default) writes a file that needs no Python. It takes the rows of each modality as
the run's data set stores them, and which samples have which modality (present_MODALITY). It returns
prediction, probabilities, logits and weights, for any number of samples. It is only kept if
onnxruntime computes what the run's model computes.
Needs: pip install 'mla_lightning[export]'

format=safetensors writes a folder for mla.load_exported(FOLDER): model.safetensors, config.json and
a model card, README.md. It is only kept if the model that is built from it computes what the run's
model computes, bit for bit. hub= also uploads it to huggingface.co, as a model that
is private if it is new.
"""
OPTIONS = ("output", "format", "hub", "data.path")
FORMATS = ("onnx", "safetensors")


def export(options: argparse.Namespace) -> int:
    """Write the model of a finished run to a file or folder.

    Args:
        options: ``run``, the run folder; ``overrides``; ``allow_target``.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If an option is unknown, the output exists or cannot be written, a package is
            missing, or the model cannot be exported.
        RunError: If the folder holds no finished run, or the exported model computes something
            else.
        DataError: If the data of the run do not exist.
    """
    values = run_options(options.overrides, OPTIONS, "mla export")
    kind = values.get("format", "onnx")
    check_choice("format", kind, FORMATS)
    output = Path(values.get("output", "model.onnx" if kind == "onnx" else "model"))
    hub = values.get("hub")
    if kind == "onnx":
        _check_file(output, hub, has_format="format" in values)
    else:
        _check_folder(output)
    if hub is not None:
        from mla_lightning.run.hub import check_hub

        check_hub(hub)
    from mla_lightning.config import allow_target
    from mla_lightning.run.finished import load_run

    for prefix in options.allow_target:
        allow_target(prefix)
    moved: dict[str, Any] = {"path": values["data.path"]} if "data.path" in values else {}
    if kind == "safetensors":
        from mla_lightning.run.model_folder import write_model_folder

        written = write_model_folder(load_run(options.run, **moved), output, hub)
        files = ", ".join(sorted(path.name for path in output.iterdir()))
        print(f"Equal to the run's model, of {written.num_samples} samples of {written.split}")
        print(f"Wrote {output} ({files})")
        print(f'Load it: mla_lightning.load_exported("{output}")')
        print(f"Before others use it: fill in the licence and the limits in {output / 'README.md'}")
        if hub is not None:
            from mla_lightning.run.hub import push

            print(f"Uploaded to {push(output, hub)}")
        return 0
    from mla_lightning.run.onnx_file import check_packages, write_onnx

    check_packages()
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


def _check_file(output: Path, hub: str | None, *, has_format: bool) -> None:
    """Check the options of an ONNX file."""
    if hub is not None:
        raise ConfigError("hub=... uploads a folder with a model card: add format=safetensors")
    if output.suffix != ".onnx" and not has_format:
        raise ConfigError(
            f"output={output}: the name must end with .onnx; for a folder add format=safetensors"
        )
    check_output(output, (".onnx",))


def _check_folder(output: Path) -> None:
    """Check that a new folder can be written."""
    if output.suffix in (".onnx", ".safetensors"):
        raise ConfigError(
            f"output={output}: format=safetensors writes a folder. Give its name, such as "
            "output=model"
        )
    if output.exists():
        raise ConfigError(f"{output} exists already. Choose another folder: output=FOLDER")
    check_place(output)
