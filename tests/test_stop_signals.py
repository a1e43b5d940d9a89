"""Signals are noted while a training runs, and only then; children keep their own."""

import os
import signal
import threading
import time

import pytest

from medzeroseg import stop_signals
from medzeroseg.errors import StoppedError
from medzeroseg.stop_signals import StopRequest, listening, requested, take_over


def test_signals_are_noted_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with listening():
        take_over()
        assert requested() is StopRequest.NONE
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested() is StopRequest.END
        os.kill(os.getpid(), signal.SIGUSR1)
        assert requested() is StopRequest.REQUEUE
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm sends it next; the job still belongs back in the queue
        assert requested() is StopRequest.REQUEUE
    assert requested() is StopRequest.NONE
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    with listening():
        assert requested() is StopRequest.NONE


def test_before_the_first_step_sigterm_ends_at_once_and_sigusr1_is_kept() -> None:
    with listening():
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(StoppedError, match="before the first step"):
            signal.raise_signal(signal.SIGTERM)
        take_over()
        assert requested() is StopRequest.REQUEUE


def test_the_signals_are_taken_back_from_others() -> None:
    with listening():
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        take_over()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert requested() is StopRequest.REQUEUE
    take_over()  # nobody listens
    assert signal.getsignal(signal.SIGUSR1) is not stop_signals._note


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_forked_reader_dies_of_sigterm_and_does_not_mind_sigusr1(number: signal.Signals) -> None:
    with listening():
        take_over()
        child = os.fork()
        if child == 0:
            time.sleep(1)
            os._exit(3)
        time.sleep(0.2)  # until it runs
        os.kill(child, number)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (-signal.SIGTERM if number == signal.SIGTERM else 3)


def test_a_thread_that_may_not_have_handlers_does_without() -> None:
    seen: list[object] = []

    def run() -> None:
        with listening():
            seen.append(requested())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [StopRequest.NONE]
