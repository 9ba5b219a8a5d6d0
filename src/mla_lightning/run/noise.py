"""Robustness of a finished run: its scores when the inputs of a modality are noisy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mla_lightning.config.jobs import data_of_config
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional.noise import with_noise, with_replaced
from mla_lightning.randomness import derive_seed
from mla_lightning.run.build import build_metrics, build_module
from mla_lightning.run.evaluate import predict, score_predictions
from mla_lightning.run.finished import finished_run, selected_checkpoint
from mla_lightning.run.place import data_of_run
from mla_lightning.run.trainer import build_trainer, silence_lightning
from mla_lightning.run_folder.result import Scores

#: Rows in which every modality is noisy at once.
ALL = "all"
#: Number of training samples from which the spread and the entries of a modality are taken.
NUM_SAMPLES = 2000


class NoisyScores(NamedTuple):
    """The scores at one level of noise.

    Attributes:
        noisy: The modality whose inputs are noisy, or ``all``.
        level: The level.
        scores: Reported modality -> metric -> value.

    Example:
        >>> NoisyScores("audio", 0.5, {"multi": {"accuracy": 0.5}}).level
        0.5
    """

    noisy: str
    level: float
    scores: Scores


def evaluate_with_noise(
    run_dir: Path,
    levels: Sequence[float],
    split: str = "test",
    *,
    path: Path | str | None = None,
) -> list[NoisyScores]:
    """Evaluate a finished run with noise on each modality alone, and on all at once.

    Continuous inputs get Gaussian noise of ``level`` times the standard deviation that the
    modality's inputs have on the training split; of discrete ones, such as tokens, the fraction
    ``level`` is replaced by entries of the training split. The noise depends on the run's seed, the
    modality and the sample alone, so levels and methods of one seed see the same noise.

    Args:
        run_dir: The run folder.
        levels: Levels of noise, each at least 0.
        split: ``val`` or ``test``.
        path: Folder of the run's prepared store if it was moved.

    Returns:
        The scores of each noisy modality, of ``all``, and of each level in order.

    Raises:
        ConfigError: If a level is negative, or the split unknown.
        RunError: If the folder holds no finished run.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> rows = evaluate_with_noise(run.folder, [0.0, 4.0])
        >>> [(row.noisy, row.level) for row in rows][:3]
        [('audio', 0.0), ('audio', 4.0), ('visual', 0.0)]
        >>> rows[0].scores == run.result.test
        True
    """
    if wrong := [level for level in levels if not level >= 0]:
        raise ConfigError(f"noise={wrong[0]}: a level of noise is a number of at least 0")
    config, _ = data_of_run(finished_run(run_dir), path)
    data = data_of_config(config.tree)
    data.setup()
    if split not in data.splits:
        known = ", ".join(data.splits)
        raise ConfigError(f"Unknown split {split!r}.{near(split, data.splits)} Known: {known}")
    silence_lightning()
    torch.set_num_threads(config.trainer.threads)
    module = build_module(config, data)
    checkpoint = selected_checkpoint(run_dir, module)
    trainer = build_trainer(config, run_dir, checkpoint, [])
    metrics = build_metrics(config)
    spreads = {name: _Spread.of(data, name) for name in data.modalities}
    rows = []
    for noisy in (*data.modalities, ALL):
        for level in levels:
            chosen = data.modalities if noisy == ALL else (noisy,)
            loader = _NoisyLoader(data, split, {m: spreads[m] for m in chosen}, level, config.seed)
            predictions = predict(trainer, module, loader, checkpoint)
            rows.append(NoisyScores(noisy, level, score_predictions(predictions, metrics)))
    return rows


class _Spread(NamedTuple):
    """What noise on a modality is relative to, taken from the training split."""

    scale: float
    #: Entries of a discrete modality; empty for a continuous one.
    pool: Tensor

    @classmethod
    def of(cls, data: MultimodalDataModule, modality: str) -> _Spread:
        values, number = [], 0
        for batch in data.loader("train"):
            x = batch["inputs"][modality][batch["present"][modality]]
            values.append(x.flatten())
            if (number := number + len(x)) >= NUM_SAMPLES:
                break
        flat = torch.cat(values)
        if flat.is_floating_point():
            return cls(float(flat.double().std(correction=0)), torch.empty(0))
        return cls(0.0, flat[flat != 0])

    def apply(self, x: Tensor, level: float, generator: torch.Generator) -> Tensor:
        if x.is_floating_point():
            return with_noise(x, level, self.scale, generator)
        return with_replaced(x, level, self.pool, generator) if len(self.pool) else x


class _NoisyLoader:
    """The loader of a split, whose batches have noise on the inputs of some modalities."""

    def __init__(
        self,
        data: MultimodalDataModule,
        split: str,
        spreads: Mapping[str, _Spread],
        level: float,
        seed: int,
    ) -> None:
        self.loader, self.spreads = data.loader(split), spreads
        self.level, self.seed = level, seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.loader:
            inputs = dict(batch["inputs"])
            for name, spread in self.spreads.items():
                samples = zip(batch["index"].tolist(), inputs[name], strict=True)
                noisy = [spread.apply(x, self.level, self._generator(name, i)) for i, x in samples]
                inputs[name] = torch.stack(noisy)
            yield {**batch, "inputs": inputs}

    def _generator(self, modality: str, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, "noise", modality, index))
