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
# # 1. Losses and hard negatives, seen
#
# What CEHNC's λ and the hard fraction do to the negatives of an anchor, and how the five losses of the family share
# the gradient among them. Embeddings are drawn, not learned: no data and no model is needed. The formulas are in
# `docs/concepts/losses.md`.

# %% tags=["parameters"]
SMALL = False  # fewer and smaller batches, for the tests

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from medzeroseg.losses import CEHNCLoss, DCLLoss, DHNNCELoss, HNNCELoss, InfoNCELoss

torch.manual_seed(0)
PAIRS, STEPS = (32, 20) if SMALL else (256, 200)
SCALE = 5.0  # logit scale, 1 / temperature; as of a model early in its training


# %% [markdown]
# ## A batch
#
# Pairs in a few groups: within a group texts resemble each other, as captions of one kind of picture do. So each
# image has some hard negatives and many easy ones.


# %%
def batch(pairs: int, groups: int = 8, dim: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit image and text embeddings, (pairs, dim) each."""
    centres = torch.randn(groups, dim)[torch.arange(pairs) % groups]
    meaning = centres + 0.8 * torch.randn(pairs, dim)
    images, texts = (meaning + 0.7 * torch.randn(pairs, dim) for _ in range(2))
    return torch.nn.functional.normalize(images, dim=1), torch.nn.functional.normalize(texts, dim=1)


images, texts = batch(PAIRS)
similarity = images @ texts.T
negatives = similarity[~torch.eye(PAIRS, dtype=torch.bool)]

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
order = np.argsort(np.arange(PAIRS) % 8, kind="stable")
shown = left.imshow(similarity[order][:, order], cmap="viridis")
left.set(title="similarity of images and texts, by group", xlabel="text", ylabel="image")
figure.colorbar(shown, ax=left)
right.hist(negatives, bins=60, density=True, alpha=0.7, label="negatives")
right.hist(similarity.diagonal(), bins=20, density=True, alpha=0.7, label="positives")
right.set(title="how similar they are", xlabel="cosine", ylabel="density")
right.legend()
plt.show()

# %% [markdown]
# ## What λ does
#
# CEHNC weighs a negative by `exp(-λ d)`, `d` being the distance (squared by default). Far negatives lose weight,
# near ones keep it. So a larger λ makes the effective number of negatives smaller: `(Σp)² / Σp²`, which is 1 where
# one negative carries everything and M - 1 where all count alike.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
cosine = torch.linspace(-1, 1, 200)
for strength in (0.0, 0.25, 1.0, 4.0):
    left.plot(cosine, torch.exp(-strength * (2 - 2 * cosine)), label=f"λ = {strength:g}")
left.set(title="weight of a negative (squared distance)", xlabel="cosine of anchor and negative", ylabel="weight")
left.legend()

strengths = np.linspace(0, 8, 17)
for fraction in (1.0, 0.5, 0.1):
    effective = []
    for strength in strengths:
        loss = CEHNCLoss(strength, strength, hard_fraction=fraction)
        loss(images, texts, SCALE)
        effective.append(loss.diagnostics()["effective_negatives"].item())
    right.plot(strengths, effective, label=f"hard fraction {fraction:g}")
right.set(title=f"effective negatives of {PAIRS - 1}", xlabel="λ", ylabel="effective negatives", yscale="log")
right.legend()
plt.show()

# %% [markdown]
# ## Where the gradient goes
#
# How hard each loss pushes a text away from an image, by how similar the two are. The push is the derivative of the
# loss by their similarity; here as a share of the push on all negatives. Steeper means that hard negatives get more
# of it.

# %%
family = {
    "InfoNCE": InfoNCELoss(),
    "DCL": DCLLoss(),
    "HN-NCE": HNNCELoss(),
    "DHN-NCE (τ = 0.6)": DHNNCELoss(),
    "CEHNC λ = 1": CEHNCLoss(),
    "CEHNC λ = 1, hardest 10 %": CEHNCLoss(hard_fraction=0.1),
}


def push(loss: torch.nn.Module) -> torch.Tensor:
    """Derivative of the loss by each similarity of an image and a text, (pairs, pairs)."""
    # the similarities themselves as "images" against unit axes as "texts": their products are the similarities again
    axes = torch.eye(PAIRS, dtype=torch.float64)
    free = similarity.double().clone().requires_grad_()
    loss(free, axes, SCALE).backward()
    return free.grad


edges = torch.linspace(negatives.min(), negatives.max(), 13)
middles = (edges[1:] + edges[:-1]) / 2
off = ~torch.eye(PAIRS, dtype=torch.bool)
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for name, loss in family.items():
    share = push(loss)[off].clamp(min=0)
    share = share / share.sum()
    bins = torch.bucketize(negatives, edges[1:-1])
    count = torch.bincount(bins, minlength=12).clamp(min=1)
    mean = torch.bincount(bins, share, minlength=12) / count
    axis.plot(middles, mean.clamp(min=1e-9), marker="o", markersize=3, label=name)
axis.set(
    title="mean share of the push, by similarity", xlabel="cosine of image and text", yscale="log", ylim=(1e-8, None)
)
axis.legend(fontsize="small")
plt.show()

# %% [markdown]
# ## The adaptive difficulty
#
# With `lambda_update="adaptive"` a controller moves λ until anchors have the wanted share of effective negatives.
# The share is reached from either side, and λ stays there as long as the embeddings do.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for start in (0.1, 4.0):
    loss = CEHNCLoss(start, start, lambda_update="adaptive", target_effective_fraction=0.1, adaptation_rate=0.2).train()
    course = []
    for _ in range(STEPS):
        z, s = batch(PAIRS)
        loss(z.requires_grad_(), s, SCALE)
        state = loss.diagnostics()
        course.append((state["lambda_image_to_text"].item(), state["effective_negatives"].item() / (PAIRS - 1)))
    left.plot([one[0] for one in course], label=f"starts at {start:g}")
    right.plot([one[1] for one in course], label=f"starts at {start:g}")
left.set(title="λ", xlabel="step", yscale="log")
right.axhline(0.1, color="black", linestyle=":", label="wanted")
right.set(title="effective negatives / (M - 1)", xlabel="step")
left.legend()
right.legend()
plt.show()
