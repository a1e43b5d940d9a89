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
# # 4. ACDC, end to end, on the phantom
#
# The whole way of a labelled dataset: check it, look at it, segment it from the names of its structures, score it
# per volume, read Table 2. On the phantom in ACDC's layout, since ACDC may not be passed on; with your copy only
# the root changes. The model is that of `make train EXP=phantom_cehnc` where it has been trained, else one trained
# here in about a minute.

# %% tags=["parameters"]
SMALL = False  # fewer patients and a model of two steps, for the tests

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from setting import DATA, at_root, quiet, runs, trained_model

from data_modules import PhantomACDCDataModule
from medzeroseg.main import main

at_root()
checkpoint = trained_model(SMALL)

# %% [markdown]
# ## The data
#
# With the real set: `ACDCDataModule("/data/ACDC", split="ssl4mis")`.

# %%
training, testing = (2, 1) if SMALL else (2, 2)
root = DATA / f"phantom_acdc_{training}_{testing}"
data = PhantomACDCDataModule(root, training=training, testing=testing, num_workers=0)
data.prepare_data()
data.setup("test")
print(data.summary("test"))
print(data.label_names, "|", data.modality)

# %% [markdown]
# `medzeroseg data check` reads every file before anything is trained on it:

# %%
main(["data", "check", "acdc", str(root)])

# %% [markdown]
# A case is a volume; rows are its slices, base to apex.

# %%
batch = next(iter(data.test_dataloader()))
case = batch["case_id"][0]
rows = [n for n, name in enumerate(batch["case_id"]) if name == case]
figure, axes = plt.subplots(1, len(rows), figsize=(2 * len(rows), 2.4), layout="constrained", squeeze=False)
for axis, n in zip(axes[0], rows, strict=True):
    axis.imshow(batch["native_image"][n], cmap="gray")
    axis.imshow(np.ma.masked_equal(batch["native_mask"][n], 0), cmap="tab10", vmin=0, vmax=9, alpha=0.5)
    axis.set_title(f"slice {int(batch['slice_index'][n]) + 1}", fontsize="small")
    axis.axis("off")
figure.suptitle(f"{case}: " + ", ".join(f"{label} {name}" for label, name in data.label_names.items()))
plt.show()

# %% [markdown]
# ## Segment and score
#
# `phantom_acdc_zeroshot` asks for the names of the structures, slice by slice, with every method of its table, and
# scores each volume as a whole. No mask was used in training this model, but the names of what windows show, which
# come from label maps (`docs/localisation.md`).

# %%
words = [
    f"--model.init_args.checkpoint={checkpoint}",
    f"--data.init_args.root={root}",
    f"--data.init_args.training={training}",
    f"--data.init_args.testing={testing}",
    "--data.init_args.num_workers=0",
]
assert main(["train", "phantom_acdc_zeroshot", "--", *words, *quiet(SMALL)]) == 0

# %% [markdown]
# ## Table 2
#
# DSC of each method, and its baselines: a fixed box in the middle and a random map. A method that does not beat
# these has found nothing.

# %%
folder = runs(SMALL) / "phantom_acdc_zeroshot"
table = json.loads((folder / "tables" / "table2.json").read_text())
rows = sorted(table["rows"], key=lambda row: row["metrics"]["dsc"]["mean"])
figure, axis = plt.subplots(figsize=(8, 0.34 * len(rows) + 1), layout="constrained")
axis.barh([row["method"] for row in rows], [row["metrics"]["dsc"]["mean"] for row in rows])
axis.set(title=f"mean DSC, %, of {len(data.cases('test'))} volumes", xlabel="DSC, %")
plt.show()

# %%
Image.open(folder / "seed_0" / "segmentation_sheet.png")
