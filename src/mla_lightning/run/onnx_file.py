"""Export of a finished run's model as an ONNX file, compared with the model before it is kept."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning import __version__
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.run.finished import LoadedRun
from mla_lightning.run.onnx_graph import PRESENT, Graph
from mla_lightning.run.predict import batches_of, predict_samples
from mla_lightning.run.trial_samples import first_samples, trials
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION
from mla_lightning.run_folder.writing import replacing

#: Packages of the extra `export`.
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INSTALL = "pip install 'mla_lightning[export]'"
#: Largest difference to the model, as a fraction of the largest value of an output, at least 1.
TOLERANCE = 1e-4
#: A file of this format holds at most 2 GB.
MOST_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Exported:
    """A written ONNX file, and how far its outputs are from those of the model.

    Attributes:
        path: The file.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        difference: The largest difference of any output to the model's.
        split: The split whose samples were compared.
        num_samples: How many were.
        mixes_samples: Whether a prediction depends on the other samples of the batch.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float
    split: str
    num_samples: int
    mixes_samples: bool


def check_packages() -> None:
    """Check that the packages of the extra ``export`` are installed.

    Raises:
        ConfigError: If one is not, with the command that installs it.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"Export to ONNX needs {', '.join(missing)}, which is not installed: {INSTALL}"
        )


def write_onnx(run: LoadedRun, path: Path) -> Exported:
    """Write the model of a finished run to an ONNX file, if it computes what the model computes.

    The inputs are the rows of each modality as the run's data set stores them, and
    ``present_<modality>`` (B,) bool. The outputs are ``prediction`` (the number of the class, true
    or false for each label, or the predicted number), ``probabilities`` unless it is regression,
    ``logits_multi``, ``logits_<modality>`` and, if the fusion has any, ``weight_<modality>``. Any
    number of samples can be a batch. The names of classes and others are in the file's metadata.

    Args:
        run: The run with its model and its data, which are compared.
        path: The file.

    Returns:
        What was written.

    Raises:
        ConfigError: If a package is missing, or the model cannot be exported.
        RunError: If the outputs differ from those of the model; nothing is written then.
        DataError: If the data are missing.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> written = write_onnx(load_run(run.folder), tmp / "model.onnx")
        >>> written.inputs
        ('audio', 'visual', 'present_audio', 'present_visual')
        >>> written.difference < 1e-5
        True
    """
    check_packages()
    if reason := getattr(run.module.fusion, "no_graph", ""):
        raise ConfigError(
            f"{run.files.folder}: {type(run.module.fusion).__name__} cannot be an ONNX file: "
            f"{reason}. Write a folder: mla export RUN output=FOLDER format=safetensors"
        )
    split, inputs, present = first_samples(run)
    graph = Graph(run)
    names = (*inputs, *(f"{PRESENT}{name}" for name in inputs))
    content = _serialised(run, graph, (*inputs.values(), *present.values()), names)
    is_mixing = bool(run.module.fusion.mixes_samples)
    difference = _largest_difference(run, content, graph.output_names, inputs, present)
    with replacing(path) as file:
        file.write(content)
    num_samples = len(next(iter(present.values())))
    return Exported(path, names, graph.output_names, difference, split, num_samples, is_mixing)


def _serialised(
    run: LoadedRun, graph: Graph, tensors: Sequence[Tensor], names: Sequence[str]
) -> bytes:
    """Return the content of the ONNX file."""
    state = {id(x): x for x in graph.state_dict().values()}
    if (size := sum(x.nbytes for x in state.values())) > MOST_BYTES:
        raise ConfigError(f"The weights have {size / 1e9:.1f} GB, and an ONNX file holds 2 GB.")
    repeats = 3 // len(tensors[0]) + 1  # sizes 0 and 1 would become constants
    tensors = [torch.cat([x] * repeats) for x in tensors]  # copies: two may be one and the same
    batch = torch.export.Dim("batch", min=1)
    module = run.module
    with _quiet(), torch.no_grad():
        graph(*tensors)
        kind = f"{type(module).__name__} with {type(module.fusion).__name__}"
        try:
            program: Any = torch.onnx.export(
                graph,
                tuple(tensors),
                dynamo=True,
                dynamic_shapes=(({0: batch},) * len(tensors),),
                input_names=list(names),
                output_names=list(graph.output_names),
                verbose=False,
            )
        except Exception as error:  # the exporter raises errors of many kinds
            reason = str(error.__cause__ or error).strip().splitlines()
            raise ConfigError(
                f"{run.files.folder}: torch.onnx cannot export {kind}: "
                f"{reason[0] if reason else type(error).__name__}. "
                "format=safetensors exports any model."
            ) from error
        model = program.model_proto
    for entry in (*model.graph.input, *model.graph.output):  # also of what is not used
        entry.type.tensor_type.shape.dim[0].dim_param = "batch"
    facts = {
        "task": run.task,
        "class_names": json.dumps(run.class_names, ensure_ascii=False),
        "modalities": json.dumps(module.modalities),
        "method": str(run.files.result.method) if run.files.result else "",
        "run": run.files.folder.name,
        "mla_lightning": __version__,
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    importlib.import_module("onnx").checker.check_model(model)
    return model.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of the exporter, which concern its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _largest_difference(
    run: LoadedRun,
    content: bytes,
    output_names: Sequence[str],
    inputs: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> float:
    """Return the largest difference to the model's outputs; raise RunError if it is too large."""
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:
        raise RunError(f"onnxruntime cannot load the exported model: {error}") from error
    largest = 0.0
    for trial, size, has in trials(present):
        for batch in batches_of({**inputs, "present": has}, size):
            masks = {f"{PRESENT}{m}": batch["present"][m].numpy() for m in present}
            feed = {m: batch[m].numpy() for m in inputs} | masks
            used = {entry.name for entry in session.get_inputs()}
            try:
                values = session.run(None, {k: v for k, v in feed.items() if k in used})
            except Exception as error:  # of onnxruntime, whose classes are none of Python's
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise RunError(
                    f"The exported model does not run on a batch of {size} samples "
                    f"({trial}): {reason[:300]}. No file was written; "
                    "format=safetensors exports any model."
                ) from error
            outputs = dict(zip(output_names, values, strict=True))
            for name, expected in _expected(run, batch, outputs).items():
                difference = _difference(outputs[name], expected)
                scale = max(1.0, float(np.abs(np.nan_to_num(expected)).max()))
                if not difference <= TOLERANCE * scale:
                    raise RunError(
                        f"The exported model does not compute what the run's model computes: {name}"
                        f" differs by {difference:.3g} ({trial}, batch of "
                        f"{len(expected)} samples). No file was written."
                    )
                largest = max(largest, difference)
    return largest


