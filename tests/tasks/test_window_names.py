import torch

from medzeroseg.losses.presence import ABSENT, SHOWN, UNSAID, PresenceLoss
from medzeroseg.models import ImageTextModel, PatchTower
from medzeroseg.prompts import PromptLibrary, embed_prompts
from medzeroseg.saliency import PatchTextEvidence
from medzeroseg.tasks.window_names import name_targets, unasked_names, unasked_targets, word_names


def test_targets_say_shown_absent_or_nothing_and_keep_kinds_apart() -> None:
    names, targets = name_targets(
        ["CT", "X-ray", "CT"], [("liver", "spleen"), ("liver",), ()], [("kidney",), (), ("liver",)]
    )
    assert names == [("CT", "kidney"), ("CT", "liver"), ("CT", "spleen"), ("X-ray", "liver")]
    expected = [
        [ABSENT, SHOWN, SHOWN, UNSAID],
        [UNSAID, UNSAID, UNSAID, SHOWN],
        [UNSAID, ABSENT, UNSAID, UNSAID],
    ]
    assert torch.equal(targets, torch.tensor(expected, dtype=torch.int8))


def test_words_are_those_of_prompts_and_change_with_the_step() -> None:
    library = PromptLibrary({"any": ["{}"], "CT": ["a {}", "the {}", "CT of the {}"]}, {"liver": ["hepar"]})
    names = [("CT", "liver"), ("MR", "liver")]
    texts = [word_names(names, library, step) for step in range(60)]
    assert texts[7] == word_names(names, library, 7)
    assert {text for text, _ in texts} == set(library.prompt("liver", "CT").texts)
    assert {text for _, text in texts} == {"liver", "hepar"}
    # a name's wording does not depend on the other names of the batch, which differ between ranks
    assert word_names(names[:1], library, 7) == texts[7][:1]


def test_unasked_names_are_made_up_or_of_other_kinds_and_never_what_may_be_there() -> None:
    library = PromptLibrary({"any": ["{}"]}, neighbours={"any": ["heart"], "MR": ["liver"]})
    names = [("CT", "aorta"), ("CT", "liver"), ("CT", "spleen"), ("MR", "descending aorta"), ("MR", "left ventricle")]
    names.append(("X-ray", "heart"))
    found = [unasked_names(names, library, step, count=1) for step in range(40)]
    assert found[7] == unasked_names(names, library, 7, count=1)
    known = {name for _, name in names}
    for kind, expected in (("CT", {"left ventricle"}), ("MR", {"spleen"})):
        of_kind = {name for step in found for of, name in step if of == kind}
        assert of_kind & known == expected
        assert len(of_kind - known) > 30, "made-up names should differ from step to step"
    assert len(unasked_names(names[:1], library, 0, count=2)) == 2  # of one kind alone: made-up names only


def test_unasked_names_are_absent_from_their_kind_alone() -> None:
    targets = unasked_targets(["CT", "MR", "CT"], [("CT", "bofu"), ("MR", "spleen")])
    assert torch.equal(targets, torch.tensor([[ABSENT, UNSAID], [UNSAID, ABSENT], [ABSENT, UNSAID]], dtype=torch.int8))


def test_a_model_trained_with_unasked_names_puts_nonsense_below_what_is_there() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower)
    library = PromptLibrary({"any": ["{}", "an image of the {}"]})
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss = PresenceLoss()
    kinds = ["CT"] * 8
    shows = [("liver",), ("spleen",)] * 4
    names, targets = name_targets(kinds, shows, [("spleen",), ("liver",)] * 4)

    def windows() -> torch.Tensor:
        """Noise with a bright square, the liver, or a dark one, the spleen."""
        pictures = 0.3 * torch.randn(8, 3, 32, 32)
        row, column = torch.randint(0, 16, (2,)).tolist()
        pictures[0::2, :, row : row + 16, column : column + 16] += 3
        pictures[1::2, :, row : row + 16, column : column + 16] -= 3
        return pictures

    for step in range(40):
        unasked = unasked_names(names, library, step, count=3)
        phrases = model.encode_text(model.tokenizer(word_names([*names, *unasked], library, step)))
        value = loss(model.encode_patches(windows()), phrases, torch.cat([targets, unasked_targets(kinds, unasked)], 1))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    model.eval()
    asked = ("liver", "spleen", "purple bicycle", "wooden chair", "railway station")
    texts = embed_prompts(model, [library.prompt(name, "CT") for name in asked])
    scores = PatchTextEvidence()(model, windows(), texts, keys=[str(n) for n in range(8)]).scores
    for column, rows in ((0, slice(0, None, 2)), (1, slice(1, None, 2))):
        assert (scores[rows, column, None] > scores[rows, 2:]).all()
