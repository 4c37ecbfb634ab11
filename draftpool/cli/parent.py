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


def _watch_input() -> None:
    poll = select.poll()
    poll.register(sys.stdin.fileno(), 0)  # hang-up is always reported; data is left to whoever reads it
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
