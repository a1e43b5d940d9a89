import pickle

import pytest
import torch

from medzeroseg.models import ImageTextModel, Tokenizer

CAPTIONS = [
    "liver",
    "Axial CT of the liver and the spleen, with contrast.",
    "lung " * 300,
    "",
    "naïve α-β 5 µm\n\ttest",
]


@pytest.fixture(params=["small", "biomedclip"])
def tokenizer(request: pytest.FixtureRequest, model_names: dict[str, str]) -> Tokenizer:
    return ImageTextModel(model_names[request.param]).tokenizer


def test_shape_padding_and_special_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(CAPTIONS)
    assert tokens.shape == (len(CAPTIONS), tokenizer.context_length)
    assert tokens.dtype == torch.long
    assert int(tokens.max()) < tokenizer.vocab_size
    lengths = tokenizer.token_lengths(CAPTIONS).clamp(max=tokenizer.context_length)
    for row, length in zip(tokens, lengths, strict=True):
        assert (row[:length] != tokenizer.pad_id).all()
        assert (row[length:] == tokenizer.pad_id).all()
    assert len({int(row[0]) for row in tokens}) == 1  # every caption has the start token,
    assert len({int(row[n - 1]) for row, n in zip(tokens, lengths, strict=True)}) == 1  # and the end token


def test_lengths_before_truncation(tokenizer: Tokenizer) -> None:
    lengths = tokenizer.token_lengths(CAPTIONS)
    assert lengths[3] == 2
    assert lengths[2] == 302
    assert tokenizer.count_truncated(CAPTIONS) == 1
    assert tokenizer.count_truncated([]) == 0


def test_a_single_string_is_one_caption(tokenizer: Tokenizer) -> None:
    assert torch.equal(tokenizer("liver"), tokenizer(["liver"]))
    assert tokenizer.token_lengths("liver").tolist() == [3]


def test_a_caption_that_comes_again_has_the_same_tokens(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medzeroseg.models.tokenizer._REMEMBERED", 2)  # so that some are forgotten in between
    together = tokenizer(CAPTIONS)
    for order in ([0, 1, 2, 3, 4], [4, 4, 1, 0, 2, 1]):
        assert torch.equal(tokenizer([CAPTIONS[row] for row in order]), together[order])
    tokenizer(["liver"]).zero_()  # what was handed out is not what is remembered
    assert torch.equal(tokenizer(["liver"])[0], together[0])


def test_workers_can_hold_it(tokenizer: Tokenizer) -> None:
    tokens = tokenizer(CAPTIONS)
    copied = pickle.loads(pickle.dumps(tokenizer))
    assert not copied._remembered  # tensors would each take a file descriptor, of which a fork server takes 256
    assert torch.equal(copied(CAPTIONS), tokens)


def test_words_of_the_vocabulary_stay_whole(model_names: dict[str, str]) -> None:
    tokenizer = ImageTextModel(model_names["biomedclip"]).tokenizer
    assert tokenizer.token_lengths(["Liver SPLEEN", "zz"]).tolist() == [4, 4]


def test_bad_arguments_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="backend"):
        Tokenizer(str, 77)
    with pytest.raises(ValueError, match="context_length"):
        Tokenizer(tokenizer._backend, 2)
