"""Missing modalities: protocols that hide (sample, modality) cells."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mla_lightning.data.mask_files import checked_mask, read_masks
from mla_lightning.data.splits import SPLITS
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional.masks import (
    anchor_mask,
    max_missing_rate,
    resampled_drop_probability,
    resampled_mask,
    restored_drop_probabilities,
    restored_mask,
)
from mla_lightning.randomness import derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAMPLERS = ("anchor", "bernoulli_resample", "bernoulli_restore", "patterns", "sample_fraction")
POLICIES = ("drop", "zero_input")


class Missing:
    """Protocol that hides modalities of samples; every sample keeps at least one.

    A mask is a function of seed, split, rate and sampler, so all methods with a seed see the same
    one. ``anchor`` is CPM-Nets' distribution in closed form; ``bernoulli_resample`` and
    ``bernoulli_restore`` drop cells independently and repair empty rows; ``patterns`` draws one of
    all incomplete patterns uniformly (MMIN's protocol) and has no rate; ``sample_fraction`` hides
    one modality of that fraction of the samples (TATE's protocol).

    With ``drop``, methods know what is absent: no step, no projector update, no vote. With
    ``zero_input``, zeros are inputs of modalities that look present, as in MLA's released code.

    Attributes:
        splits: The splits in which modalities are hidden.

    Example:
        Half of the cells of three modalities are hidden, and every sample keeps a modality:

        >>> mask = Missing(0.5).mask("train", 1000, ("audio", "image", "text"), seed=0)
        >>> mask.shape, bool(mask.any(dim=1).all()), 0.48 < 1 - float(mask.float().mean()) < 0.52
        (torch.Size([1000, 3]), True, True)
    """

    def __init__(
        self,
        rate: float | Mapping[str, float] | None,
        sampler: str = "anchor",
        *,
        train: bool = True,
        val: bool = True,
        test: bool = True,
        policy: Literal["drop", "zero_input"] = "drop",
        resample_train_masks: bool = False,
        clip: bool = False,
        manifest: str | None = None,
    ) -> None:
        """Check the settings.

        Args:
            rate: Fraction of hidden cells; or modality -> fraction of samples in which it is hidden
                (``bernoulli_restore`` only); None for ``patterns``, which has no rate.
            sampler: One of :data:`SAMPLERS`.
            train: Whether to hide modalities of training samples.
            val: Whether to hide modalities of validation samples.
            test: Whether to hide modalities of test samples.
            policy: ``drop`` or ``zero_input``.
            resample_train_masks: Whether to draw a new training mask every epoch.
            clip: Whether to use the largest possible rate if the rate is above it, as in papers
                that call two thirds 70 %. For samplers whose rate is a fraction of cells.
            manifest: File of masks that another run wrote, to use these masks. It must be of the
                same data, split, sampler and rate; its seed may differ.

        Raises:
            ConfigError: If a value is unknown, out of range or would have no effect.
        """
        for name, value, known in (("sampler", sampler, SAMPLERS), ("policy", policy, POLICIES)):
            if value not in known:
                raise ConfigError(
                    f"missing.{name} {value!r} is unknown.{near(value, known)} "
                    f"Known: {', '.join(known)}."
                )
        if not (train or val or test):
            raise ConfigError("missing has no effect with train, val and test all false")
        if (rate is None) != (sampler == "patterns"):
            raise ConfigError(
                "missing.rate has no effect with sampler=patterns; set it to null"
                if rate is not None
                else "missing.rate is missing, such as missing.rate=0.3"
            )
        if isinstance(rate, Mapping) and sampler != "bernoulli_restore":
            raise ConfigError(
                f"missing.rate by modality needs missing.sampler=bernoulli_restore, got {sampler!r}"
            )
        rates = list(rate.values()) if isinstance(rate, Mapping) else [rate]
        if rate is not None and not all(0 <= float(r) <= 1 for r in rates if r is not None):
            raise ConfigError(f"missing.rate must be between 0 and 1, got {rate}")
        if rate is not None and not any(rates):
            raise ConfigError("missing.rate=0 hides nothing; leave missing out (missing=none)")
        if clip and sampler in ("patterns", "sample_fraction"):
            raise ConfigError(
                f"missing.clip has no effect with sampler={sampler}: its rate has no upper bound "
                "below 1"
            )
        if resample_train_masks and not train:
            raise ConfigError("missing.resample_train_masks has no effect with train=false")
        if resample_train_masks and manifest:
            raise ConfigError("missing.resample_train_masks has no effect with a manifest")
        self.rate, self.sampler, self.policy, self.clip = rate, sampler, policy, clip
        self.splits = tuple(s for s, on in zip(SPLITS, (train, val, test), strict=True) if on)
        self.resample_train_masks = resample_train_masks
        self.manifest = Path(manifest).expanduser() if manifest else None

    def check(self, modalities: Sequence[str]) -> None:
        """Check the rate against the modalities in use.

        Args:
            modalities: The modalities.

        Raises:
            ConfigError: If there are fewer than two, a rate is of an unknown modality, or it is
                above the largest possible rate.

        Example:
            >>> Missing(0.7).check(("audio", "image", "text"))
            Traceback (most recent call last):
            ...
            mla_lightning.errors.ConfigError: missing.rate=0.7 cannot be reached: of 3 modalities
            every sample keeps one, so at most 0.6667 of the cells are missing. Add ...
        """
        num = len(modalities)
        if num < 2:
            raise ConfigError("missing needs at least two modalities: one of each sample is kept")
        if isinstance(self.rate, Mapping):
            for name in self.rate:
                if name not in modalities:
                    raise ConfigError(
                        f"missing.rate.{name}: no such modality.{near(name, modalities)} "
                        f"Known: {', '.join(modalities)}."
                    )
            self._check_rates(self.rate, modalities)
            return
        reachable = max_missing_rate(num)
        if self.sampler == "sample_fraction" or self.rate is None or self.clip:
            return
        if self.rate > reachable + 1e-9:
            raise ConfigError(
                f"missing.rate={self.rate} cannot be reached: of {num} modalities every sample "
                f"keeps one, so at most {reachable:.4f} of the cells are missing. Add "
                "missing.clip=true to use that, as in papers that call two thirds 70 %."
            )

    def _check_rates(self, rates: Mapping[str, float], modalities: Sequence[str]) -> None:
        wanted = [float(rates.get(name, 0.0)) for name in modalities]
        probabilities = restored_drop_probabilities(wanted)
        # Of samples that would have no modality:
        restored = math.prod(probabilities) / len(probabilities)
        largest = [probability - restored for probability in probabilities]
        if not self.clip and max(abs(a - b) for a, b in zip(wanted, largest, strict=True)) > 1e-3:
            reachable = ",".join(f"{n}:{r:.3f}" for n, r in zip(modalities, largest, strict=True))
            raise ConfigError(
                f"missing.rate={dict(rates)} cannot be reached: every sample keeps one of its "
                f"modalities, so it is at most {{{reachable}}}. Add missing.clip=true to use that."
            )

    def mask(
        self,
        split: str,
        num_samples: int,
        modalities: Sequence[str],
        seed: int,
        *,
        fold: str = "",
        epoch: int = 0,
    ) -> Tensor:
        """Draw the mask of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            num_samples: Number of samples N.
            modalities: The modalities in use, M of them.
            seed: The run's seed.
            fold: Name of the data's named split; other ones have other masks.
            epoch: The epoch, for training masks that are drawn every epoch.

        Returns:
            (N, M) bool, true where a modality is not hidden; no row is empty.
        """
        import torch

        num = len(modalities)
        rate_text = json.dumps(self.rate, sort_keys=True)
        purpose: list[Any] = ["missing", split, fold, self.sampler, rate_text]
        if self.resample_train_masks and split == "train":
            purpose.append(epoch)
        generator = torch.Generator().manual_seed(derive_seed(seed, *purpose))
        if self.sampler == "patterns":
            return _pattern_mask(num_samples, num, generator)
        if isinstance(self.rate, Mapping):
            probabilities = restored_drop_probabilities(
                [float(self.rate.get(name, 0.0)) for name in modalities]
            )
            return restored_mask(num_samples, num, probabilities, generator)
        assert self.rate is not None
        rate = min(float(self.rate), max_missing_rate(num)) if self.clip else float(self.rate)
        if self.sampler == "anchor":
            return anchor_mask(num_samples, num, rate, generator)
        if self.sampler == "sample_fraction":
            mask = torch.ones(num_samples, num, dtype=torch.bool)
            is_incomplete = torch.rand(num_samples, generator=generator) < rate
            hidden = torch.randint(num, (num_samples,), generator=generator)
            mask[is_incomplete, hidden[is_incomplete]] = False
            return mask
        if self.sampler == "bernoulli_resample":
            return resampled_mask(
                num_samples, num, resampled_drop_probability(rate, num), generator
            )
        return restored_mask(num_samples, num, restored_drop_probabilities([rate] * num), generator)

    def split_masks(
        self, present: Mapping[str, Tensor], source: Mapping[str, Any], seed: int
    ) -> dict[str, Tensor]:
        """Draw the masks of all splits with hidden modalities, or read them from the manifest.

        Args:
            present: Split -> (N, M) bool, the modalities that the samples have.
            source: ``data`` (fingerprint), ``split`` (name of the named split) and ``modalities``.
            seed: The run's seed.

        Returns:
            Split -> (N, M) bool, true where a modality is present and not hidden; every sample
            keeps one.

        Raises:
            DataError: If the manifest is of other data or another protocol, has no mask of a split,
                leaves a sample without a modality, or shows cells that are absent from the data.
        """
        if self.manifest is None:
            modalities, fold = source["modalities"], source["split"]
            masks = {}
            for split in self.splits:
                mask = self.mask(split, len(present[split]), modalities, seed, fold=fold)
                masks[split] = self._combined(mask, present[split], seed, split)
            return masks
        masks = read_masks(self.manifest, {**source, **self.protocol})
        return {s: checked_mask(self.manifest, masks, s, present[s]) for s in self.splits}

    @property
    def protocol(self) -> dict[str, Any]:
        """``sampler`` and ``rate``, which together with a seed determine the masks of samples."""
        rate = dict(self.rate) if isinstance(self.rate, Mapping) else self.rate
        return {"sampler": self.sampler, "rate": rate}

    def epoch_mask(
        self, present: Tensor, modalities: Sequence[str], seed: int, fold: str, epoch: int
    ) -> Tensor:
        """Draw the training mask of an epoch.

        Args:
            present: (N, M) bool, the modalities that the training samples have.
            modalities: The modalities in use, M of them.
            seed: The run's seed.
            fold: Name of the data's named split.
            epoch: The epoch, from 0.

        Returns:
            (N, M) bool, true where a modality is present and not hidden.
        """
        mask = self.mask("train", len(present), modalities, seed, fold=fold, epoch=epoch)
        return self._combined(mask, present, seed, f"train {epoch}")

    def _combined(self, mask: Tensor, present: Tensor, seed: int, purpose: str) -> Tensor:
        """Combine a mask with the modalities that samples have; every sample keeps one."""
        import torch

        generator = torch.Generator().manual_seed(derive_seed(seed, "missing", purpose, "mend"))
        return _without_empty_rows(mask & present, present, generator)


def _pattern_mask(num_samples: int, num: int, generator: torch.Generator) -> Tensor:
    """Draw incomplete patterns uniformly, without the empty one."""
    import torch

    numbers = torch.randint(1, 2**num - 1, (num_samples,), generator=generator)
    return (numbers[:, None] >> torch.arange(num)) % 2 == 1


def _without_empty_rows(mask: Tensor, present: Tensor, generator: torch.Generator) -> Tensor:
    """Restore one random modality of each row in which all present ones are hidden."""
    import torch

    draws = torch.rand(mask.shape, generator=generator).masked_fill(~present, -math.inf)
    is_empty = ~mask.any(dim=1) & present.any(dim=1)
    mask = mask.clone()
    mask[is_empty, draws.argmax(dim=1)[is_empty]] = True
    return mask


def masks_hash(masks: Mapping[str, Tensor]) -> str:
    """Hash masks.

    Args:
        masks: Split -> (N, M) bool.

    Returns:
        SHA-256 as hexadecimal text.

    Example:
        >>> mask, seeds = Missing(0.3).mask, (0, 0, 1)
        >>> hashes = [masks_hash({"test": mask("test", 9, "ab", seed)}) for seed in seeds]
        >>> hashes[0] == hashes[1], hashes[0] == hashes[2]
        (True, False)
    """
    digest = hashlib.sha256()
    for split in sorted(masks):
        digest.update(f"{split} {tuple(masks[split].shape)}".encode())
        digest.update(np.packbits(masks[split].numpy()).tobytes())
    return digest.hexdigest()
