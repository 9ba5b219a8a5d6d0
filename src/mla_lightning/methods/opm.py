"""OPM: on-the-fly prediction modulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import ogm_coefficients, opm_drop_probabilities, opm_scale
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import (
    encoders_with_adapters,
    own_parameters,
    scale_gradients,
)
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.window import Window
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition
from mla_lightning.randomness import derive_seed


class OPM(MultimodalModule):
    r"""Joint training in which whole features of the dominant modality are dropped at random.

    For each batch, the score of a modality is the sum of the probabilities of the true class by its
    own logits; in other tasks the sum of exp(-loss) of the samples. A modality whose score exceeds
    the mean of the others' loses its whole feature in some samples, with a probability that grows
    with its lead. All features, dropped or not, are divided by :math:`1 - \theta`, with
    :math:`\theta` the mean of these probabilities, weighted by the widths of the features. At least
    one modality is not ahead, so no sample loses everything.

    The paper is for two modalities; the mean of the others' scores is the project's extension to
    more. With ``ogm_alpha`` the encoders' gradients are also modulated as in OGM, in the same steps
    and by the same scores; the adapter of a shared head is part of its modality's encoder. Defaults
    are those of the authors' script; their configuration file has a ``q_base`` of 0.4.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = OPM(**parts)
        >>> features = {"audio": torch.ones(2, 4), "visual": torch.ones(2, 4)}
        >>> q = torch.tensor([1.0, 0.0])  # audio is always dropped, hence a factor of 2
        >>> kept = method.drop(features, q, torch.rand(2, 2))
        >>> kept["audio"].sum(), kept["visual"].sum()
        (tensor(0.), tensor(16.))
        >>> OPM(q_base=1.5, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.q_base must be in [0, 1], got 1.5
    """

    follows_task = True
    takes_ranks = True
    takes_chunks = False  # the probabilities depend on the whole batch
    takes_incomplete = False
    default_fusion = Concat
    reference = Reference(
        "On-the-fly Modulation for Balanced Multimodal Learning",
        "TPAMI",
        2024,
        "https://arxiv.org/abs/2410.11582",
    )

    def __init__(
        self,
        *,
        q_base: float = 0.5,
        strength: float = 0.5,
        p_exe: float = 0.7,
        start_epoch: int = 6,
        ogm_alpha: float | None = None,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            q_base: Probability of dropping the feature of a modality that is hardly ahead, in
                [0, 1]. With 0 this is joint training.
            strength: How much that probability grows with the lead, lambda >= 0.
            p_exe: Probability that features of a batch are dropped, in [0, 1].
            start_epoch: First epoch in which they are, from 0; earlier ones are joint training.
            ogm_alpha: Strength > 0 of OGM's modulation of gradients; None for none.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, or with ``ogm_alpha`` encoders share parameters
                or are all frozen.
        """
        for option, probability in (("q_base", q_base), ("p_exe", p_exe)):
            if not 0 <= probability <= 1:
                raise ConfigError(f"method.{option} must be in [0, 1], got {probability}")
        if strength < 0:
            raise ConfigError(f"method.strength must be >= 0, got {strength}")
        if ogm_alpha is not None and ogm_alpha <= 0:
            raise ConfigError(f"method.ogm_alpha must be > 0, or null for none, got {ogm_alpha}")
        self.window = Window(start_epoch, None)
        super().__init__(**parts)
        self.q_base, self.strength, self.p_exe = q_base, strength, p_exe
        self.ogm_alpha = ogm_alpha
        if ogm_alpha is not None:
            encoders = encoders_with_adapters(self.encoders, self.fusion)
            self.modulated = own_parameters(encoders, otherwise="method.ogm_alpha=null")
        self._draw_seed = 0

    def on_train_start(self) -> None:
        """Check that there is an epoch in which features are dropped."""
        self.window.check_reached(self.trainer.max_epochs)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what is dropped by (seed, epoch, batch)."""
        super().on_train_batch_start(batch, batch_idx)
        self._draw_seed = derive_seed(self.parts.seed, "opm", self.current_epoch, batch_idx)

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss of the features that are kept."""
        is_modulated = self.current_epoch in self.window
        scores = BatchScores(self.task)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            if is_modulated:
                scores.add(self.fusion.unimodal(features), chunk)
                if (draws_BM := self._draws(chunk)) is not None:
                    q = opm_drop_probabilities(scores.total(), self.q_base, self.strength)
                    features = self.drop(features, q, draws_BM)
            return {"joint": self.parts.loss(self.fusion(features), chunk)}

        def modulate() -> None:
            assert self.ogm_alpha is not None
            coefficients = ogm_coefficients(scores.total(), self.ogm_alpha)
            scale_gradients(self.modulated.values(), coefficients)

        is_edited = is_modulated and self.ogm_alpha is not None
        return self.step_on(batch, losses_of, edit_grads=modulate if is_edited else None)

    def _draws(self, chunk: Batch) -> Tensor | None:
        """Return uniform random numbers (B, M) for a chunk, None if nothing of it is dropped."""
        generator = torch.Generator().manual_seed(self._draw_seed)
        shape = 1 + num_in_batch(chunk), len(self.modalities)
        draws_BM = torch.rand(shape, generator=generator, dtype=torch.float32)
        if float(draws_BM[0, 0]) >= self.p_exe:  # the first row is of the batch
            return None
        return ranks.part_of(draws_BM[1:]).to(self.device)

    def drop(
        self, features: Mapping[str, Tensor], q: Tensor, draws_BM: Tensor
    ) -> dict[str, Tensor]:
        """Drop whole features at random, and rescale all.

        Args:
            features: Modality -> feature (B, D_m) or (B, T, D_m).
            q: Each modality's probability of being dropped (M,).
            draws_BM: A random number for each feature, uniform in [0, 1) (B, M); one below the
                probability drops it.

        Returns:
            Modality -> feature, zeros where it is dropped.
        """
        scale = opm_scale(q, list(self.fusion.feature_dims.values()))
        factors_BM = torch.where(draws_BM < q, torch.zeros_like(scale), scale)
        return {
            name: h * factors_BM[:, m].to(h.dtype).view(-1, *[1] * (h.ndim - 1))
            for m, (name, h) in enumerate(features.items())
        }
