"""Which page of the KV cache belongs to whom. Pure: page numbers and hashes, no tensors.

A page holds the keys and values of a fixed number of consecutive tokens. A full page of committed tokens is
*published* under a digest of those tokens and all before them; whoever has the same beginning shares it instead of
computing it. A published page that nobody holds any more is kept until its memory is wanted, least recently
used first.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256

from draftpool.errors import NoCapacity

Digest = bytes

NO_TOKENS: Digest = b""
"""The digest in front of the first page."""


def page_digest(before: Digest, token_ids: Sequence[int]) -> Digest:
    """The digest of a full page: of its tokens and, through `before`, of all earlier ones."""
    return sha256(before + array("I", token_ids).tobytes()).digest()


class PagePool:
    """The pages of one KV cache, each free, held by one or more sessions, or kept for its content.

    Attributes:
        num_pages: all there are.
        page_tokens: P, how many tokens a page holds.
    """

    def __init__(self, num_pages: int, page_tokens: int) -> None:
        self.num_pages = num_pages
        self.page_tokens = page_tokens
        # A stack: pages given back last are in the processor's cache and are taken first.
        self._blank = list(reversed(range(num_pages)))
        self._num_holders = [0] * num_pages
        self._page_of: dict[Digest, int] = {}
        self._digest_of: dict[int, Digest] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Pages that can be taken, those kept for their content included."""
        return len(self._blank) + len(self._kept)

    @property
    def num_kept(self) -> int:
        """Pages that nobody holds, kept for their content."""
        return len(self._kept)

    @property
    def num_held(self) -> int:
        return self.num_pages - self.num_free

    def num_holders(self, page: int) -> int:
        return self._num_holders[page]

    def pages_for(self, num_tokens: int) -> int:
        """How many pages so many tokens take."""
        return -(-num_tokens // self.page_tokens)

    def take(self, num_pages: int) -> list[int]:
        """Pages for the caller alone, with whatever is left in them.

        Raises:
            NoCapacity: fewer are free; none is taken then.
        """
        if num_pages > self.num_free:
            raise NoCapacity(f"{num_pages} more pages of KV cache are wanted, {self.num_free} are free")
        taken = [self._blank.pop() if self._blank else self._forget_oldest() for _ in range(num_pages)]
        for page in taken:
            self._num_holders[page] = 1
        return taken

    def share(self, digest: Digest) -> int | None:
        """The page published under a digest, if there is one; the caller then holds it too."""
        page = self._page_of.get(digest)
        if page is not None:
            self._kept.pop(page, None)
            self._num_holders[page] += 1
        return page

    def publish(self, page: int, digest: Digest) -> int:
        """Let others share a full page that the caller holds and will not write to again.

        Returns:
            The page to hold from now on: another one where its content had been published already; the caller's is
            free then.
        """
        published = self._page_of.setdefault(digest, page)
        if published == page:
            self._digest_of[page] = digest
            return page
        self.share(digest)
        self.release([page])
        return published

    def release(self, pages: Sequence[int]) -> None:
        """Give pages back, in the order of their tokens; the caller held them.

        Raises:
            RuntimeError: nobody holds one of them.
        """
        for page in reversed(pages):  # the end of a text is forgotten before its beginning
            if self._num_holders[page] == 0:
                raise RuntimeError(f"page {page} came back, but nobody held it")
            self._num_holders[page] -= 1
            if self._num_holders[page] == 0:
                if page in self._digest_of:
                    self._kept[page] = None
                else:
                    self._blank.append(page)

    def check_integrity(self, held: Iterable[Sequence[int]]) -> None:
        """Check that every page is blank, kept, or held by exactly those who say so.

        Args:
            held: the pages of every session.

        Raises:
            RuntimeError: a page leaked, is counted wrongly, or stands in two places.
        """
        num_holders = [0] * self.num_pages
        for pages in held:
            for page in pages:
                num_holders[page] += 1
        if num_holders != self._num_holders:
            wrong = [page for page, count in enumerate(num_holders) if count != self._num_holders[page]]
            raise RuntimeError(f"pages {wrong} are not held by as many sessions as they are counted for")
        unheld = [page for page, count in enumerate(num_holders) if count == 0]
        if sorted([*self._blank, *self._kept]) != unheld:
            raise RuntimeError(f"pages {unheld} are held by nobody, {self._blank} are blank and {[*self._kept]} kept")
        if {page: digest for digest, page in self._page_of.items()} != self._digest_of:
            raise RuntimeError("pages and digests do not point at each other")
        if not self._kept.keys() <= self._digest_of.keys() or self._digest_of.keys() & set(self._blank):
            raise RuntimeError("a blank page is published, or a kept one is not")

    def _forget_oldest(self) -> int:
        page, _ = self._kept.popitem(last=False)
        del self._page_of[self._digest_of.pop(page)]
        return page
