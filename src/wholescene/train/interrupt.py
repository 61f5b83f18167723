"""Ctrl-C and termination: finish the step, save, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag that the training loop looks at.

    A second SIGINT interrupts at once. Signals are only taken in the main thread, the only one
    that may; elsewhere the flag stays down and the handlers of the caller stay in place.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take over the signals until :meth:`release`."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True
