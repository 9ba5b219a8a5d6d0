"""A config to start from: which small encoders fit the modalities of a store."""

from __future__ import annotations

from pathlib import Path

import yaml

from mla_lightning.data.store import open_store
from mla_lightning.data.usual_encoders import usual_encoders
from mla_lightning.run_folder import write_text


def write_config(folder: Path) -> Path:
    """Write ``conf/data/<name>.yaml`` into a store: the data, and an encoder per modality.

    It is meant to be edited: small networks from scratch, and the paper's optimisation.

    Args:
        folder: The store.

    Returns:
        The folder to give to ``--config-dir``.

    Raises:
        DataError: If a modality is of a kind or shape that no encoder here takes.
    """
    store = open_store(folder)
    name = str(store.manifest["name"])
    config = {
        "data": {
            "_target_": "mla_lightning.data.prepared.Prepared",
            "path": str(folder),
            "split": None,
            "eval_batch_size": 256,
            "num_workers": 0,
        },
        "encoder": usual_encoders(store, store.modalities),
    }
    shown = ", ".join(store.modalities)
    text = f"""# @package _global_
# {name}: {len(store)} samples of {len(store.manifest["class_names"])} classes, with {shown}.
#   mla train --config-dir {folder / "conf"} data={name}
# Edit it: the encoders are small ones to start with, the optimisation is the paper's.
defaults:
  - override /encoder: auto
  - override /recipe: paper
"""
    conf = folder / "conf"
    (conf / "data").mkdir(parents=True, exist_ok=True)
    write_text(conf / "data" / f"{name}.yaml", text + yaml.safe_dump(config, sort_keys=False))
    return conf
