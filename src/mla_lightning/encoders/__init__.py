"""Encoders: modules that turn the input of one modality into a feature, one per file.

Calling an encoder gives features (B, D); its attribute ``out_features`` is the width D. An input of
another shape raises an error that names what is expected.

Vectors and tokens
    ``MLP``, ``BagOfTokens``; ``Vector`` is the identity.

Any input without learning
    ``Plain``, standardised vectors for linear models.

Sequences
    ``LSTM``, ``TextCNN`` (MMIN's encoders); ``Steps`` is the identity.

Images, spectrograms and videos
    ``SmallCNN``, ``ResNet18``.

Pretrained transformers
    ``M3AEImage``, ``M3AEText``; ``CAVMAEAudio``, ``CAVMAEVisual``; from Hugging Face's
    transformers, which is imported when one of them is built: ``HFAudio``, ``HFImage``, ``HFText``.
    The option ``tune`` chooses which of their layers are trained. ``TimmImage``: any backbone of
    timm, an extra.

Base class
    ``Encoder``.

Example:
    >>> import torch
    >>> from mla_lightning.encoders import MLP, SmallCNN
    >>> image, text = SmallCNN(in_channels=3, out_features=16), MLP(300, out_features=16)
    >>> image(torch.rand(5, 3, 32, 32)).shape, text(torch.randn(5, 300)).shape
    (torch.Size([5, 16]), torch.Size([5, 16]))
"""

from mla_lightning.encoders.bag_of_tokens import BagOfTokens
from mla_lightning.encoders.base import Encoder
from mla_lightning.encoders.cav_mae import CAVMAEAudio, CAVMAEVisual
from mla_lightning.encoders.hf_audio import HFAudio
from mla_lightning.encoders.hf_image import HFImage
from mla_lightning.encoders.hf_text import HFText
from mla_lightning.encoders.lstm import LSTM
from mla_lightning.encoders.m3ae import M3AEImage, M3AEText
from mla_lightning.encoders.mlp import MLP
from mla_lightning.encoders.plain import Plain
from mla_lightning.encoders.resnet18 import ResNet18
from mla_lightning.encoders.small_cnn import SmallCNN
from mla_lightning.encoders.steps import Steps
from mla_lightning.encoders.text_cnn import TextCNN
from mla_lightning.encoders.timm_image import TimmImage
from mla_lightning.encoders.vector import Vector

__all__ = [
    "LSTM",
    "MLP",
    "BagOfTokens",
    "CAVMAEAudio",
    "CAVMAEVisual",
    "Encoder",
    "HFAudio",
    "HFImage",
    "HFText",
    "M3AEImage",
    "M3AEText",
    "Plain",
    "ResNet18",
    "SmallCNN",
    "Steps",
    "TextCNN",
    "TimmImage",
    "Vector",
]
