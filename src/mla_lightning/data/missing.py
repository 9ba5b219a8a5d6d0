"""Missing modalities: which (sample, modality) cells are hidden, by whom drawn, and kept where."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.functional.masks import (
    anchor_mask,
    drop_chances,
    missing_rate_of,
    reachable_rate,
    resample_chance,
    resampled_mask,
    restored_mask,
)
from mla_lightning.randomness import derive_seed

SAMPLERS = ("anchor", "bernoulli_resample", "bernoulli_restore", "patterns", "sample_fraction")
POLICIES = ("drop", "zero_input")
PARTS = ("train", "val", "test")


class Missing:
    """Hides modalities of samples, at least one of each left, the same for every method.

    A mask is a function of seed, split, rate and sampler, so all methods of a seed see the same.
    ``anchor`` is CPM-Nets' law in closed form; ``bernoulli_resample`` and ``bernoulli_restore``
    drop cells independently and mend empty rows; ``patterns`` draws one of all incomplete patterns
    uniformly (MMIN's protocol), whatever the rate; ``sample_fraction`` takes one modality from that
    share of the samples (TATE's protocol).

    ``drop`` tells methods what is absent: no step, no projector update, no vote. ``zero_input``
    hands zeros over as if they were there, which MLA's released code does.
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
            rate: Share of hidden cells; or modality -> share of its samples that lack it
                (``bernoulli_restore`` only); None for ``patterns``, which has no rate.
            sampler: One of :data:`SAMPLERS`.
            train: Whether training samples lack modalities.
            val: Whether validation samples do.
            test: Whether test samples do.
            policy: ``drop`` or ``zero_input``.
            resample_train_masks: Draw the training mask anew every epoch.
            clip: Take the largest rate that can be reached where the rate is above it, as papers
                do that call two thirds 70 %. For samplers whose rate is a share of cells.
            manifest: File of masks that another run wrote, to use them as they are. It must be of
                the same data, split, sampler and rate; its seed may be another.

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
        self.parts = tuple(p for p, on in zip(PARTS, (train, val, test), strict=True) if on)
        self.resample_train_masks = resample_train_masks
        self.manifest = Path(manifest).expanduser() if manifest else None

    def check(self, modalities: Sequence[str]) -> None:
        """Check the rate against the modalities in use.

        Args:
            modalities: The modalities.

        Raises:
            ConfigError: If there are fewer than two, a rate is of another modality, or it is above
                what can be reached.
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
        reachable = reachable_rate(num)
        if self.sampler == "sample_fraction" or self.rate is None or self.clip:
            return
        if self.rate > reachable + 1e-9:
            raise ConfigError(
                f"missing.rate={self.rate} cannot be reached: of {num} modalities every sample "
                f"keeps one, so at most {reachable:.4f} of the cells are missing. Add "
                "missing.clip=true to take that, as papers do that call two thirds 70 %."
            )

    def _check_rates(self, rates: Mapping[str, float], modalities: Sequence[str]) -> None:
        wanted = [float(rates.get(name, 0.0)) for name in modalities]
        chances = drop_chances(wanted)
        given_back = math.prod(chances) / len(chances)
        most = [chance - given_back for chance in chances]
        if not self.clip and max(abs(a - b) for a, b in zip(wanted, most, strict=True)) > 1e-3:
            reachable = ",".join(f"{n}:{r:.3f}" for n, r in zip(modalities, most, strict=True))
            raise ConfigError(
                f"missing.rate={dict(rates)} cannot be reached: every sample keeps one of its "
                f"modalities, so it is at most {{{reachable}}}. Add missing.clip=true to take that."
            )

    def mask(
        self,
        part: str,
        num_samples: int,
        modalities: Sequence[str],
        seed: int,
        *,
        fold: str = "",
        epoch: int = 0,
    ) -> Tensor:
        """Draw a mask.

        Args:
            part: ``train``, ``val`` or ``test``.
            num_samples: Number of samples N.
            modalities: The modalities in use, M of them.
            seed: The run's seed.
            fold: Name of the split that the part is of: other folds have other masks.
            epoch: The epoch, of training masks that are drawn anew.

        Returns:
            (N, M) bool, true where a modality stays; no row is empty.
        """
        num = len(modalities)
        rate_text = json.dumps(self.rate, sort_keys=True)
        parts: list[Any] = ["missing", part, fold, self.sampler, rate_text]
        if self.resample_train_masks and part == "train":
            parts.append(epoch)
        generator = torch.Generator().manual_seed(derive_seed(seed, *parts))
        if self.sampler == "patterns":
            return _pattern_mask(num_samples, num, generator)
        if isinstance(self.rate, Mapping):
            chances = drop_chances([float(self.rate.get(name, 0.0)) for name in modalities])
            return restored_mask(num_samples, num, chances, generator)
        assert self.rate is not None
        rate = min(float(self.rate), reachable_rate(num)) if self.clip else float(self.rate)
        if self.sampler == "anchor":
            return anchor_mask(num_samples, num, rate, generator)
        if self.sampler == "sample_fraction":
            mask = torch.ones(num_samples, num, dtype=torch.bool)
            loses = torch.rand(num_samples, generator=generator) < rate
            which = torch.randint(num, (num_samples,), generator=generator)
            mask[loses, which[loses]] = False
            return mask
        if self.sampler == "bernoulli_resample":
            return resampled_mask(num_samples, num, resample_chance(rate, num), generator)
        return restored_mask(num_samples, num, drop_chances([rate] * num), generator)

    def masks(
        self, own: Mapping[str, Tensor], about: Mapping[str, Any], seed: int
    ) -> dict[str, Tensor]:
        """Make the masks of all parts, or read them.

        Args:
            own: Split -> (N, M) bool, what the samples have.
            about: ``data`` (fingerprint), ``split`` (its name) and ``modalities``.
            seed: The run's seed.

        Returns:
            Split that lacks modalities -> (N, M) bool; of each sample one modality stays.

        Raises:
            DataError: If the manifest is of other data or another protocol, lacks a part, leaves
                a sample without a modality, or has cells that the data lack.
        """
        if self.manifest is None:
            modalities, fold = about["modalities"], about["split"]
            drawn = {
                part: self.mask(part, len(own[part]), modalities, seed, fold=fold)
                for part in self.parts
            }
            return {part: self._joined(mask, own[part], seed, part) for part, mask in drawn.items()}
        found = read_manifest(self.manifest, {**about, **self.law})
        return {part: checked_mask(self.manifest, found, part, own[part]) for part in self.parts}

    @property
    def law(self) -> dict[str, Any]:
        """``sampler`` and ``rate``: what a mask of some samples follows from, with a seed."""
        rate = dict(self.rate) if isinstance(self.rate, Mapping) else self.rate
        return {"sampler": self.sampler, "rate": rate}

    def redrawn(
        self, own: Tensor, modalities: Sequence[str], seed: int, fold: str, epoch: int
    ) -> Tensor:
        """Draw the training mask of an epoch: (N, M) bool."""
        drawn = self.mask("train", len(own), modalities, seed, fold=fold, epoch=epoch)
        return self._joined(drawn, own, seed, f"train {epoch}")

    def _joined(self, mask: Tensor, own: Tensor, seed: int, part: str) -> Tensor:
        """Join a mask with what samples lack anyway; of each sample one modality stays."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "missing", part, "mend"))
        return _mended(mask & own, own, generator)


def _pattern_mask(num_samples: int, num: int, generator: torch.Generator) -> Tensor:
    """Draw incomplete patterns that are not empty, uniformly."""
    numbers = torch.randint(1, 2**num - 1, (num_samples,), generator=generator)
    return (numbers[:, None] >> torch.arange(num)) % 2 == 1


def _mended(mask: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
    """Give rows that were left empty one of their own modalities back, at random."""
    draws = torch.rand(mask.shape, generator=generator).masked_fill(~own, -math.inf)
    empty = ~mask.any(dim=1) & own.any(dim=1)
    mask = mask.clone()
    mask[empty, draws.argmax(dim=1)[empty]] = True
    return mask


# ---------------------------------------------------------------------- manifests


def manifest_hash(masks: Mapping[str, Tensor]) -> str:
    """Hash masks: SHA-256 as hexadecimal text."""
    digest = hashlib.sha256()
    for part in sorted(masks):
        digest.update(f"{part} {tuple(masks[part].shape)}".encode())
        digest.update(np.packbits(masks[part].numpy()).tobytes())
    return digest.hexdigest()


def write_manifest(
    path: Path,
    masks: Mapping[str, Tensor],
    ids: Mapping[str, Sequence[str]],
    about: Mapping[str, Any],
) -> None:
    """Write masks, unless the file is there.

    Args:
        path: The file, ``.npz``; its name holds the masks' hash.
        masks: Split -> (N, M) bool, in the order of the samples' numbers.
        ids: Split -> what the samples are called.
        about: ``data`` (fingerprint), ``split``, ``modalities``, ``seed``, ``sampler``, ``rate``,
            JSON-able.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rates = {part: missing_rate_of(mask) for part, mask in masks.items()}
    text = json.dumps({**about, "realised_rate": rates}, sort_keys=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    arrays: dict[str, Any] = {part: mask.numpy() for part, mask in masks.items()}
    arrays |= {f"{part}_id": np.array(list(names), dtype=str) for part, names in ids.items()}
    with temporary.open("wb") as file:
        np.savez_compressed(file, about=np.array(text), **arrays)
    temporary.replace(path)


def read_manifest(path: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read masks and check that they are of the data and protocol at hand.

    Args:
        path: The file.
        expected: Keys of ``about`` and the values that they must have.

    Returns:
        Split -> its mask.

    Raises:
        DataError: If it is no manifest, or of another data set, split, modalities, sampler or rate.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            masks = {p: torch.from_numpy(file[p]) for p in PARTS if p in file}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"missing.manifest={path} is no file of masks: {error}") from error
    differ = [
        f"{key} {about.get(key)!r}, here {value!r}"
        for key, value in expected.items()
        if about.get(key) != value
    ]
    if differ:
        is_protocol = all(fault.startswith(("sampler ", "rate ")) for fault in differ)
        what = "by another protocol" if is_protocol else "of other data"
        hint = " Set missing= and missing.rate= to the manifest's." if is_protocol else ""
        raise DataError(f"missing.manifest={path} is {what}: {'; '.join(differ)}.{hint}")
    return masks


def checked_mask(path: Path, masks: Mapping[str, Tensor], part: str, own: Tensor) -> Tensor:
    """Check a part's mask of a manifest against what the samples have.

    Args:
        path: The manifest.
        masks: Its masks.
        part: The split.
        own: (N, M) bool, what its samples have.

    Returns:
        The mask.

    Raises:
        DataError: If there is none of that shape and type, it leaves a sample without a modality,
            or has a cell that the data lack.
    """
    where = f"missing.manifest={path}, {part!r}"
    mask = masks.get(part)
    if mask is None or mask.shape != own.shape or mask.dtype != torch.bool:
        found = "none" if mask is None else f"{tuple(mask.shape)} of {mask.dtype}"
        raise DataError(f"{where}: needs a mask {tuple(own.shape)} of torch.bool, found {found}")
    for rows, fault in (
        (~mask.any(dim=1), "is left without a modality"),
        ((mask & ~own).any(dim=1), "has a modality by the mask that the data lack"),
    ):
        if rows.any():
            raise DataError(f"{where}: sample {int(rows.nonzero()[0])} {fault}")
    return mask
