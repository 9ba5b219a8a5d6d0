"""A data config beside a store, with small encoders for its modalities, for users to edit."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mla_lightning.data.default_encoders import default_encoders
from mla_lightning.data.store import open_store
from mla_lightning.paths import command, without_interpolation
from mla_lightning.run_folder import write_text


def write_config(folder: Path) -> Path:
    """Write ``conf/data/<name>.yaml`` into a store: the data, and an encoder per modality.

    The config is meant to be edited: small networks from scratch, and the paper's optimisation.

    Args:
        folder: The store.

    Returns:
        The folder for ``--config-dir``.

    Raises:
        DataError: If the package has no encoder for the kind or shape of a modality.
    """
    store = open_store(folder)
    name = str(store.manifest["name"])
    config = {
        "data": {
            "_target_": "mla_lightning.data.prepared.Prepared",
            "path": without_interpolation(str(folder)),
            "split": None,
            "eval_batch_size": 256,
            "num_workers": 0,
        },
        "encoder": default_encoders(store, store.modalities),
    }
    num_classes, modalities = len(store.manifest["class_names"]), ", ".join(store.modalities)
    conf = folder / "conf"
    # Of characters that Hydra reads as they are, since the name is a word of a command.
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    stem = stem if stem[0].isalpha() else f"store_{stem}"
    train = command("mla", "train", "--config-dir", conf, f"data={stem}")
    head = f"""# @package _global_
# {name}: {len(store)} samples of {num_classes} classes, with {modalities}.
#   {train}
# To be edited: the encoders are small ones to start with, the optimisation is the paper's.
defaults:
  - override /encoder: auto
  - override /recipe: paper
"""
    (conf / "data").mkdir(parents=True, exist_ok=True)
    write_text(conf / "data" / f"{stem}.yaml", head + yaml.safe_dump(config, sort_keys=False))
    return conf
