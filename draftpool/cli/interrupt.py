"""Ctrl-C and other requests to end, turned into cancellation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_interrupted(
    work: Coroutine[None, None, None], *, on_first_signal: Callable[[], None], on_second_signal: Callable[[], None]
) -> bool:
    """Run `work` until it ends or a signal cancels it; its own clean-up is waited for.

    Args:
        on_first_signal: says that the clean-up begins.
        on_second_signal: for a person who does not want to wait for the clean-up.

    Returns:
        Whether a signal ended it.
    """
    task = asyncio.create_task(work)
    was_interrupted = False

    def interrupt() -> None:
        nonlocal was_interrupted
        if was_interrupted:
            on_second_signal()
        else:
            was_interrupted = True
            on_first_signal()
            task.cancel()

    loop = asyncio.get_running_loop()
    for signal_number in _SIGNALS:
        loop.add_signal_handler(signal_number, interrupt)
    try:
        await asyncio.wait([task])
    finally:
        for signal_number in _SIGNALS:
            loop.remove_signal_handler(signal_number)
    if not task.cancelled():
        task.result()
    return was_interrupted
