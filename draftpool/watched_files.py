"""Files that are read again when they change: certificates, API keys.

Nothing watches in the background: whoever needs the contents asks, and three `stat`s say whether they are still true.
That holds for files that are written over, renamed onto, or swapped by a symbolic link to their folder, as Kubernetes
does with secrets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from draftpool.errors import BadParameter

log = logging.getLogger(__name__)

_NUM_ATTEMPTS = 5

Contents = TypeVar("Contents")
Signature = tuple[tuple[int, int, int, int], ...]


class WatchedFiles(Generic[Contents]):
    """What some files hold together, as of now. Any thread may ask."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], Contents]) -> None:
        """
        Args:
            read: makes the contents from the files; raises BadParameter or OSError where they make no sense.

        Raises:
            BadParameter: the files cannot be used. Later on the last good contents stay in use instead.
        """
        self._paths = tuple(paths)
        self._read = read
        self._lock = threading.Lock()
        self._problem = ""
        try:
            self._signature, self._contents = self._read_settled()
        except OSError as error:
            raise BadParameter(f"cannot read {error.filename}: {error.strerror}") from None

    def current(self) -> Contents:
        """The contents; the same object for as long as the files are the same."""
        with self._lock:
            try:
                if self._sign() != self._signature:
                    self._signature, self._contents = self._read_settled()
                    self._problem = ""
                    log.info("read again: %s", self._names)
            except (BadParameter, OSError) as error:
                self._say_once(str(error))
            return self._contents

    @property
    def _names(self) -> str:
        return ", ".join(map(str, self._paths))

    def _sign(self) -> Signature:
        stats = [path.stat() for path in self._paths]
        return tuple((stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _read_settled(self) -> tuple[Signature, Contents]:
        """Contents that belong together: nothing changed while they were read.

        Raises:
            BadParameter: they make no sense, or do not come to rest.
            OSError: one cannot be read.
        """
        for _ in range(_NUM_ATTEMPTS):
            signature = self._sign()
            contents = self._read()
            if self._sign() == signature:
                return signature, contents
        raise BadParameter(f"{self._names} change all the time")

    def _say_once(self, problem: str) -> None:
        """Once each: what is wrong is found out anew by everyone who asks."""
        if problem != self._problem:
            self._problem = problem
            log.warning("the last good contents of %s stay in use: %s", self._names, problem)
