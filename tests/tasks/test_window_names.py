import torch

from medzeroseg.losses.presence import ABSENT, SHOWN, UNSAID
from medzeroseg.prompts import PromptLibrary
from medzeroseg.tasks.window_names import name_targets, word_names


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
