"""Image encoder from timm: any of its backbones."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor

from mla_lightning.encoders.base import check_at_least, mean_over_frames
from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.errors import ConfigError, DataError, near


class TimmImage(TunedEncoder):
    """A backbone of timm, for images (B, C, H, W) or videos (B, C, T, H, W).

    The feature is what the backbone gives its classifier, for videos the mean over the frames. The
    width, and the size of backbones that take one size alone, are timm's. Spectrograms are images
    of one channel: ``in_channels=1``.

    Attributes:
        model: The backbone, without its classifier.

    Example:
        With timm (``pip install 'mla_lightning[timm]'``), ``TimmImage(name="resnet50")`` loads its
        pretrained weights, and ``timm.list_models(pretrained=True)`` has all names:

        >>> TimmImage(name="resnet50", tune="last_1")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: TimmImage: tune must be all or none, got 'last_1'
    """

    #: The package that it needs, which is that of an extra of the same name.
    package = "timm"

    def __init__(
        self,
        *,
        name: str,
        in_channels: int = 3,
        size: int | None = None,
        tune: str = "all",
        pretrained: bool = True,
    ) -> None:
        """Build the backbone.

        Args:
            name: Its name in timm, such as ``resnet50`` or ``vit_small_patch16_224.dino``; or
                ``local-dir:FOLDER``, or ``hf-hub:OWNER/NAME``.
            in_channels: Number of channels; pretrained weights of three colours are adapted.
            size: Height and width of the images, for backbones that take one size alone, such as
                ViTs; None for the size that they were trained on.
            tune: Whether the backbone is trained: ``all`` or ``none``.
            pretrained: Whether to load the pretrained weights, or to start from random ones.

        Raises:
            ConfigError: If timm or a package that it needs is missing, the name is unknown, or a
                value does not fit the backbone.
            DataError: If the weights cannot be loaded.
        """
        super().__init__()
        if tune not in ("all", "none"):
            raise ConfigError(f"{type(self).__name__}: tune must be all or none, got {tune!r}")
        check_at_least(1, in_channels=in_channels, size=size or 1)
        self.in_channels = in_channels
        self.model = _backbone(name, in_channels, size, pretrained)
        config = self.model.pretrained_cfg
        sides = tuple(config["input_size"][-2:]) if config.get("fixed_input_size") else None
        self.sides = sides if size is None else (size, size)
        self.out_features = int(self.model.head_hidden_size)
        self.freeze(tune, (), ())

    def options_without_files(self) -> dict[str, Any]:
        """Return the options that build the encoder without a file, with other weights."""
        return {"name": str(self.model.pretrained_cfg["architecture"]), "pretrained": False}

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or videos as the mean over their frames.

        Args:
            x: Images (B, C, H, W) or videos (B, C, T, H, W).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        has_channels = x.ndim in (4, 5) and x.shape[1] == self.in_channels
        height, width = self.sides or ("H", "W")
        self.check_input(
            has_channels and (self.sides is None or tuple(x.shape[-2:]) == self.sides),
            x,
            f"images (B, {self.in_channels}, {height}, {width}) or video (B, {self.in_channels}, "
            f"T, {height}, {width})",
        )
        return mean_over_frames(self.model, x)


def import_timm() -> Any:
    """Import timm.

    Raises:
        ConfigError: If it is missing, or a package that it needs does not fit.
    """
    try:
        return importlib.import_module("timm")
    except (ImportError, OSError, RuntimeError) as error:  # the last of a torchvision that is wrong
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"encoder=timm needs timm, which cannot be imported: {reason}. "
            "pip install 'mla_lightning[timm]' installs it, with torchvision, which must be the "
            "build that belongs to the installed torch: see https://pytorch.org/get-started/locally"
        ) from error


def _backbone(name: str, in_channels: int, size: int | None, pretrained: bool) -> Any:
    timm = import_timm()
    if ":" not in name and not timm.is_model(architecture := name.partition(".")[0]):
        hint = near(architecture, timm.list_models())
        raise ConfigError(f"timm has no model {architecture!r}.{hint} See timm.list_models().")
    sizes = {} if size is None else {"img_size": size}
    options = {"num_classes": 0, "in_chans": in_channels, **sizes}
    if not pretrained:
        return _built(timm, name, options)
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # of timm, the hub or the network
        _built(timm, name, options)  # raises if the options are wrong, not the weights
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"TimmImage: the weights of {name} cannot be loaded: {reason} On a machine with a "
            f"network, run: hf download timm/{Path(name).name} --local-dir DIR; then give "
            "name=local-dir:DIR. pretrained=false starts from random weights."
        ) from error


def _built(timm: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=False, **options)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        listed = ", ".join(f"{key}={value}" for key, value in options.items())
        raise ConfigError(
            f"TimmImage: timm cannot build {name} with {listed}: {reason}. Leave size out for a "
            "model that takes any size."
        ) from error
