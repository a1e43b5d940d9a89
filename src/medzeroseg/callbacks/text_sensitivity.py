"""Reports, for every zero-shot run, whether its maps and scores answer the text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from medzeroseg.callbacks.zero_shot_observer import ZeroShotObserver
from medzeroseg.metrics.text_sensitivity import TextSensitivityMetric
from medzeroseg.prompts import embed_prompts
from medzeroseg.tables.writer import Table, write_table

NONSENSE = ("purple bicycle", "wooden chair", "railway station")


class TextSensitivity(ZeroShotObserver):
    """Leaves `text_sensitivity.{md,csv,tex,json}` in the run's folder and logs what they say.

    `test/<method>/prompt_correlation`, one for each saliency, under the first method that has it: mean correlation,
    over slices, between the raw maps of the structures' prompts (with one structure alone: also of the prompts for
    comparison). `test/above_nonsense`: how often, in percent, an image's score for a structure that it shows exceeds
    its score for a nonsense prompt in the same templates.
    References only tell which structures a slice shows; nothing is chosen by them.

    Args:
        nonsense: What no image shows.

    Raises:
        ValueError: There is no nonsense prompt.
    """

    def __init__(self, nonsense: Sequence[str] = NONSENSE) -> None:
        if not nonsense:
            raise ValueError("nonsense: give at least one prompt of what no image shows")
        self.nonsense = tuple(nonsense)
        self.metric = TextSensitivityMetric(0)
        self.figures: dict[str, Tensor] = {}
        self._embeddings = torch.empty(0)

    def on_zero_shot_start(self, task: Any) -> None:  # noqa: ANN401
        """Embed the nonsense, in the sentences that the structures get."""
        modality = task.trainer.datamodule.modality
        self._embeddings = embed_prompts(task.model, [task.library.prompt(words, modality) for words in self.nonsense])
        self.metric = TextSensitivityMetric(len(task.methods.shared_saliency())).to(task.device)

    def on_maps(self, task: Any, batch: Mapping[str, Any], maps: Mapping[str, Tensor]) -> None:  # noqa: ANN401
        """Add a batch."""
        asked = len(task.structures)
        for n, found in enumerate(maps.values()):
            compared = found[:, :asked] if asked > 1 else found
            if compared.shape[1] > 1:
                self.metric.update(n, compared)
        images = task.model.encode_image(batch["image"])
        scores = images @ task.text_embeddings[:asked].T
        present = torch.stack([shown(mask, task.structures) for mask in batch["native_mask"]]).to(scores.device)
        self.metric.add_scores(scores, present, images @ self._embeddings.T)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the ranks and log."""
        task: Any = pl_module
        self.figures = {name: value.cpu() for name, value in self.metric.compute().items()}
        of_method = zip(task.methods.shared_saliency(), self.figures["correlation"].reshape(-1), strict=True)
        logged = {
            f"test/{name}/prompt_correlation": float(value) for name, value in of_method if not torch.isnan(value)
        }
        if self.figures["pairs"] > 0:
            logged["test/above_nonsense"] = 100 * float(self.figures["above_nonsense"])
        # Every rank holds the same synchronised values: no second reduction.
        pl_module.log_dict(logged, rank_zero_only=False)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        task: Any = pl_module
        titles = {name: task.methods[name].saliency.title for name in task.methods.shared_saliency()}
        table = build_table(titles, self.figures, self.nonsense)
        write_table(table, Path(trainer.default_root_dir))


def shown(mask: Tensor, structures: Mapping[str, Sequence[int]]) -> Tensor:
    """Which structures a slice shows.

    Args:
        mask: (H, W) label ids.
        structures: Structure -> the label ids whose union it is.

    Returns:
        (P,) bool.
    """
    return torch.stack([torch.isin(mask, torch.tensor(parts).to(mask)).any() for parts in structures.values()])


def build_table(titles: Mapping[str, str], figures: Mapping[str, Tensor], nonsense: Sequence[str]) -> Table:
    """Lay out the figures.

    Args:
        titles: Key of each method to its title, in the metric's order.
        figures: As `TextSensitivityMetric.compute` returns them.
        nonsense: The nonsense prompts.

    Returns:
        A row for each method.
    """
    of_model = {name: float(figures[name]) for name in ("above_nonsense", "pairs", "score", "nonsense_score")}
    scored = of_model["pairs"] > 0
    table = Table(
        name="text_sensitivity",
        caption="Do maps and scores answer the text?",
        columns=["Saliency", "Correlation between prompts", "Slices"],
        rows=[],
        notes=[
            "Correlation between prompts: Pearson's, between the raw maps of different structures on the same slice, "
            "mean over slices. 1: the map ignores the text.",
            f"Scores of image and text: a structure that the slice shows is above a nonsense prompt in "
            f"{100 * of_model['above_nonsense']:.1f} % of {of_model['pairs']:.0f} pairs; mean cosine "
            f"{of_model['score']:.3f} against {of_model['nonsense_score']:.3f}."
            if scored
            else "No slice shows a structure: scores were not compared.",
            f"Nonsense prompts, in the same templates: {', '.join(nonsense)}.",
        ],
    )
    # torchmetrics makes scalars of vectors of one
    of_method = zip(figures["correlation"].reshape(-1).tolist(), figures["slices"].reshape(-1).tolist(), strict=True)
    for (name, title), (correlation, slices) in zip(titles.items(), of_method, strict=True):
        table.rows.append([title, f"{correlation:.3f}" if slices else "-", f"{slices:.0f}"])
        values = {"method": name, "correlation": correlation if slices else None, "slices": int(slices)}
        table.values.append(values | {key: value if scored else None for key, value in of_model.items()})
    return table
