import pickle

from torch.utils.data import DataLoader, Dataset

from medzeroseg.imaging import InputError
from tests.helpers.loading import error_of

MESSAGE = "case 7: /data/a b.png: the picture is damaged\nfetch it again: now"


class Failing(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        try:
            raise InputError("the cause, not the message")
        except InputError as error:
            raise InputError(MESSAGE) from error


def test_message_of_a_worker_process_reaches_the_user_unchanged():
    assert error_of(DataLoader(Failing(), num_workers=1)) == MESSAGE


def test_message_without_workers_is_the_same():
    assert error_of(DataLoader(Failing())) == MESSAGE


def test_survives_pickling():
    assert str(pickle.loads(pickle.dumps(InputError(MESSAGE)))) == MESSAGE


def test_a_message_that_quotes_a_traceback_is_kept():
    text = "Caught in the act.\nmedzeroseg.imaging.errors.InputError: x"
    assert str(InputError(text)) == text
