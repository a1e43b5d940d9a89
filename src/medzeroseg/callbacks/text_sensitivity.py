"""Reports, for every zero-shot run, whether its maps and scores answer the text."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from medzeroseg.callbacks.case_observer import CaseObserver
from medzeroseg.metrics.text_sensitivity import OTHERS, TextSensitivityMetric
from medzeroseg.prompts import ANY_MODALITY, PromptLibrary, embed_prompts
from medzeroseg.saliency import PatchTextEvidence
from medzeroseg.tables.writer import Table, write_table

NONSENSE = ("purple bicycle", "wooden chair", "railway station")


class TextSensitivity(CaseObserver):
    """Leaves `text_sensitivity.{md,csv,tex,json}` in the run's folder and logs what they say.

    `test/<method>/prompt_correlation`, one for each saliency, under the first method that has it: mean correlation,
    over slices, between the raw maps of the structures' prompts (with one structure alone: also of the prompts for
    comparison). `test/above_nonsense`: how often, in percent, an image's score for a structure that it shows exceeds
    its score for a nonsense prompt in the same templates. `test/above_foreign`: the same, for structures that the file
    of prompts names for other modalities and not for this one; some of them may be in a picture all the same.
    `test/above_absent`: for structures asked for that this slice lacks.

    The score is the method's own where a method has one: the probability that some place shows what the text names
    (`PatchTextEvidence`). Else it is the cosine of image and text, which no training asks to be low for nonsense.
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
        self._evidence: PatchTextEvidence | None = None

    def on_cases_start(self, task: Any) -> None:  # noqa: ANN401
        """Embed the nonsense and the foreign structures, in the sentences that the structures get."""
        modality = task.trainer.datamodule.modality
        others = [*self.nonsense, *foreign_structures(task.library, modality, list(task.structures))]
        self._embeddings = embed_prompts(task.model, [task.library.prompt(words, modality) for words in others])
        shared = task.methods.shared_saliency()
        of_methods = (task.methods[name].saliency for name in shared)
        self._evidence = next((one for one in of_methods if isinstance(one, PatchTextEvidence)), None)
        self.metric = TextSensitivityMetric(len(shared)).to(task.device)

    def on_maps(self, task: Any, batch: Mapping[str, Any], maps: Mapping[str, Tensor]) -> None:  # noqa: ANN401
        """Add a batch."""
        asked = len(task.structures)
        for n, found in enumerate(maps.values()):
            compared = found[:, :asked] if asked > 1 else found
            if compared.shape[1] > 1:
                self.metric.update(n, compared)
        images, texts = batch["image"], torch.cat([task.text_embeddings[:asked], self._embeddings])
        if self._evidence is None:
            scores = task.model.encode_image(images) @ texts.T
        else:
            scores = self._evidence(task.model, images, texts, keys=[str(n) for n in range(len(images))]).scores
        present = torch.stack([shown(mask, task.structures) for mask in batch["native_mask"]]).to(scores.device)
        own, nonsense, foreign = scores.tensor_split((asked, asked + len(self.nonsense)), dim=1)
        self.metric.add_scores(own, present, nonsense, foreign)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather over the ranks and log."""
        task: Any = pl_module
        self.figures = {name: value.cpu() for name, value in self.metric.compute().items()}
        of_method = zip(task.methods.shared_saliency(), self.figures["correlation"].reshape(-1), strict=True)
        logged = {
            f"test/{name}/prompt_correlation": float(value) for name, value in of_method if not torch.isnan(value)
        }
        for name, share in zip(OTHERS, self.figures["above"].tolist(), strict=True):
            if not math.isnan(share):
                logged[f"test/above_{name}"] = 100 * share
        # Every rank holds the same synchronised values: no second reduction.
        pl_module.log_dict(logged, rank_zero_only=False)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        task: Any = pl_module
        titles = {name: task.methods[name].saliency.title for name in task.methods.shared_saliency()}
        score = "cosine of image and text" if self._evidence is None else "probability that some place shows it"
        table = build_table(titles, self.figures, self.nonsense, score)
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


def foreign_structures(library: PromptLibrary, modality: str, asked: Sequence[str]) -> list[str]:
    """What the file of prompts names for other modalities, and neither for this one, nor for any, nor the data set.

    Args:
        library: Its `neighbours` say what lies in pictures of each modality.
        modality: That of the images.
        asked: The structures asked for.
    """
    anywhere = library.neighbours.get(ANY_MODALITY, ())
    own = {name.casefold() for name in (*asked, *library.compared(asked, modality), *anywhere)}
    others = [names for other, names in library.neighbours.items() if other not in (modality, ANY_MODALITY)]
    found = {name.casefold(): name for names in others for name in names}
    return [name for key, name in found.items() if key not in own]


def build_table(titles: Mapping[str, str], figures: Mapping[str, Tensor], nonsense: Sequence[str], score: str) -> Table:
    """Lay out the figures.

    Args:
        titles: Key of each method to its title, in the metric's order.
        figures: As `TextSensitivityMetric.compute` returns them.
        nonsense: The nonsense prompts.
        score: What the scores are.

    Returns:
        A row for each method.
    """
    of_model: dict[str, float | None] = {}
    contests = []
    titles_of_others = ("a nonsense prompt", "a structure of another modality", "a structure that it lacks")
    for n, (name, title) in enumerate(zip(OTHERS, titles_of_others, strict=True)):
        above, pairs, own, other = (float(figures[key][n]) for key in ("above", "pairs", "score", "other_score"))
        scored = pairs > 0
        of_model[f"pairs_{name}"] = pairs
        for key, value in ((f"above_{name}", above), (f"own_score_{name}", own), (f"{name}_score", other)):
            of_model[key] = value if scored else None
        contests.append(
            f"above {title} in {100 * above:.1f} % of {pairs:.0f} pairs (mean {own:.3f} against {other:.3f})"
            if scored
            else f"above {title}: no pairs"
        )
    table = Table(
        name="text_sensitivity",
        caption="Do maps and scores answer the text?",
        columns=["Saliency", "Correlation between prompts", "Slices"],
        rows=[],
        notes=[
            "Correlation between prompts: Pearson's, between the raw maps of different structures on the same slice, "
            "mean over slices. 1: the map ignores the text.",
            f"Scores ({score}): a structure that the slice shows is {'; '.join(contests)}.",
            f"Nonsense prompts, in the same templates: {', '.join(nonsense)}.",
        ],
    )
    # torchmetrics makes scalars of vectors of one
    of_method = zip(figures["correlation"].reshape(-1).tolist(), figures["slices"].reshape(-1).tolist(), strict=True)
    for (name, title), (correlation, slices) in zip(titles.items(), of_method, strict=True):
        table.rows.append([title, f"{correlation:.3f}" if slices else "-", f"{slices:.0f}"])
        values = {"method": name, "correlation": correlation if slices else None, "slices": int(slices)}
        table.values.append(values | of_model)
    return table
