"""The settings that no class takes: their types and bounds."""

from __future__ import annotations

from typing import Any

from mla_lightning.run_folder.config import RunConfig

#: Every setting outside the nodes that name a class, by its dotted key.
SETTINGS: dict[str, Any] = RunConfig.settings()
#: Top-level keys whose content is checked elsewhere: nodes that name classes.
NODES = RunConfig.nodes()
#: Settings that people look for here, and what to do instead.
INSTEAD = {
    "trainer.devices": "a job uses one device. Run several jobs at a time with -m.",
    "trainer.num_nodes": "a job uses one device. Run several jobs at a time with -m.",
    "trainer.strategy": "a job uses one device. Run several jobs at a time with -m.",
    "trainer.gradient_clip_val": "write trainer.clip_norm.",
    "trainer.accumulate_grad_batches": "write trainer.accumulate.",
}
