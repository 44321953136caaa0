"""The first signal asks, the second ends at once; afterwards everything is as before."""

import os
import signal
import threading

import pytest

from mmtune.study.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_signals() as interrupted:
        assert not interrupted.is_set()
        os.kill(os.getpid(), number)
        assert interrupted.wait(5)
        os.kill(os.getpid(), number)
        threading.Event().wait(5)
    assert signal.getsignal(number) == before


def test_the_first_ends_at_once_where_there_is_nothing_to_wait_for():
    with pytest.raises(KeyboardInterrupt), stop_signals(waits=lambda: False) as interrupted:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)
    assert interrupted.is_set()


def test_outside_the_main_thread_signals_stay_as_they_are():
    before, found = signal.getsignal(signal.SIGINT), []

    def run():
        with stop_signals() as interrupted:
            found.append((interrupted.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, before)]
