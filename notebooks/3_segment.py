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
# # 3. Segment your own image from text
#
# A picture, some words, a mask. Needs a model: the one of `make train EXP=phantom_cehnc` where it has been trained,
# else one is trained here in about a minute. For real images name a model that has seen real images (the last
# cell).
#
# Not a medical device.

# %% tags=["parameters"]
SMALL = False  # a model of two steps, for the tests

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from setting import DATA, at_root, runs, trained_model

import medzeroseg
from data_modules import PhantomROCODataModule
from medzeroseg.inference.drawing import draw_overlay

at_root()
checkpoint = trained_model(SMALL)

# %% [markdown]
# ## The picture
#
# Put the path of your own here: PNG, JPEG, DICOM (a file or the folder of a series), NIfTI, NRRD, MetaImage.
# Without one, a chest X-ray of the phantom's test split.

# %%
picture: Path | None = None
words = ["lungs", "heart"]
modality = "chest X-ray"

if picture is None:
    phantom = PhantomROCODataModule(DATA / "phantom_40", train=40, validation=20, test=24)
    phantom.prepare_data()
    phantom.setup("test")
    records = phantom.datasets["test"].records
    truth = json.loads((phantom.root / "ground_truth/test/structures.json").read_text())
    record = next(one for one in records if truth["items"][one.case_id]["modality"] == "chest_xray")
    picture = record.source.path
    print(record.caption)

# %% [markdown]
# ## Ask

# %%
[result] = medzeroseg.segment(
    picture, words, checkpoint=checkpoint, modality=modality, output=runs(SMALL) / "segment", overwrite=True
)
for label in result.labels:
    found = f"{label.voxels} pixels" if label.found else f"not found: {label.why_not}"
    print(f"{label.label} {label.text}: {found}; score {label.score:.2f}, confidence {label.confidence:.2f}")

# %%
draw_overlay(result)

# %% [markdown]
# ## Where the image answers each text
#
# The saliency before any mask. The masks of this small model are rough (the README has its DSC). Nothing found is
# an answer, too: with `min_score` a label whose score is lower stays empty.

# %%
figure, axes = plt.subplots(1, 1 + len(words), figsize=(4 * (1 + len(words)), 4), layout="constrained")
axes[0].imshow(np.asarray(result.view.grey[0]), cmap="gray")
axes[0].set_title(Path(picture).name)
for axis, label in zip(axes[1:], result.labels, strict=True):
    axis.imshow(np.asarray(result.view.grey[0]), cmap="gray")
    axis.imshow(result.view_saliency(label.label)[0], cmap="magma", alpha=0.6, vmin=0, vmax=1)
    axis.contour(result.view_labels[0] == label.label, levels=[0.5], colors="cyan", linewidths=1)
    axis.set_title(label.text)
for axis in axes:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## What was written
#
# On the input's own grid: a volume's label map has the volume's geometry, a DICOM series gets a DICOM segmentation
# as well.

# %%
print(*sorted(path.name for path in result.folder.iterdir()), sep="\n")

# %% [markdown]
# ## With a released model
#
# ```python
# medzeroseg.segment("scan.nii.gz", ["liver", "spleen"], model="local-dir:/models/BiomedCLIP", modality="abdominal CT")
# ```
#
# and from the command line `medzeroseg segment scan.nii.gz --text liver --text spleen --model
# local-dir:/models/BiomedCLIP --output out`.
