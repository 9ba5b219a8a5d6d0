"""Folders that hold a finished run's model: its weights, how to build it, and a model card."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mla_lightning import __version__
from mla_lightning import run_folder as files
from mla_lightning.config.jobs import data_of_config
from mla_lightning.config.targets import TARGET
from mla_lightning.data.exported import ExportedData
from mla_lightning.errors import ConfigError, NoRunError, RunError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import DataFacts, build_module
from mla_lightning.run.finished import LoadedRun, was_complete, with_weights
from mla_lightning.run.model_card import model_card
from mla_lightning.run.onnx_file import Exported
from mla_lightning.run.predict import batches_of, predict_samples
from mla_lightning.run.trial_samples import first_samples, trials
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.reader import RunFiles

FORMAT, VERSION = "mla_lightning model", 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
#: Between a metric and the name of a weight that was selected by it, if there are several metrics.
SEPARATOR = ":"
#: What methods keep for training alone: projectors, memories of samples, copies of weights.
_TRAINING_ONLY = (
    *("modification.", "history_MN", "counts", "prototypes/", "classifiers.", "initial."),
    *("start.", "trace", "growth", "teachers."),
)
#: Settings of a run that no model is built with, some of which tell of its machine.
_UNUSED: Mapping[str, Any] = {
    "metrics": {},
    "paths": {"output_dir": "runs", "data_dir": "data"},
    "launcher": {},
    "logger": {},
    "callbacks": {},
    "grid": {},
    "run_dir": None,
    "modalities": None,
}


def write_model_folder(run: LoadedRun, path: Path, repository: str | None = None) -> Exported:
    """Write the model of a finished run to a new folder, if it can be built again from it alone.

    Args:
        run: The run with its model and its data, which are compared.
        path: The folder, which must not exist.
        repository: The name ``OWNER/NAME`` under which it will be published, for the model card;
            None if there is none.

    Returns:
        What was written. The model that is loaded from the folder computes what the run's model
        computes, bit for bit, on samples of the run's test split.

    Raises:
        ConfigError: If the folder exists, or the model cannot be built without files of this
            machine.
        RunError: If the loaded model computes something else; nothing is left then.
        DataError: If the data are missing.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> written = write_model_folder(load_run(run.folder), tmp / "model")
        >>> sorted(file.name for file in written.path.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        >>> written.difference
        0.0
    """
    split, inputs, present = first_samples(run)
    description = _description(run, inputs)
    several = len(run.states) > 1
    weights = {
        f"{metric}{SEPARATOR}{key}" if several else key: x.detach().clone().contiguous()
        for metric, state in run.states.items()
        for key, x in _predicting(run.module, state).items()
    }
    with _new_folder(path) as folder:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        description["weights"] = {
            "file": WEIGHTS,
            "sha256": _sha256_of(folder / WEIGHTS),
            "selected_by": list(run.states),
        }
        files.write_json(folder / CONFIG, description)
        files.write_text(folder / CARD, model_card(run.files, description, repository or path.name))
        names = _compare(run, read_model_folder(folder), inputs, present)
    is_mixing = bool(run.module.fusion.mixes_samples)
    num_samples = len(next(iter(present.values())))
    return Exported(path, run.module.modalities, names, 0.0, split, num_samples, is_mixing)


def read_model_folder(folder: Path) -> LoadedRun:
    """Build the model of a folder that :func:`write_model_folder` wrote; nothing else is read.

    Args:
        folder: The folder.

    Returns:
        The model, as that of a finished run; its data have no samples.

    Raises:
        NoRunError: If it is no such folder.
        RunError: If its weights are others than when it was written, or a file is damaged.
        ConfigError: If a later version wrote it, or it names classes that are not allowed.

    Example:
        >>> read_model_folder(tmp)
        Traceback (most recent call last):
        mla_lightning.errors.NoRunError: ... is no exported model: it has no config.json. ...
    """
    content = _read_description(folder)
    path, entry = folder / WEIGHTS, content["weights"]
    if not path.is_file() or _sha256_of(path) != entry["sha256"]:
        raise RunError(
            f"{path} is {'changed' if path.is_file() else 'missing'}: its hash is not that of "
            f"{folder / CONFIG}. Copy the folder again."
        )
    config = RunConfig.from_tree({**content["config"], **_UNUSED, "data": content["data"]})
    data = data_of_config(config.tree)
    num_outputs = max(1, len(data.class_names))
    facts = DataFacts(num_outputs, content["num_train"], content["is_complete"], data.task)
    with torch.random.fork_rng(devices=[]):
        module = build_module(config, data, facts=facts)
    initial, weights = module.state_dict(), load_file(path)
    metrics = entry["selected_by"]
    states = {
        metric: initial
        | {
            key.removeprefix(f"{metric}{SEPARATOR}"): x
            for key, x in weights.items()
            if len(metrics) == 1 or key.startswith(f"{metric}{SEPARATOR}")
        }
        for metric in metrics
    }
    return with_weights(RunFiles(folder), data, data.class_names, module, states)


def _read_description(folder: Path) -> dict[str, Any]:
    content = files.read_json(folder / CONFIG) if folder.is_dir() else None
    if content is None or content.get("format") != FORMAT:
        problem = "has no" if content is None else "has another kind of"
        raise NoRunError(
            f"{folder} is no exported model: it {problem} {CONFIG}. Write one: "
            "mla export RUN output=FOLDER format=safetensors"
        )
    if content.get("format_version") != VERSION:
        raise ConfigError(
            f"{folder} has version {content.get('format_version')} of the format, and this is "
            f"mla_lightning {__version__}, which reads version {VERSION}. It was written by "
            f"{content.get('mla_lightning')}: pip install -U mla_lightning"
        )
    return content


def _description(run: LoadedRun, rows: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what ``config.json`` holds, but for the weights."""
    module, config, result = run.module, run.files.config, run.files.result
    assert result is not None
    data = {
        TARGET: f"{ExportedData.__module__}.{ExportedData.__name__}",
        "name": run.data.name,
        "task": run.task,
        "class_names": list(run.class_names),
        "all_modalities": list(module.modalities),
        "batch_size": run.data.batch_size,
        "inputs": {
            name: _input_node(name, conversion)
            for name, conversion in module.parts.inputs.items()
            if name not in getattr(module, "scales", ())  # whose numbers are weights
        },
    }
    encoders = {m: _encoder_node(module, m, config.encoder or {}) for m in module.modalities}
    tree = {key: value for key, value in config.tree.items() if key not in ("data", *_UNUSED)}
    one_device = {"compile": False, "devices": 1, "num_nodes": 1, "accelerator": "cpu"}
    tree |= {"encoder": encoders, "trainer": {**tree["trainer"], **one_device}}
    if tree.get("missing"):
        tree["missing"] = {**tree["missing"], "manifest": None}
    _check_no_paths({key: tree[key] for key in ("encoder", "method", "task", "missing")})
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "mla_lightning": __version__,
        "num_train": result.num_train,
        "is_complete": was_complete(run.files),
        "rows": {
            name: {"shape": list(x.shape[1:]), "dtype": str(x.dtype).removeprefix("torch.")}
            for name, x in rows.items()
        },
        "made_by": (run.files.provenance.get("data") or {}).get("inputs") or {},
        "data": data,
        "config": tree,
    }


