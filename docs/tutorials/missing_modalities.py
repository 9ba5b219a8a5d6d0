# %% [markdown]
# # Missing modalities
#
# In practice some samples have no picture or no sound. Here 20 and 40 percent of the modalities
# are removed at random, in training and test. The masks are drawn once per seed and are the same
# for every method, so methods are compared on the same samples. In a shell:
#
#     mla train -m data=synthetic method=mla,concat missing=anchor missing.rate=0.2,0.4
#     mla report table2 runs

# %%
import mla_lightning as mla

settings = ("data=synthetic", "trainer.max_epochs=3", "diagnostics=off")
runs = mla.sweep(*settings, "missing=anchor", "missing.rate=0.2,0.4", method=["mla", "concat"])
assert len(runs) == 4

# %%
for run in runs:
    print(run)

# %% [markdown]
# A model also predicts a sample of which a modality is absent. What the masks are, which methods
# impute and which leave out: [missing modalities](../missing.md).
