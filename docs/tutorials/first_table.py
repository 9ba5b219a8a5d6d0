# %% [markdown]
# # A first table
#
# Three methods on a small synthetic data set, with three seeds each: nine runs, which take a few
# seconds. In a shell the same is
#
#     mla train -m data=synthetic "data.signal=[2.0,1.0]" trainer.max_epochs=3 diagnostics=off \
#         method=concat,mla,unimodal "seed=range(3)"
#     mla report table1 runs

# %%
import mla_lightning as mla

runs = mla.sweep(
    "data=synthetic",
    "data.signal=[2.0,1.0]",
    "trainer.max_epochs=3",
    "diagnostics=off",
    method=["concat", "mla", "unimodal"],
    seed=range(3),
)
assert len(runs) == 9

# %% [markdown]
# The table has a row for each modality alone and one for their fusion (`multi`): mean and standard
# deviation of the test accuracy over the seeds. `unimodal` trains each modality alone; how far
# the others stay below it is what joint training costs a modality.

# %%
accuracy = runs.table().tables[0]
for row in accuracy.written_sections[0].rows:
    for method, cell in zip(accuracy.columns, row.cells, strict=True):
        if cell.text != "missing":  # the table has a column for every method of the paper
            print(f"{row.label:<8}{method:<10}{cell.text}")

# %% [markdown]
# Every run is a folder. The same call again trains nothing: finished runs are found.

# %%
run = runs[0]
print(run)
print(f"{run.result.test['multi']['accuracy']:.3f}")

# %% [markdown]
# Next: `mla report page runs` writes one HTML page with all tables and figures, and
# [your own arrays](arrays_to_table.py) take the place of the synthetic ones.
