"""Inputs: functions from the stored rows of a modality to what its encoder takes.

They run on the device for a whole batch, and augment it in training. An input is called with the
stored rows (B, ...) and, in training alone, with the random numbers of the batch.

Inputs
    ``Features``, ``ScaledColumns`` (features, each column scaled by the training split's numbers),
    ``Images`` (images and frames), ``Spectrograms``.

Base classes
    ``Input``; ``BatchRandomness`` gives the random numbers of a batch.

Example:
    >>> import torch
    >>> from mla_lightning.inputs import BatchRandomness, Images
    >>> images = Images(size=24, augment="crop_flip")
    >>> stored = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    >>> images(stored).shape  # evaluation: scaled to 24 x 24
    torch.Size([5, 3, 24, 24])
    >>> randomness = BatchRandomness(seed=0, epoch=0, modality="image", index=torch.arange(5))
    >>> images(stored, randomness).shape  # training: a random crop, scaled to 24 x 24
    torch.Size([5, 3, 24, 24])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mla_lightning.identity.public_names import import_public_name

# For type checkers and for the record of a run's code, which leaves out blocks of TYPE_CHECKING
# alone. Names are imported when they are first used, so that this package needs no torch.
if TYPE_CHECKING or False:
    from mla_lightning.inputs.base import BatchRandomness, Input
    from mla_lightning.inputs.features import Features
    from mla_lightning.inputs.images import Images
    from mla_lightning.inputs.scaled_columns import ScaledColumns
    from mla_lightning.inputs.spectrograms import Spectrograms
else:

    def __getattr__(name: str) -> Any:
        return import_public_name(__name__, name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])


__all__ = ["BatchRandomness", "Features", "Images", "Input", "ScaledColumns", "Spectrograms"]
