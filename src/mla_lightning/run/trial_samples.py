"""Samples on which an exported model is compared with the run that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mla_lightning.errors import DataError
from mla_lightning.run.finished import LoadedRun
from mla_lightning.run.predict import batches_of_split

#: Number of samples that are compared.
NUM_COMPARED = 24


def first_samples(run: LoadedRun) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """Return the first samples of the test split, or of val if there is no test split.

    Args:
        run: The run with its data.

    Returns:
        The split; modality -> rows (N, ...) as the data set stores them; modality -> (N,) bool.

    Raises:
        DataError: If the data are missing, or the split has no samples.

    Example:
        >>> from mla_lightning.run.finished import load_run
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> split, rows, present = first_samples(load_run(run.folder))
        >>> split, rows["audio"].shape, present["audio"].shape
        ('test', torch.Size([24, 16]), torch.Size([24]))
    """
    run.data.prepare_data()
    run.data.setup()
    split = "test" if "test" in run.data.splits else "val"
    batches, _ = batches_of_split(run.data, split, NUM_COMPARED)
    batch = next(iter(batches), None)
    if batch is None:
        raise DataError(f"{run.data.name} has no samples in {split} to compare the model on")
    names = run.module.modalities
    return split, {m: batch["inputs"][m] for m in names}, {m: batch["present"][m] for m in names}


def trials(present: Mapping[str, Tensor]) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
    """Yield what is compared: its name, the batch size, and which samples have which modality.

    Args:
        present: Modality -> (N,) bool, as in the data.

    Example:
        >>> present = {"audio": torch.ones(6, dtype=torch.bool)}
        >>> [(name, size) for name, size, _ in trials(present)]
        [('as in the data', 6), ('as in the data', 5), ('as in the data', 1)]
    """
    number = len(next(iter(present.values())))
    for size in dict.fromkeys((number, min(5, number), 1)):
        yield "as in the data", size, dict(present)
    if len(present) == 1:
        return
    odd = torch.arange(number) % 2 == 1
    for absent in present:
        yield (
            f"without {absent} in half of the samples",
            number,
            {m: odd if m == absent else torch.ones_like(odd) for m in present},
        )
        yield f"without {absent}", number, {m: torch.full_like(odd, m != absent) for m in present}
