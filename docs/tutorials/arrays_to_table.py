# %% [markdown]
# # From arrays in memory to a table of four methods
#
# Two feature arrays with a label per sample are imported; four methods and the unimodal reference
# are trained on them with three seeds each. The tutorial then shows Table 1, predicts new samples,
# and trains MLA with a Trainer and DataLoaders of your own. Run the whole file,
# `python docs/tutorials/arrays_to_table.py`, or cell by cell in an editor that supports `# %%`.
# It takes about half a minute on two cores.

# %%
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import mla_lightning as mla

work = Path(tempfile.mkdtemp(prefix="mla-tutorial-"))

# %% [markdown]
# ## 1. The data
#
# Two complementary modalities: the sound separates the first class from the others, the picture the
# second and the third. The picture is the stronger modality, so joint training relies on it.

# %%
rng = np.random.default_rng(0)
label = rng.integers(0, 3, size=900)
sound = rng.normal(size=(900, 20)).astype(np.float32)
sound[:, 0] += 1.5 * (label == 0)
picture = rng.normal(size=(900, 30)).astype(np.float32)
picture[:, 0] += 2.5 * (label == 2)
picture[:, 1] += 1.0 * (label == 1)
np.savez(work / "mine.npz", sound=sound, picture=picture, label=label)

# %% [markdown]
# The import checks the arrays and writes a store, which training reads row by row. As the arrays
# contain no split, samples are divided 70 / 10 / 20 within each class. On the command line:
# `mla data import mine.npz target=store`.

# %%
from mla_lightning.prepare.import_arrays import import_arrays

store = import_arrays(work / "mine.npz", work / "store")

# %% [markdown]
# ## 2. Four methods, three seeds
#
# Each job runs in a separate process, as many at a time as there are cores. A second call skips all
# finished jobs.

# %%
settings = (
    f"data=store data.path={store} optimizer.lr=0.005 trainer.max_epochs=6 "
    "data.batch_size=32 scheduler=null"
).split()
runs = mla.sweep(
    *settings,
    method=["concat", "late_fusion", "ogm_ge", "mla", "unimodal"],
    seed=range(3),
    folder=work / "runs",
)
assert len(runs) == 15

# %% [markdown]
# ## 3. The table
#
# Mean and standard deviation over seeds, paired tests of each method against Concat and Late
# Fusion, and the accuracy that each modality loses in joint training. A notebook displays
# `runs.table()`; here it is printed.

# %%
table = runs.table()
for part in table.tables[:2]:
    print(part.title, part.columns)
    for section in part.written_sections:
        for row in section.rows:
            print(f"  {row.label:<32}", "  ".join(cell.text for cell in row.cells))

# %% [markdown]
# `mla report page runs` writes all results as one HTML page; of runs with `diagnostics=epoch`, also
# figures of the diagnostics.
# `runs.to_pandas()` returns the numbers as a data frame.

# %% [markdown]
# ## 4. A single run
#
# A run is stored in its folder. Its model predicts any samples of the same kind: logits of each
# modality and of their fusion, probabilities, and fusion weights.

# %%
run = runs[-4]
print(run)
print(
    "last epoch:", {key: round(value, 3) for key, value in run.metrics[-1].items() if "acc" in key}
)
new = {"sound": sound[:5], "picture": picture[:5]}
prediction = run.predict(new)
print("predicted:", prediction.classes, "weights of sound:", prediction.weights["sound"])
again = mla.load(run.folder)
assert torch.equal(again.predict(new).logits["multi"], prediction.logits["multi"])

# %% [markdown]
# ## 5. MLA with your own Trainer
#
# Every method is a plain LightningModule. It takes your encoders, whose feature width is
# their `out_features` or that of their last layer, and batches that are dicts of tensors with a
# `label`.

# %%
samples = [
    {"sound": torch.from_numpy(s), "picture": torch.from_numpy(p), "label": torch.tensor(y)}
    for s, p, y in zip(sound, picture, label, strict=True)
]
train_loader = DataLoader(samples[:700], batch_size=50, shuffle=True)
val_loader = DataLoader(samples[700:], batch_size=200)
torch.manual_seed(0)
encoders = {
    name: torch.nn.Sequential(torch.nn.Linear(width, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
    for name, width in (("sound", 20), ("picture", 30))
}
module = mla.methods.MLA(
    encoders=encoders, num_classes=3, optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9)
)
trainer = Trainer(
    max_epochs=10,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    accelerator="cpu",
)
trainer.fit(module, train_loader, val_loader)
accuracy = {name: float(value) for name, value in trainer.callback_metrics.items() if "acc" in name}
print("validation accuracy:", {name: round(value, 3) for name, value in accuracy.items()})
assert accuracy["val/acc"] > 0.6
