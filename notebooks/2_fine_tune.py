# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Fine-tune, and read Table 1
#
# Two short trainings of the small model on the phantom, with InfoNCE and with CEHNC, their curves, and the table
# that comes out of them. About a minute each on two quiet cores, on 400 pairs: the curves are real, the figures say
# nothing about the losses. `make train EXP="phantom_infonce phantom_cehnc" SEEDS="0 1 2"` is the experiment.

# %% tags=["parameters"]
SMALL = False  # two steps on forty pairs, for the tests

# %%
import csv
import json
from statistics import mean

import matplotlib.pyplot as plt
from PIL import Image
from setting import at_root, phantom, quiet, runs

from medzeroseg.main import main

at_root()
EXPERIMENTS = ["phantom_infonce", "phantom_cehnc"]

# %% [markdown]
# ## Train
#
# The same as `make train`, with overrides. Windows are left out: they teach places, which Table 1 does not ask for.

# %%
pairs_alone = [
    "--model.init_args.window_loss=null",
    "--model.init_args.window_share=0",
    "--data.init_args.windows=null",
    f"--trainer.max_epochs={2 if SMALL else 8}",
    f"--trainer.limit_train_batches={1 if SMALL else 1.0}",
]
for experiment in EXPERIMENTS:
    assert main(["train", experiment, "--", *phantom(SMALL), *quiet(SMALL), *pairs_alone]) == 0

# %% [markdown]
# ## Curves
#
# Every run keeps its scalars as CSV and for TensorBoard (`make dashboard`). The losses themselves are not
# comparable with each other; retrieval on validation pairs is.


# %%
def scalars(experiment: str, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of a logged scalar, of the newest version."""
    newest = max((runs(SMALL) / experiment / "seed_0" / "csv").glob("version_*"), key=lambda path: path.stat().st_mtime)
    with (newest / "metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get(key)]
    return [int(row["step"]) for row in rows], [float(row[key]) for row in rows]


KEYS = {"train/loss": "loss", "train/effective_negatives": "effective negatives", "train/grad_norm": "gradient norm"}
figure, axes = plt.subplots(1, len(KEYS), figsize=(12, 3.4), layout="constrained")
for axis, (key, title) in zip(axes, KEYS.items(), strict=True):
    for experiment in EXPERIMENTS:
        axis.plot(*scalars(experiment, key), label=experiment)
    axis.set(title=title, xlabel="step")
axes[0].legend()
plt.show()

# %% [markdown]
# ## Table 1
#
# Each row states its gallery: all test pairs, and batches of 50 as the peers have it. A top-1 in a gallery of 50
# says little about one in a gallery of 1,000.

# %%
main(["tables", "--runs", str(runs(SMALL))])
table = json.loads((runs(SMALL) / "tables" / "table1.json").read_text())
figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
names = [f"{row['label']}\n{row['gallery']}" for row in table["rows"]]
for place, (key, title) in enumerate({"i2t_top1": "image to text", "t2i_top1": "text to image"}.items()):
    heights = [mean(row["metrics"][key]) for row in table["rows"]]  # over the seeds, of which there is one here
    axis.bar([n + 0.4 * place for n in range(len(names))], heights, 0.38, label=title)
axis.set_xticks([n + 0.2 for n in range(len(names))], names, fontsize="small")
axis.set(title="top-1, %")
axis.legend()
plt.show()

# %% [markdown]
# ## What is retrieved
#
# Validation pictures, their captions, and the caption that the model takes for nearest.

# %%
Image.open(runs(SMALL) / "phantom_cehnc" / "seed_0" / "pair_sheet.png")
