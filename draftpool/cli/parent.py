"""Ending with the process that started this one."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading


def end_with_parent() -> None:
    """Send this process SIGTERM when its standard input closes, from now on.

    It holds while a model loads, too, which may take minutes.
    """
    threading.Thread(target=_watch_input, name="parent-watch", daemon=True).start()


def wait_for_hangup(file_descriptor: int) -> None:
    """Return when the other end has closed; what it writes is left to whoever reads it."""
    poll = select.poll()
    poll.register(file_descriptor, 0)  # hang-up is always reported
    poll.poll()


def _watch_input() -> None:
    wait_for_hangup(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)
