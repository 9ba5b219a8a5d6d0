"""The model of a finished run as one function of tensors, as exporters of graphs take it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.module import MultimodalModule
from mla_lightning.run.evaluate import load_weights
from mla_lightning.run.finished import LoadedRun
from mla_lightning.run.predict import WEIGHT, logits_and_weights
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

#: Begin of the name of the input that says which samples have a modality.
PRESENT = "present_"


class Graph(nn.Module):
    """The model of a finished run without branches that depend on values.

    Every row is encoded, and features of absent modalities are then replaced by zeros. What a
    method selects by another epoch has its own copy of the model, and so has each snapshot.

    Attributes:
        modalities: The modalities, in the order of the arguments.
        output_names: Names of what :meth:`forward` returns.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> graph = Graph(load_run(run.folder))
        >>> true = torch.ones(3, dtype=torch.bool)
        >>> outputs = graph(torch.zeros(3, 16), torch.zeros(3, 16), true, true)
        >>> dict(zip(graph.output_names, map(lambda x: (*x.shape,), outputs)))
        {'prediction': (3,), 'probabilities': (3, 4), 'logits_multi': (3, 4), 'logits_audio': (3,
        4), 'logits_visual': (3, 4), 'weight_audio': (3,), 'weight_visual': (3,)}
    """

    def __init__(self, run: LoadedRun) -> None:
        """Copy the model with the weights of every selected epoch.

        Args:
            run: The run with its model.
        """
        super().__init__()
        self.modalities, self._task_name = run.module.modalities, run.task
        self._selections = run.module.selections()
        #: Position of the models of each metric in ``models``.
        self._places: dict[str, range] = {}
        self.models = nn.ModuleList()
        for metric, state in run.states.items():
            models = _models_with(run.module, state)
            places = range(len(self.models), len(self.models) + len(models))
            self._places[metric] = places
            self.models.extend(models)
        latest = self._model(places.start)  # with the weights of a combination
        self._combine: Callable[[Tensor, Tensor], Tensor] = latest.combine
        self.output_names: tuple[str, ...] = ()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute what is predicted.

        Args:
            *tensors: The rows (B, ...) of each modality as the run's data set stores them, then of
                each modality (B,) bool, true for samples that have it.

        Returns:
            The outputs, named by ``output_names``.
        """
        number = len(self.modalities)
        inputs = dict(zip(self.modalities, tensors[:number], strict=True))
        present = dict(zip(self.modalities, tensors[number:], strict=True))
        label = torch.zeros_like(tensors[number], dtype=torch.int64)
        batch = Batch(inputs=inputs, label=label, index=label, present=present)
        logits: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for metric, places in self._places.items():
            values = self._mean(batch, places)
            names = [name for name, by in self._selections.items() if by == metric]
            logits |= {name: self._model(0).task.in_target_unit(values[name]) for name in names}
            if MULTI in names:
                weights = {m: values[key] for m in inputs if (key := f"{WEIGHT}{m}") in values}
        if MULTI not in logits:
            stacked = torch.stack([logits[m] for m in inputs])
            logits[MULTI] = self._combine(stacked, torch.stack([*present.values()]))
        outputs = self._predicted(logits[MULTI])
        outputs |= {f"logits_{name}": logits[name] for name in (MULTI, *inputs)}
        outputs |= {f"weight_{name}": weight for name, weight in weights.items()}
        self.output_names = tuple(outputs)
        return tuple(outputs.values())

    def _model(self, place: int) -> MultimodalModule:
        model = self.models[place]
        assert isinstance(model, MultimodalModule)
        return model

    def _mean(self, batch: Batch, places: range) -> dict[str, Tensor]:
        """Return logits and weights of a batch, averaged over the models at some places."""
        results = []
        for model in map(self._model, places):
            converted = model.convert_inputs(batch, augment=False)
            results.append(logits_and_weights(model, converted))
        if len(results) == 1:
            return results[0]
        return {name: torch.stack([r[name] for r in results]).mean(dim=0) for name in results[0]}

    def _predicted(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the prediction from the fused logits, and the probabilities if there are any."""
        if self._task_name == REGRESSION:
            return {"prediction": logits[:, 0]}
        if self._task_name == MULTILABEL:
            return {"prediction": logits > 0, "probabilities": logits.sigmoid()}
        return {"prediction": logits.argmax(dim=1), "probabilities": logits.softmax(dim=1)}


def _models_with(module: MultimodalModule, state: Mapping[str, Tensor]) -> list[MultimodalModule]:
    """Return a copy of a module with some weights, and one for each of its snapshots."""
    current = _copy_of(module)
    load_weights(current, state, "the selected weights")
    snapshots, models = current.snapshots, [current]
    current.snapshots = None
    for place in range(0 if snapshots is None else int(snapshots.kept)):
        models.append(_copy_of(current))
        models[-1].load_state_dict({**current.state_dict(), **snapshots.of(place)})
    for model in models:
        _fix_branches(model)
    return models


class _Numbers(list):
    """Numbers of a buffer that are constants of the graph."""

    def tolist(self) -> list[Any]:
        return list(self)


def _copy_of(module: MultimodalModule) -> MultimodalModule:
    """Return a copy of a module that shares what it is composed of, such as its data."""
    return copy.deepcopy(module, {id(module.parts): module.parts})


def _fix_branches(module: MultimodalModule) -> None:
    """Replace what an exporter cannot follow: samples are left out, or states are asked for."""
    module.parts = replace(module.parts, is_complete=False)
    module.encode_by = partial(_encode_all, module)  # type: ignore[method-assign]
    for submodule in module.modules():
        for name, buffer in list(submodule._buffers.items()):
            is_state = buffer is not None and buffer.ndim == 0 and not buffer.is_floating_point()
            if is_state and not isinstance(submodule, nn.modules.batchnorm._BatchNorm):
                del submodule._buffers[name]
                setattr(submodule, name, buffer.item())  # type: ignore[union-attr]
        for name in getattr(submodule, "read_as_numbers", ()):
            numbers = _Numbers(submodule._buffers.pop(name).tolist())  # type: ignore[union-attr]
            setattr(submodule, name, numbers)
        submodule._compiled_call_impl = None
    module.eval().requires_grad_(False)


def _encode_all(module: MultimodalModule, encoder: nn.Module, name: str, batch: Any) -> Tensor:
    """Encode all rows of a modality; zeros where it is absent."""
    features = encoder(batch["inputs"][name])
    return module.fusion.zero_absent({name: features}, batch["present"])[name]
