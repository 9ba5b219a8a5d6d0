"""The types and bounds of the settings that are no argument of a class."""

from __future__ import annotations

from typing import Any

from mla_lightning.run_folder.config import RunConfig

#: Dotted key -> type of every setting outside of the nodes that name a class.
SETTING_TYPES: dict[str, Any] = RunConfig.settings()
#: Top-level keys of nodes that name a class, which are checked against the class.
NODES = RunConfig.nodes()
#: Settings of Lightning's Trainer that users may try, and what to do instead.
INSTEAD = {
    "trainer.strategy": "trainer.devices=2 trains one job on two devices, each of which holds the "
    "whole model and computes a part of the batch. There is no other strategy: a model whose parts "
    "are on different devices (fsdp, deepspeed) is not supported. Less memory per device: "
    "trainer.devices, trainer.accumulate=4 or trainer.precision=bf16-mixed.",
    "trainer.limit_train_batches": "a run trains on whole epochs; debug=fast is a quick check.",
    "trainer.limit_val_batches": "validation takes all samples; debug=fast is a quick check.",
    "trainer.fast_dev_run": "write debug=fast.",
    "trainer.overfit_batches": "write debug=overfit.",
    "trainer.profiler": "write callbacks=profiler, or debug=profiler.",
    "trainer.callbacks": "write callbacks=[NAME,...]; see `mla list callbacks`.",
    "trainer.logger": "write logger=NAME; see `mla list loggers`.",
    "trainer.enable_progress_bar": "write trainer.progress_bar=false.",
    "trainer.enable_model_summary": "write callbacks=model_summary.",
    "trainer.enable_checkpointing": "a run can always be resumed; see checkpoint.keep.",
    "trainer.max_steps": "write trainer.max_epochs; a run has whole epochs.",
    "trainer.min_epochs": "only callbacks=early_stopping ends training before trainer.max_epochs.",
    "trainer.val_check_interval": "every epoch is validated, once.",
    "trainer.check_val_every_n_epoch": "every epoch is validated, once.",
    "trainer.log_every_n_steps": "write trainer.log_every_n_batches.",
    "trainer.default_root_dir": "write paths.output_dir.",
    "trainer.gradient_clip_val": "write trainer.clip_norm.",
    "trainer.accumulate_grad_batches": "write trainer.accumulate.",
}
#: Settings whose values users may take from elsewhere, and what to write.
ADVICE = {
    "trainer.devices": "It is a number; which GPUs are used is chosen by CUDA_VISIBLE_DEVICES=0,1.",
}