def _difference(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of two arrays; infinite if their shapes or NaNs differ."""
    if values.shape != expected.shape or (np.isnan(values) != np.isnan(expected)).any():
        return float("inf")
    equal = (values == expected) | np.isnan(expected)  # infinite logarithms are equal
    gap = np.abs(np.where(equal, 0, values) - np.where(equal, 0, expected))
    return float(gap.max(initial=0))


def _expected(
    run: LoadedRun, batch: Mapping[str, Any], outputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what the model computes of a batch, by name of the output."""
    module = run.module
    parts = module.parts
    module.parts = replace(parts, is_complete=False)
    try:
        prediction = predict_samples(run, islice([batch], 1))
    finally:
        module.parts = parts
    expected = {f"logits_{name}": z.numpy() for name, z in prediction.logits.items()}
    expected |= {f"weight_{name}": w.numpy() for name, w in prediction.weights.items()}
    if run.task != REGRESSION:
        expected["probabilities"] = prediction.probabilities[MULTI].numpy()
    # Of nearly equal logits the largest may be another one: it must be that of the same output.
    logits = outputs[f"logits_{MULTI}"]
    expected["prediction"] = (
        logits[:, 0]
        if run.task == REGRESSION
        else logits > 0
        if run.task == MULTILABEL
        else logits.argmax(axis=1)
    )
    if set(expected) != set(outputs):
        raise RunError(f"The exported model has outputs {[*outputs]}, expected {[*expected]}")
    return {name: x.astype(np.float64) for name, x in expected.items()}
