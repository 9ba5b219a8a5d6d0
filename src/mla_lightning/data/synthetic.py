"""Random features with learnable classes, for smoke tests and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mla_lightning.data.base import MultimodalDataModule, Split
from mla_lightning.data.descriptions.synthetic import SyntheticDescription
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder.tasks import CLASSIFICATION, REGRESSION

#: Mean and standard deviation of the target of regression.
TARGET_SCALE = (5.0, 2.0)
#: Fraction of the samples that have the first and the last label; others are between them.
LABEL_FRACTIONS = (0.2, 0.6)


class Synthetic(SyntheticDescription, MultimodalDataModule):  # type: ignore[misc]  # name
    """Gaussian features around class means, in some modalities easier than in others.

    Sample ``x = signal * mean[class] + noise``, where means have a length of about 1 and noise is
    standard normal. All classes are equally frequent. Given the class, the modalities are
    independent, so their fusion is better than each alone.

    With ``task=regression`` the target is normal (see :data:`TARGET_SCALE`), and
    ``x = signal * z * direction + noise`` with ``z`` the standardised target. With
    ``task=multilabel`` the ``num_classes`` labels are independent and of unequal frequency (see
    :data:`LABEL_FRACTIONS`), and ``x`` is the noise plus ``signal * mean[label]`` of each label of
    the sample.

    Example:
        >>> data = Synthetic(batch_size=8, names=["audio", "image"], num_features=5)
        >>> batch = next(iter(data.val_dataloader()))
        >>> batch["inputs"]["audio"].shape, data.num_classes
        (torch.Size([80, 5]), 4)
        >>> data = Synthetic(batch_size=8, task="multilabel", num_classes=3)
        >>> next(iter(data.val_dataloader()))["label"][0]
        tensor([0., 0., 1.])
    """

    def load_splits(self) -> Mapping[str, Split]:
        """Draw the data.

        Returns:
            Split -> features (N, D) of each modality and labels (N,) or (N, L).
        """
        return {split: self._draw(split, size) for split, size in self.sizes.items()}

    def _draw(self, split: str, size: int) -> Split:
        if self.task != CLASSIFICATION:
            return self._draw_targets(split, size)
        shuffled = torch.randperm(size, generator=self._generator("label", split))
        label = shuffled % self.num_classes
        inputs = {}
        for name, signal in self.signal.items():
            means = torch.randn(
                self.num_classes, self.num_features, generator=self._generator("mean", name)
            )
            noise = torch.randn(
                size, self.num_features, generator=self._generator("noise", name, split)
            )
            inputs[name] = means[label] * (signal / self.num_features**0.5) + noise
        return Split(inputs, label)

    def _draw_targets(self, split: str, size: int) -> Split:
        """Draw regression targets or sets of labels, and features that are linear in them."""
        generator = self._generator("label", split)
        if self.task == REGRESSION:
            factor = torch.randn(size, 1, generator=generator)
            label = TARGET_SCALE[0] + TARGET_SCALE[1] * factor[:, 0]
        else:
            fractions = torch.linspace(*LABEL_FRACTIONS, self.num_classes)
            counts = (fractions * size).round().clamp(min=1)
            ranks = [torch.randperm(size, generator=generator) for _ in range(self.num_classes)]
            factor = label = (torch.stack(ranks, dim=1) < counts).float()
        inputs = {}
        for name, signal in self.signal.items():
            shape = (factor.shape[1], self.num_features)
            means = torch.randn(*shape, generator=self._generator("mean", name))
            noise_of = self._generator("noise", name, split)
            noise = torch.randn(size, self.num_features, generator=noise_of)
            inputs[name] = factor @ means * (signal / self.num_features**0.5) + noise
        return Split(inputs, label)

    def _generator(self, *counters: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.data_seed, "synthetic", *counters))
