"""A data config beside a store, with small encoders for its modalities, for users to edit."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from mla_lightning.data.default_encoders import default_encoders
from mla_lightning.data.store import open_store
from mla_lightning.data.targets import targets_of
from mla_lightning.data.temporary import new_file
from mla_lightning.paths import command, without_interpolation
from mla_lightning.run_folder.tasks import CLASSIFICATION


def config_name(name: str) -> str:
    """Return the name of the config of a data set, of characters that Hydra reads as they are.

    Example:
        >>> config_name("pets"), config_name("my data"), config_name("3")
        ('pets', 'my_data', 'store_3')
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return stem if stem[0].isalpha() else f"store_{stem}"


def write_config(folder: Path, place: Path | None = None) -> Path:
    """Write ``conf/data/<name>.yaml`` into a store: the data, and an encoder per modality.

    The config is meant to be edited: small networks from scratch, and the optimisation of
    ``recipe=small``. An existing one is kept.

    Args:
        folder: The store.
        place: The folder that it will have, which the config names; None if it is there already.

    Returns:
        The folder for ``--config-dir``.

    Raises:
        DataError: If the package has no encoder for the kind or shape of a modality.
    """
    store, place = open_store(folder), folder if place is None else place
    name = str(store.manifest["name"])
    config = {
        "data": {
            "_target_": "mla_lightning.data.prepared.Prepared",
            "path": without_interpolation(str(place)),
            "split": None,
            "held_out": 0,
            "eval_batch_size": 256,
            "num_workers": 0,
            "scratch": None,
        },
        "encoder": default_encoders(store, store.modalities),
    }
    targets, modalities = targets_of(store.task, name), ", ".join(store.modalities)
    phrase = targets.phrase(store.label, store.manifest["class_names"])
    facts = f"of {phrase}, with {modalities}"
    if store.task != CLASSIFICATION:
        facts = f"for {store.task}: {phrase}; with {modalities}"
    stem = config_name(name)
    train = command("mla", "train", "--config-dir", place / "conf", f"data={stem}")
    head = f"""# @package _global_
# {name}: {len(store)} samples {facts}.
#   {train}
# To be edited: the encoders are small ones to start with, the optimisation is recipe=small.
defaults:
  - override /encoder: auto
  - override /recipe: small
"""
    path = folder / "conf" / "data" / f"{stem}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with new_file(path) as file:
            file.write((head + yaml.safe_dump(config, sort_keys=False)).encode())
    return place / "conf"
