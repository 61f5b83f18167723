from __future__ import annotations

import signal
import threading

import pytest

from wholescene.train.interrupt import StopRequest


def test_first_signal_is_a_flag_and_the_second_interrupts() -> None:
    stop, before = StopRequest(), signal.getsignal(signal.SIGINT)
    stop.listen()
    try:
        assert not stop.is_set
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        stop.release()
    assert signal.getsignal(signal.SIGINT) is before


def test_repeated_termination_stays_a_flag() -> None:
    stop = StopRequest()
    stop.listen()
    try:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        stop.release()
    assert stop.is_set


def test_other_threads_leave_the_signals_alone() -> None:
    before, stop = signal.getsignal(signal.SIGINT), StopRequest()
    thread = threading.Thread(target=stop.listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
