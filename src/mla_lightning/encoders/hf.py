"""Pretrained encoders of Hugging Face's transformers: one way to get them and to freeze them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import nn

from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.errors import ConfigError, DataError

Pooling = Literal["mean", "cls"]
#: Towers of larger models that may lie in a folder alone, which AutoModel does not know.
_ALONE = {"flava_text_model": "FlavaTextModel", "flava_image_model": "FlavaImageModel"}
#: Files without which a folder is no model.
_CONFIG, _WEIGHTS = "config.json", ("*.safetensors", "pytorch_model*.bin")


class HFEncoder(TunedEncoder):
    """A model of transformers as an encoder; a modality says how its input goes in.

    Attributes:
        model: The model, without the layers that only its own tasks need.
        config: Its config.
    """

    #: Names of this modality's tower in models of several, such as FLAVA.
    towers: tuple[str, ...] = ()
    model: Any
    config: Any

    def __init__(
        self,
        *,
        name: str,
        pooling: Pooling = "mean",
        tune: str = "all",
        pretrained: bool = True,
    ) -> None:
        """Load the model; no code of its files is run.

        Args:
            name: A folder, or the model's name at huggingface.co.
            pooling: ``mean`` of the tokens of the input, or ``cls``, the model's own first token.
            tune: Which layers are trained: ``all``, ``none`` or ``last_K``.
            pretrained: Load the weights; without, only the model's form is taken, and its weights
                start as they do before pretraining.

        Raises:
            ConfigError: If a value is out of range, or the model is of another modality.
            DataError: If the model cannot be had, or its weights are not complete.
        """
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise ConfigError(f"pooling must be mean or cls, got {pooling!r}")
        self.pooling = pooling
        self.model = _loaded(name, self.towers, pretrained, type(self).__name__)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # for the model's own tasks
        self.config = self.model.config
        self.check_model(name)
        self.out_features = int(self.config.hidden_size)
        self.freeze(tune, *_layers_and_after(self.model, self.config))

    def check_model(self, name: str) -> None:
        """Refuse a model that is of another modality.

        Args:
            name: The model, for the message.

        Raises:
            ConfigError: If it is.
        """
        raise NotImplementedError


def import_transformers() -> Any:
    """Import transformers, also where torchaudio is installed but does not fit PyTorch.

    Every model of transformers imports torchaudio where it is installed; one that was built for
    another PyTorch then breaks them all, although none here needs it.

    Returns:
        The package.
    """
    import transformers
    from transformers.utils.import_utils import is_torchaudio_available

    try:
        import torchaudio  # noqa: F401
    except ImportError:
        pass
    except OSError:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # is not there
        try:
            is_torchaudio_available.cache_clear()
            importlib.import_module("transformers.audio_utils")
        finally:
            del sys.modules["torchaudio"]
    return transformers


def _loaded(name: str, towers: Sequence[str], pretrained: bool, by: str) -> nn.Module:
    _check_folder(name, pretrained)
    lib = import_transformers()
    try:
        config = lib.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kind, make = lib.AutoModel, lib.AutoModel.from_config
        if config.model_type == "vit_mae":
            # The same network without the masking and shuffling of patches.
            known = {k: v for k, v in config.to_dict().items() if k != "model_type"}
            config = lib.ViTConfig.from_dict(known)
            kind = make = lib.ViTModel
        elif config.model_type in _ALONE:
            kind = make = getattr(lib, _ALONE[config.model_type])
        if not pretrained:
            return _tower(make(config), towers)[0]
        with _quiet(lib.utils.logging):
            model, about = kind.from_pretrained(
                name, config=config, trust_remote_code=False, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise DataError(_how_to_get(name, by, error)) from error
    model, prefix = _tower(model, towers)
    missing = [
        key
        for key in about["missing_keys"]
        if key.startswith(prefix) and ".pooler." not in f".{key}"
    ]
    if missing:
        raise DataError(
            f"{by}: the weights of {name} lack {', '.join(sorted(missing)[:4])}"
            f"{' and others' if len(missing) > 4 else ''} ({len(missing)} in all). Is it another "
            "model, or a file of another version? pretrained=false takes its form alone."
        )
    return model


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Let transformers not list the weights of other tasks; what is missing is checked here."""
    before = logging.get_verbosity()
    with_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if with_bars:
            logging.enable_progress_bar()


def _tower(model: nn.Module, towers: Sequence[str]) -> tuple[nn.Module, str]:
    for tower in towers:
        if isinstance(found := getattr(model, tower, None), nn.Module):
            return found, f"{tower}."
    return model, ""


def _check_folder(name: str, pretrained: bool) -> None:
    folder = Path(name).expanduser()
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not folder.is_dir():
        if looks_like_path:
            raise DataError(f"{name}: no such folder, seen from {Path.cwd()}")
        return
    if not (folder / _CONFIG).is_file():
        raise DataError(f"{name} is a folder without {_CONFIG}, so it holds no model")
    weights = [path for pattern in _WEIGHTS for path in folder.glob(pattern)]
    if pretrained and not weights:
        raise DataError(f"{name} holds no weights ({' or '.join(_WEIGHTS)})")
    for path in weights if pretrained else ():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise DataError(f"{path} is a Git LFS pointer. Get the file: git lfs pull")


def _how_to_get(name: str, by: str, error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if Path(name).expanduser().is_dir():
        return f"{by}: the model in {name} cannot be loaded: {first}"
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    why = " HF_HUB_OFFLINE is set, so only what was downloaded before is used." if offline else ""
    return (
        f"{by}: the model {name} cannot be had: {first}{why} Where there is a network: "
        f"hf download {name} --local-dir DIR; then give that folder (config.json and "
        "model.safetensors in it) with name=DIR. Models that were downloaded before are found in "
        "$HF_HOME, ~/.cache/huggingface by default."
    )


def _layers_and_after(model: nn.Module, config: Any) -> tuple[list[nn.Module], list[nn.Module]]:
    """Find a model's layers, and its last norm where it has one."""
    number = config.num_hidden_layers
    lists = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == number
    ]
    if not lists:
        raise ConfigError(f"{type(model).__name__} has no list of {number} layers to choose of")
    norms = [
        module
        for key, module in model.named_children()
        if key in ("layernorm", "norm", "layer_norm", "post_layernorm", "final_layer_norm")
    ]
    return list(lists[0]), norms
