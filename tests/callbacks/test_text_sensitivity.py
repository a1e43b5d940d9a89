"""What a run reports of its prompts, for a model that reads its text and one that does not."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.callbacks import TextSensitivity
from medzeroseg.callbacks.text_sensitivity import build_table, foreign_structures
from medzeroseg.prompts import PromptLibrary
from medzeroseg.saliency import PatchTextEvidence

WORDS = ("liver", "spleen", "bicycle")


class Toy(nn.Module):
    """Embeds a text by the word in it, and an image by the organ that it shows; deaf: every text is the same."""

    def __init__(self, *, deaf: bool = False) -> None:
        super().__init__()
        self.deaf = deaf
        self.weight = nn.Parameter(torch.ones(()))
        self.tokenizer: Any = lambda texts: torch.tensor([[word in text for word in WORDS] for text in texts])

    def encode_text(self, tokens: Tensor) -> Tensor:
        values = torch.ones(tokens.shape) if self.deaf else tokens.float()
        return F.normalize(values, dim=1)

    def encode_image(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Methods(dict[str, Any]):
    """A table of methods that share nothing."""

    def shared_saliency(self) -> dict[str, list[str]]:
        return {name: [name] for name in self}


class Evidence(PatchTextEvidence):
    """Finds the first prompt everywhere, and nothing else, whatever the cosine says."""

    def __call__(self, model: Any, images: Tensor, text_embeddings: Tensor, *, keys: Any) -> Any:
        scores = torch.zeros(len(images), len(text_embeddings))
        scores[:, 0] = 0.9
        return SimpleNamespace(scores=scores)


def report(*, deaf: bool, saliency: Any = None) -> dict[str, Any]:
    model = Toy(deaf=deaf)
    library = PromptLibrary(
        {"any": ["{}", "a picture of {}"]}, neighbours={"CT": ["Liver"], "MR": ["bicycle", "liver"]}
    )
    texts = model.encode_text(model.tokenizer(["liver", "spleen"]))
    task = SimpleNamespace(
        model=model,
        library=library,
        device=torch.device("cpu"),
        structures={"liver": (1,), "spleen": (2,)},
        methods=Methods(cam=SimpleNamespace(saliency=saliency)),
        text_embeddings=texts,
        trainer=SimpleNamespace(datamodule=SimpleNamespace(modality="CT")),
    )
    # the left half shows the liver, the right half the spleen; the second slice shows the liver alone
    images = torch.zeros(2, 3, 4, 4)
    images[:, 0, :, :2] = 1
    images[0, 1, :, 2:] = 1
    masks = [torch.tensor([[1, 2]]), torch.tensor([[1, 0]])]
    callback = TextSensitivity(nonsense=["bicycle"])
    callback.on_cases_start(task)
    maps = torch.einsum("bchw,pc->bphw", images, texts)
    callback.on_maps(task, {"image": images, "native_mask": masks}, {"cam": maps})
    figures = callback.metric.compute()
    table = build_table({"cam": "CAM"}, figures, ["bicycle"], "cosine")
    return dict(table.values[0]) | {"notes": " ".join(table.notes)}


def test_a_model_that_reads_its_text_is_told_from_one_that_does_not() -> None:
    reading, deaf = report(deaf=False), report(deaf=True)
    assert reading["correlation"] == pytest.approx(-1)
    assert deaf["correlation"] == pytest.approx(1)
    for contest in ("nonsense", "foreign"):  # the other modality's only structure is the bicycle here
        assert (reading[f"above_{contest}"], reading[f"pairs_{contest}"]) == (1, 3)
        assert deaf[f"above_{contest}"] == 0
    assert (reading["above_absent"], reading["pairs_absent"]) == (1, 1)  # the second slice lacks the spleen
    assert deaf["above_absent"] == 0
    assert "above a nonsense prompt in 100.0 % of 3 pairs" in reading["notes"]


def test_a_method_that_gives_probabilities_is_asked_for_them() -> None:
    found = report(deaf=True, saliency=Evidence())
    # the liver, on both slices, is above; the spleen, on one, ties at 0
    assert found["above_nonsense"] == pytest.approx(2 / 3)
    assert found["own_score_nonsense"] == pytest.approx(0.6)
    assert found["nonsense_score"] == 0


def test_foreign_structures_are_those_of_other_modalities_alone() -> None:
    neighbours = {"any": ["heart"], "CT": ["liver"], "X-ray": ["Lungs", "heart", "liver"], "MR": ["scar", "lungs"]}
    library = PromptLibrary({"any": ["{}"]}, neighbours=neighbours)
    assert foreign_structures(library, "CT", ["spleen"]) == ["lungs", "scar"]
    assert foreign_structures(library, "CT", ["lungs"]) == ["scar"]
    assert foreign_structures(library, "ultrasound", []) == ["liver", "lungs", "scar"]


def test_nonsense_must_be_given() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        TextSensitivity(nonsense=[])
