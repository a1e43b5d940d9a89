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
# # 5. Compare saliency methods
#
# One model, one picture of each kind, every method: the maps side by side, whether they point at the structure
# (pixel AUC: 0.5 is chance, below it the map points away), and what they cost. The model is that of `make train
# EXP=phantom_cehnc` where it has been trained, else one trained here in about a minute. The reference masks are
# only used to score.

# %% tags=["parameters"]
SMALL = False  # fewer methods, one picture, a model of two steps; for the tests

# %%
import json
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from setting import DATA, at_root, trained_model

from data_modules import PhantomROCODataModule
from medzeroseg import saliency
from medzeroseg.inference.loading import load_model
from medzeroseg.metrics import pixel_auc
from medzeroseg.prompts import PromptLibrary, embed_prompts
from medzeroseg.zero_shot import MeanOfPrompts, PresenceOfPrompts, scale_over_case

at_root()
model = load_model(trained_model(SMALL)).model
library = PromptLibrary.load()

# %% [markdown]
# ## Pictures and what to ask for
#
# From the phantom's test split, where the truth is known.

# %%
data = PhantomROCODataModule(DATA / "phantom_40", train=40, validation=20, test=24)
data.prepare_data()
data.setup("test")
truth = json.loads((data.root / "ground_truth/test/structures.json").read_text())
ASKED = {
    "cardiac_mri": ("cardiac MRI", "left ventricle"),
    "abdomen_ct": ("abdominal CT", "liver"),
    "chest_xray": ("chest X-ray", "left lung"),
}
pictures = {}
for record in data.datasets["test"].records:
    anatomy = truth["items"][record.case_id]["modality"]
    parts = truth["structures"][anatomy].values()
    ids = [one["index"] for one in parts if ASKED[anatomy][1] in (one["name"], one["part_of"])]
    mask = np.isin(np.asarray(Image.open(data.root / f"ground_truth/test/masks/{record.case_id}.png")), ids)
    if anatomy not in pictures and mask.sum() > 100:
        pictures[anatomy] = (record.source.read().convert("RGB"), torch.from_numpy(mask))
pictures = dict(list(pictures.items())[: 1 if SMALL else 3])

# %% [markdown]
# ## Every method
#
# Calibrated as in Table 2: what the maps of all prompts have in common is taken away.

# %%
METHODS = [saliency.PatchTextSimilarity(), saliency.GradCAM(), saliency.LayerCAM(), saliency.GradCAMPlusPlus()]
if not SMALL:
    METHODS += [saliency.GScoreCAM(), saliency.M2IB()]
if model.patch_tower is not None:
    METHODS.insert(0, saliency.PatchTextEvidence())

rows = []
for anatomy, (picture, mask) in pictures.items():
    modality, structure = ASKED[anatomy]
    names = [structure, *library.compared([structure], modality)]
    texts = embed_prompts(model, [library.prompt(name, modality) for name in names])
    image = model.image_transform()(picture)[None]
    for method in METHODS:
        begin = perf_counter()
        raw = method(model, image, texts, keys=[anatomy]).maps
        seconds = perf_counter() - begin
        calibration = PresenceOfPrompts() if isinstance(method, saliency.PatchTextEvidence) else MeanOfPrompts()
        found = saliency.resize_maps(scale_over_case(calibration(raw, 1)), mask.shape)[0]
        rows.append((anatomy, method.title, found[0], pixel_auc(found, mask[None])[0].item(), seconds))

# %%
grid = (len(pictures), 1 + len(METHODS))
figure, axes = plt.subplots(*grid, figsize=(2 * grid[1], 2.5 * grid[0]), layout="constrained", squeeze=False)
for line, (anatomy, (picture, mask)) in zip(axes, pictures.items(), strict=True):
    line[0].imshow(picture)
    line[0].contour(mask, levels=[0.5], colors="cyan", linewidths=1)
    line[0].set_title(ASKED[anatomy][1], fontsize="small")
    for axis, (_, title, found, auc, _) in zip(line[1:], [row for row in rows if row[0] == anatomy], strict=True):
        axis.imshow(found, cmap="magma", vmin=0, vmax=1)
        axis.contour(mask, levels=[0.5], colors="cyan", linewidths=1)
        axis.set_title(f"{title}\nAUC {auc:.2f}", fontsize="x-small")
    for axis in line:
        axis.axis("off")
plt.show()

# %% [markdown]
# ## Cost
#
# For one picture and all its prompts, on this machine. Methods with a pass for each mask or step pay for each prompt.

# %%
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
titles = [method.title for method in METHODS]
axis.barh(titles, [np.median([row[4] for row in rows if row[1] == title]) for title in titles])
axis.set(xscale="log", xlabel="seconds")
plt.show()
