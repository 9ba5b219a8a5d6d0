# %% [markdown]
# # Your own method
#
# A training rule is one class with one function, `fit_batch`, and one YAML file. This one is joint
# training whose loss is kept above a level (flooding, Ishida et al., ICML 2020).

# %%
from pathlib import Path

code = '''\
from mla_lightning.module import MultimodalModule


class Flooding(MultimodalModule):
    """Joint training whose loss is kept above a level."""

    follows_task = True  # defined for a number and for several labels, too

    def __init__(self, *, level: float = 0.05, **parts):
        super().__init__(**parts)
        self.level = level

    def fit_batch(self, batch):
        def losses_of(chunk):
            logits = self.fusion(self.features(chunk), self.parts.presence(chunk))
            loss = self.parts.loss(logits, chunk)
            return {"joint": (loss - self.level).abs() + self.level}

        return self.step_on(batch, losses_of)
'''
Path("my_lab").mkdir(exist_ok=True)
Path("my_lab/flooding.py").write_text(code)

# %% [markdown]
# The YAML names the class, its fusion and its settings. `step_on` does the rest: clipping,
# accumulation, precision, schedules, several devices.

# %%
config = """\
# Flooding: joint training whose loss is kept above a level.
defaults:
  - /fusion@fusion: concat
_target_: my_lab.flooding.Flooding
level: 0.05
"""
Path("conf/method").mkdir(parents=True, exist_ok=True)
Path("conf/method/flooding.yaml").write_text(config)

# %% [markdown]
# It is now a method like every other. In a shell:
#
#     mla train -m --config-dir conf --allow-target my_lab data=synthetic method=flooding,concat
#
# Configs may name classes of this package and of those that you allow, and no others.

# %%
import sys

import mla_lightning as mla

sys.path.insert(0, ".")
runs = mla.sweep(
    "data=synthetic",
    "trainer.max_epochs=2",
    "diagnostics=off",
    method=["flooding", "concat"],
    config_dir="conf",
    allow=["my_lab"],
)
for run in runs:
    print(run)

# %% [markdown]
# Data sets, fusions, encoders, metrics, figures and launchers are added in the same way:
# [adding things](../../CONTRIBUTING.md#adding-things).
