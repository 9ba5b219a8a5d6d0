"""The types and bounds of the settings that are no argument of a class."""

from __future__ import annotations

from typing import Any

from mla_lightning.run_folder.config import RunConfig

#: Dotted key -> type of every setting outside of the nodes that name a class.
SETTING_TYPES: dict[str, Any] = RunConfig.settings()
#: Top-level keys of nodes that name a class, which are checked against the class.
NODES = RunConfig.nodes()
_ONE_DEVICE = "a job uses one device. Run several jobs at a time with -m."
#: Settings of Lightning's Trainer that users may try, and what to do instead.
INSTEAD = {
    "trainer.devices": _ONE_DEVICE,
    "trainer.num_nodes": _ONE_DEVICE,
    "trainer.strategy": _ONE_DEVICE,
    "trainer.gradient_clip_val": "write trainer.clip_norm.",
    "trainer.accumulate_grad_batches": "write trainer.accumulate.",
}
