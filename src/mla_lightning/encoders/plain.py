"""Inputs as standardised vectors, for linear models without an encoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mla_lightning.encoders.base import Encoder
from mla_lightning.functional.sequences import mean_of_present_steps

#: Largest height and width of an image whose pixels are used; larger ones are averaged to it.
MAX_SIZE = 32


class Plain(Encoder):
    """Each input as one vector, standardised by the training samples; nothing is learnt.

    Vectors are taken as they are, sequences (B, T, D) are averaged over their present steps, token
    ids (B, L) are counted without padding (0), and images (B, C, H, W) are flattened, those larger
    than 32 x 32 after averaging to that size. Frames (B, C, T, H, W) are averaged first.
    Spectrograms (B, 1, T, F) become the mean and the standard deviation of each band over time.

    Example:
        >>> encoder = Plain()
        >>> encoder.vectors(torch.tensor([[1, 3, 3, 0]]))  # tokens 0 (padding) to 3
        tensor([[0., 1., 0., 2.]])
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> encoder.fit(x)
        >>> encoder(x)  # a column without variance becomes 0
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, is_spectrogram: bool = False) -> None:
        """Build the encoder; :meth:`fit` sets its width.

        Args:
            is_spectrogram: Whether inputs (B, 1, T, F) are spectrograms and not images.
        """
        super().__init__()
        self.is_spectrogram = is_spectrogram
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("scale", torch.ones(0))

    @property
    def out_features(self) -> int:  # type: ignore[override]
        """Width of the vectors; 0 before :meth:`fit`."""
        return len(self.mean)

    def vectors(self, x: Tensor) -> Tensor:
        """Convert inputs to vectors, not standardised.

        Args:
            x: Inputs (B, ...).

        Returns:
            Vectors (B, D). Of tokens, D is the number of ids of training, or before :meth:`fit`
            the largest id + 1; other ids are not counted.
        """
        if not x.is_floating_point():
            self.check_input(x.ndim == 2, x, "token ids (B, L)")
            width = self.out_features or int(x.max()) + 1
            ids = torch.where(x < width, x, torch.zeros_like(x)).long()
            counts = torch.zeros(x.shape[0], width, device=x.device)
            counts.scatter_add_(1, ids, torch.ones(ids.shape, device=x.device))
            counts[:, 0] = 0.0
            return counts
        self.check_input(2 <= x.ndim <= 5, x, "vectors, sequences, images or frames")
        if x.ndim == 2:
            return x
        if x.ndim == 3:
            return mean_of_present_steps(x)
        if self.is_spectrogram:
            return torch.cat([x.mean(dim=2), x.std(dim=2, correction=0)], dim=1).flatten(1)
        image = x if x.ndim == 4 else x.mean(dim=2)
        size = (min(image.shape[2], MAX_SIZE), min(image.shape[3], MAX_SIZE))
        return (image if size == image.shape[2:] else adaptive_avg_pool2d(image, size)).flatten(1)

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Store mean and standard deviation of the training vectors.

        Args:
            vectors: Vectors (N, D) of the training samples that have the modality.
        """
        values = vectors.double()
        std = values.std(dim=0, correction=0)
        self.mean = values.mean(dim=0).to(vectors)
        self.scale = torch.where(std > 1e-12, std, torch.ones_like(std)).to(vectors)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise inputs.

        Args:
            x: Inputs (B, ...).

        Returns:
            Vectors (B, D).
        """
        return (self.vectors(x) - self.mean) / self.scale