def _encoder_node(
    module: MultimodalModule, name: str, nodes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the node that builds an encoder without the files that its weights came from."""
    node = dict(nodes[name])
    if own := getattr(module.encoders[name], "options_without_files", None):
        return {**node, **own()}
    without = {"checkpoint": None, "pretrained": False}
    return {**node, **{key: value for key, value in without.items() if key in node}}


def _input_node(name: str, conversion: object) -> dict[str, Any]:
    """Return the node that builds a conversion of rows, from its attributes."""
    kind = type(conversion)
    node: dict[str, Any] = {TARGET: f"{kind.__module__}.{kind.__qualname__}"}
    for option in inspect.signature(kind).parameters:
        if not hasattr(conversion, option):
            raise ConfigError(
                f"The input of {name!r} cannot be described: {kind.__name__} does not keep its "
                f"option {option!r}. Set it as an attribute: self.{option} = {option}"
            )
        value = getattr(conversion, option)
        node[option] = list(value) if isinstance(value, tuple) else value
    return node


def _check_no_paths(node: Any, key: str = "") -> None:
    """Raise ConfigError if a setting is a file of this machine, which others do not have."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            _check_no_paths(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "/" in node and Path(node).expanduser().exists():
        raise ConfigError(
            f"{key}={node} is a file of this machine, so the model cannot be built elsewhere. "
            "Export it as one file instead: mla export RUN output=model.onnx"
        )


def _predicting(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without what serves training alone; of a method of a user all."""
    if not type(module).__module__.startswith("mla_lightning."):
        return dict(state)
    return {key: x for key, x in state.items() if not key.startswith(_TRAINING_ONLY)}


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Make a folder under another name, and give it its name at the end; else leave nothing."""
    if path.exists():
        raise ConfigError(f"{path} exists already. Choose another folder: output=FOLDER")
    folder = path.with_name(f".{path.name}.{token_hex(6)}.tmp")
    folder.mkdir()
    try:
        yield folder
        folder.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(
    run: LoadedRun,
    other: LoadedRun,
    inputs: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> tuple[str, ...]:
    """Return the names of the outputs; raise RunError if one differs in a single bit."""
    for trial, size, has in trials(present):
        is_complete = run.module.parts.is_complete and all(bool(x.all()) for x in has.values())
        with _plain(run.module, is_complete), _plain(other.module, is_complete):
            for batch in batches_of({**inputs, "present": has}, size):
                expected, got = _outputs(run, batch), _outputs(other, batch)
                for name, x in expected.items():
                    y = got.get(name)
                    if y is None or not x.equal(y):
                        raise RunError(
                            "The model that was built from the folder does not compute what the "
                            f"run's model computes: {name} differs ({trial}, batch of {size} "
                            "samples). Nothing was written."
                        )
    return (f"logits_{MULTI}", *(f"logits_{m}" for m in run.module.modalities))


def _outputs(run: LoadedRun, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the bits of what a model computes of a batch, by name."""
    prediction = predict_samples(run, [batch])
    outputs = {f"logits_{name}": x for name, x in prediction.logits.items()}
    outputs |= {f"weight_{name}": x for name, x in prediction.weights.items()}
    return {name: x.contiguous().view(torch.uint8) for name, x in outputs.items()}


@contextmanager
def _plain(module: MultimodalModule, is_complete: bool) -> Iterator[None]:
    """Say whether samples are complete, and leave out compiled code, until the end."""
    parts, compiled = module.parts, {m: m._compiled_call_impl for m in module.modules()}
    module.parts = replace(parts, is_complete=is_complete)
    for submodule in compiled:
        submodule._compiled_call_impl = None
    try:
        yield
    finally:
        module.parts = parts
        for submodule, call in compiled.items():
            submodule._compiled_call_impl = call
