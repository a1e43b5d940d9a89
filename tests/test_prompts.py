"""Prompts: templates, synonyms, and the ensemble's embedding."""

from pathlib import Path

import pytest
import torch

from medzeroseg.imaging import InputError
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import Prompt, PromptLibrary, cut_texts, embed_prompts


def test_every_word_goes_into_every_template() -> None:
    library = PromptLibrary({"any": ["{}"], "CT": ["{}", "CT of the {}"]}, {"liver": ["hepatic tissue"]})
    texts = ("liver", "CT of the liver", "hepatic tissue", "CT of the hepatic tissue")
    assert library.prompt("liver", "CT").texts == texts
    assert library.prompt("spleen", "ultrasound").texts == ("spleen",)


def test_the_shipped_prompts_name_every_structure_of_the_datasets() -> None:
    library = PromptLibrary.load()
    assert {"left ventricle", "lungs", "infection", "left adrenal gland"} <= set(library.structures)
    assert not library.reveals_ground_truth
    assert list(library.projections) == ["chest X-ray"]
    for modality in ("cardiac MRI", "abdominal CT", "chest X-ray"):
        assert len(library.prompt("liver", modality).texts) > 3


def test_neighbours_are_those_of_the_modality_less_what_is_asked() -> None:
    library = PromptLibrary({"any": ["{}"]}, neighbours={"any": ["heart"], "CT": ["liver", "spleen"]})
    assert library.compared(["Liver"], "CT") == ["spleen"]
    assert library.compared([], "ultrasound") == ["heart"]
    assert library.compared(["liver"], "CT", ["liver", "aorta"]) == ["aorta"]
    assert library.compared(["liver"], "CT", []) == []
    assert "lungs" in PromptLibrary.load().compared(["left ventricle"], "cardiac MRI")


def test_embedding_is_the_normalised_mean_of_the_sentences() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small").eval()
    prompts = [Prompt("liver", ("the liver", "a liver")), Prompt("spleen", ("the spleen",))]
    embedded = embed_prompts(model, prompts)
    with torch.no_grad():
        single = model.encode_text(model.tokenizer(["the liver", "a liver", "the spleen"]))
    expected = torch.stack([single[:2].mean(0), single[2]])
    torch.testing.assert_close(embedded, expected / expected.norm(dim=1, keepdim=True))
    assert not embedded.requires_grad


def test_a_text_that_would_be_cut_is_found() -> None:
    model = ImageTextModel("small")
    long = "liver " * 500
    assert cut_texts(model, [Prompt("liver", ("liver", long))]) == [long]


@pytest.mark.parametrize("texts", [(), ("",), ("liver", "  ")])
def test_a_prompt_without_words_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="needs words"):
        Prompt("liver", texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("templates: {any: ['no place']}", "needs one {}"),
        ("templates: {CT: ['{}']}", "'any' is missing"),
        ("templates: [a]", "lists of texts"),
        ("templates: {any: ['{}']}\nstructures: {liver: [1]}", "must be text"),
        ("templates: {any: ['{}']}\nsynonyms: {}", "unknown key 'synonyms'"),
        ("{", "no valid YAML"),
        ("- a", "keys templates"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"prompts\.yaml") as raised:
        PromptLibrary.load(path)
    assert message in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml"):
        PromptLibrary.load(tmp_path / "absent.yaml")
