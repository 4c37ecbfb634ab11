"""`python -m draftpool.cli.redis_child redis-server ...`: becomes that command, and ends with whoever started it.

A redis-server knows nothing of its parent. So a small process stays behind it, waits for standard input to close, and
kills it then, if it is still there.
"""

from __future__ import annotations

import os
import signal
import sys

from draftpool.cli.parent import wait_for_hangup


def main() -> None:
    server = os.getpid()
    if os.fork() == 0:
        wait_for_hangup(sys.stdin.fileno())
        if os.getppid() == server:  # else it has ended, and its number may be another's
            os.kill(server, signal.SIGKILL)  # nothing of it is kept, and a stopped one would not hear anything milder
        os._exit(0)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
