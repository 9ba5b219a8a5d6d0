# %% [markdown]
# # From your own files to a table
#
# Pictures, sounds and texts in a folder, and a CSV file that lists them: they are checked and
# imported, looked at, two methods are trained on them with two seeds each, and new samples are
# predicted. Nothing is downloaded; the first cell makes a small folder that stands for yours.

# %%
import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw

CORNERS = {"bell": 40, "brick": 4, "cone": 3}
PITCHES = {"bell": 1600, "brick": 400, "cone": 500}
WORDS = {"bell": "round", "brick": "square", "cone": "pointed"}


def write_sample(rng, folder, number, name):
    """Write a picture and a sound of a thing; return the cells that name them, and a text."""
    picture = Image.fromarray(rng.integers(0, 120, (24, 24, 3), dtype=np.uint8))
    x, y = rng.integers(7, 17, 2).tolist()
    ImageDraw.Draw(picture).regular_polygon((x, y, 6), CORNERS[name], fill="orange")
    picture.save(folder / f"{number}.png")
    time = np.arange(3200) / 16000
    tone = np.sin(2 * np.pi * PITCHES[name] * rng.uniform(0.7, 1.4) * time) * np.exp(-12 * time)
    soundfile.write(folder / f"{number}.wav", tone + 0.2 * rng.normal(size=3200), 16000)
    word = WORDS[name] if rng.random() < 0.6 else "small"
    return [f"{number}.png", f"{number}.wav", f"a {word} thing"]


def write_folder(folder, names, seed, *, with_labels=True):
    """Write a thing of each name, and the table that lists them."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with (folder / "things.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["picture", "sound", "words", *(["label"] if with_labels else [])])
        for i, name in enumerate(names):
            cells = write_sample(rng, folder, i, name)
            table.writerow([*cells, *([name] if with_labels else [])])


write_folder(Path("things"), ["bell", "brick", "cone"] * 50, seed=0)
print(Path("things/things.csv").read_text()[:160], "...")

# %% [markdown]
# ## 1. What was understood
#
# `--plan` reads the files and writes nothing: a line per column, and warnings. Look at each of
# them before you go on. Commands are those of a shell; here they run in the process of the script.

# %%
import shlex

from mla_lightning.cli.main import main


def shell(line):
    """Run a command line that begins with `mla`."""
    print("$", line)
    assert main(shlex.split(line)[1:]) == 0


shell("mla data import things/things.csv --plan")

# %% [markdown]
# ## 2. The import
#
# It writes a store, in which training reads rows without opening files again: spectrograms,
# pixels, numbers of words. A split is drawn within each class, as the table has no column `split`.

# %%
shell("mla data import things/things.csv target=data/things")
shell("mla data show data/things output=things.png per_class=3")

# %% [markdown]
# ## 3. Two methods, two seeds
#
# The store knows encoders that fit it. Four runs of eight epochs take seconds, and show the form of
# the table; what a paper needs is more seeds, samples and epochs.

# %%
shell(
    "mla train -m data=store data.path=data/things method=mla,concat seed=0,1 "
    "data.batch_size=16 optimizer.lr=0.01 trainer.max_epochs=8 diagnostics=off"
)

# %%
shell("mla report table1 runs")

# %% [markdown]
# ## 4. New samples
#
# A run predicts samples without labels, once they are imported like the data it was trained on.

# %%

write_folder(Path("new"), ["bell", "bell", "brick", "brick", "cone", "cone"], 1, with_labels=False)
shell("mla data import new/things.csv target=data/new labels=none like=data/things")
run = next(path for path in sorted(Path("runs/train").iterdir()) if "mla" in path.name)
shell(f"mla predict {run} data.path=data/new")
print(Path("predictions.csv").read_text())

# %% [markdown]
# Each line has the prediction of all modalities and of each alone, and how much each counted.
# Next: `mla reproduce things` tunes every method of Table 1 on a folder of your own and writes the
# sentence for the paper ([from files to the sentence](../own_data.md)); all kinds of tables, arrays
# and folders, and what the import checks, are in [stores](../store.md).
