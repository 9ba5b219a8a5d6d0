"""Base class of encoders from Hugging Face's transformers: loading, checks and freezing."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import nn

from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.errors import ConfigError, DataError

Pooling = Literal["mean", "cls"]
#: Model types of single towers, saved without the rest of their model; unknown to AutoModel.
_SINGLE_TOWERS = {"flava_text_model": "FlavaTextModel", "flava_image_model": "FlavaImageModel"}
#: Files that a folder must have to be a model.
_CONFIG, _WEIGHTS = "config.json", ("*.safetensors", "pytorch_model*.bin")


class HFEncoder(TunedEncoder):
    """Base class of encoders that are a model of transformers.

    Subclasses define which models fit their modality, and how inputs are passed to them.

    Attributes:
        model: The model, without the layers that only its own tasks need.
        config: The model's config.

    Example:
        A tiny BERT with random weights. A folder of pretrained weights, or a name at
        huggingface.co, is given in the same way, without ``pretrained=False``:

        >>> import tempfile
        >>> import torch
        >>> from mla_lightning.encoders import HFText
        >>> lib = import_transformers()
        >>> config = lib.BertConfig(
        ...     vocab_size=120,
        ...     hidden_size=8,
        ...     num_hidden_layers=3,
        ...     num_attention_heads=2,
        ...     intermediate_size=16,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config.save_pretrained(folder)
        ...     encoder = HFText(name=folder, pretrained=False, tune="last_1")
        >>> encoder.out_features
        8
        >>> layers = encoder.model.encoder.layer
        >>> [all(p.requires_grad for p in layer.parameters()) for layer in layers]
        [False, False, True]
    """

    #: Names of this modality's tower in models of several modalities, such as FLAVA.
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
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the model; no code in its files is run.

        Args:
            name: A folder, or the model's name at huggingface.co.
            pooling: ``mean`` over the tokens of the input, or ``cls``, the model's first token.
            tune: Which layers are trained: ``all``, ``none`` or ``last_K``.
            pretrained: Whether to load the pretrained weights; if not, the weights are initialised
                at random, and of the files only the config is used.
            config: The content of the model's ``config.json``, with which no file is read, as an
                exported model has it; None to read it. Needs ``pretrained=False``.

        Raises:
            ConfigError: If a value is out of range, or the model is of another modality.
            DataError: If the model cannot be loaded, or its weights are incomplete.
        """
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise ConfigError(f"pooling must be mean or cls, got {pooling!r}")
        self.pooling = pooling
        if config is not None and pretrained:
            raise ConfigError("config has no effect on pretrained weights: set pretrained to false")
        self.model = (
            _loaded(name, self.towers, pretrained, type(self).__name__)
            if config is None
            else _described(name, self.towers, config, type(self).__name__)
        )
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # only the model's own tasks need it
        self.config = self.model.config
        self.check_model(name)
        self.out_features = int(self.config.hidden_size)
        self.freeze(tune, *_layers_and_norms(self.model, self.config))

    def options_without_files(self) -> dict[str, Any]:
        """Return the options that build the encoder without a file, with other weights.

        Returns:
            ``name``, ``pretrained`` and ``config``, in place of those that it was built with.
        """
        config = self.config.to_dict()
        name = config.pop("_name_or_path", "") or config["model_type"]
        plain = json.loads(json.dumps(config, default=str))  # such as data types
        return {"name": Path(name).name, "pretrained": False, "config": plain}

    def check_model(self, name: str) -> None:
        """Check that the model is of the encoder's modality.

        Args:
            name: Name of the model, for the message.

        Raises:
            ConfigError: If it is not.
        """
        raise NotImplementedError


def import_transformers() -> Any:
    """Import transformers, also if the installed torchaudio does not fit PyTorch.

    Every model of transformers imports torchaudio if it is installed. A torchaudio that was built
    for another PyTorch then makes every model fail, although none here needs it.

    Returns:
        The package.

    Example:
        >>> import_transformers().BertConfig().hidden_size
        768
    """
    import transformers
    from transformers.utils.import_utils import is_torchaudio_available

    try:
        import torchaudio  # noqa: F401
    except ImportError:
        pass
    except OSError:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # hides it
        try:
            is_torchaudio_available.cache_clear()
            importlib.import_module("transformers.audio_utils")
        finally:
            del sys.modules["torchaudio"]
    return transformers


def _loaded(name: str, towers: Sequence[str], pretrained: bool, encoder: str) -> nn.Module:
    """Load a model, or one of its towers; ``encoder`` is the class's name for messages."""
    _check_folder(name, pretrained)
    lib = import_transformers()
    try:
        config = lib.AutoConfig.from_pretrained(name, trust_remote_code=False)
        config, model_class, build = _architecture(lib, config)
        if not pretrained:
            return _tower(build(config), towers)[0]
        with _quiet(lib.utils.logging):
            model, loading_info = model_class.from_pretrained(
                name, config=config, trust_remote_code=False, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise DataError(_cannot_load(name, encoder, error)) from error
    model, prefix = _tower(model, towers)
    missing = [
        key
        for key in loading_info["missing_keys"]
        if key.startswith(prefix) and ".pooler." not in f".{key}"
    ]
    if missing:
        raise DataError(
            f"{encoder}: the weights of {name} are incomplete; missing: "
            f"{', '.join(sorted(missing)[:4])}{' and others' if len(missing) > 4 else ''} "
            f"({len(missing)} in all). Is it another model, or a file of another version? "
            "pretrained=false starts the same model from random weights."
        )
    return model


def _architecture(lib: Any, config: Any) -> tuple[Any, Any, Any]:
    """Return the config and the class of its model, and what builds it with random weights."""
    if config.model_type == "vit_mae":
        # The same network without the masking and shuffling of patches.
        values = {k: v for k, v in config.to_dict().items() if k != "model_type"}
        return lib.ViTConfig.from_dict(values), lib.ViTModel, lib.ViTModel
    if config.model_type in _SINGLE_TOWERS:
        model_class = getattr(lib, _SINGLE_TOWERS[config.model_type])
        return config, model_class, model_class
    return config, lib.AutoModel, lib.AutoModel.from_config


def _described(
    name: str, towers: Sequence[str], values: Mapping[str, Any], encoder: str
) -> nn.Module:
    """Build a model with random weights from the content of its config; no file is read."""
    lib = import_transformers()
    try:
        config = lib.AutoConfig.for_model(**{k: v for k, v in values.items() if k != "auto_map"})
        config, _, build = _architecture(lib, config)
        return _tower(build(config), towers)[0]
    except (KeyError, OSError, TypeError, ValueError, ImportError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{encoder}: {name} cannot be built from its config: {reason}") from error


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Silence transformers' report of unused weights; missing weights are checked here."""
    verbosity = logging.get_verbosity()
    has_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _tower(model: nn.Module, towers: Sequence[str]) -> tuple[nn.Module, str]:
    """Return the modality's tower and its weights' prefix; the model itself if it has no tower."""
    for name in towers:
        if isinstance(tower := getattr(model, name, None), nn.Module):
            return tower, f"{name}."
    return model, ""


def _check_folder(name: str, pretrained: bool) -> None:
    """Check that a folder, if it is one, has the files of a model."""
    folder = Path(name).expanduser()
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not folder.is_dir():
        if looks_like_path:
            raise DataError(f"{name}: no such folder, seen from {Path.cwd()}")
        return
    if not (folder / _CONFIG).is_file():
        raise DataError(f"{name} is a folder without {_CONFIG}, so it is not a model")
    weights = [path for pattern in _WEIGHTS for path in folder.glob(pattern)]
    if pretrained and not weights:
        raise DataError(f"{name} has no weights ({' or '.join(_WEIGHTS)})")
    for path in weights if pretrained else ():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise DataError(f"{path} is a Git LFS pointer. Get the file: git lfs pull")


def _cannot_load(name: str, encoder: str, error: Exception) -> str:
    """Format why a model cannot be loaded, and how to get it."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if Path(name).expanduser().is_dir():
        return f"{encoder}: the model in {name} cannot be loaded: {reason}"
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    hint = " HF_HUB_OFFLINE is set, so only downloaded models are used." if offline else ""
    return (
        f"{encoder}: the model {name} cannot be loaded: {reason}{hint} On a machine with a "
        f"network, run: hf download {name} --local-dir DIR; then give that folder (with "
        "config.json and model.safetensors) with name=DIR. Downloaded models are searched in "
        "$HF_HOME, by default ~/.cache/huggingface."
    )


def _layers_and_norms(model: nn.Module, config: Any) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return a model's layers, and its norms after the last layer."""
    num_layers = config.num_hidden_layers
    lists = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if not lists:
        raise ConfigError(f"{type(model).__name__} has no list of {num_layers} layers to tune")
    norms = [
        module
        for key, module in model.named_children()
        if key in ("layernorm", "norm", "layer_norm", "post_layernorm", "final_layer_norm")
    ]
    return list(lists[0]), norms
