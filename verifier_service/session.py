"""What one stream owns: its tokens, the pages that hold their keys and values, its last tree. Pure.

A text of n tokens takes the first n slots of the session's pages, in order; the nodes of the tree follow. When nodes
are accepted, their rows are moved up to their places behind the committed tokens, and the rest is written over.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser
from verifier_service.companions import Returns
from verifier_service.pages import NO_TOKENS, Digest, PagePool, page_digest


class Session:
    """The verifier's side of one request.

    Attributes:
        chooser: how its logits become tokens.
        token_ids: all committed tokens.
        num_cached: how many of them, from the first, have their keys and values in `pages`; at least the last one has
            not when a request begins.
        tree: the last one asked for; computed when every committed token is.
        pages: held, in the order of the tokens.
        idle_since: by the engine's clock; None while a request is in progress.
        returns: when it comes again after an answer.
    """

    def __init__(self, chooser: Chooser, pool: PagePool) -> None:
        self.chooser = chooser
        self.token_ids: list[int] = []
        self.num_cached = 0
        self.tree: DraftTree = EMPTY_TREE
        self.pages: list[int] = []
        self.idle_since: float | None = None
        self.returns = Returns()
        self._pool = pool
        self._digests: list[Digest] = []
        self._num_published = 0

    @property
    def num_pending(self) -> int:
        """Committed tokens still to be computed."""
        return len(self.token_ids) - self.num_cached

    @property
    def num_missing_pages(self) -> int:
        """Pages it has to take for its tokens and its tree; negative where it holds more than it needs."""
        return self.num_pages_for(len(self.token_ids) + self.tree.num_nodes) - len(self.pages)

    def num_pages_for(self, num_tokens: int) -> int:
        return self._pool.pages_for(num_tokens)

    def advance(self, committed_token_ids: Sequence[int], tree: DraftTree) -> tuple[list[int], list[int]]:
        """Commit tokens and keep what the last tree had computed of them.

        Tokens that do not follow the last tree are fine. The last committed token is always computed
        anew, for its logits are what the caller wants.

        Args:
            committed_token_ids: at least one.
            tree: to be scored after them.

        Returns:
            Source slots and target slots: rows to be moved before these pages are read or handed on.
        """
        is_computed = self.num_pending == 0
        kept = self.tree.walk(committed_token_ids[:-1]) if is_computed else ()
        first = self.num_cached
        moved = [(first + node, first + depth) for depth, node in enumerate(kept) if node != depth]
        self.token_ids += committed_token_ids
        self.num_cached += len(kept)
        self.tree = tree
        return [self._slot(source) for source, _ in moved], [self._slot(target) for _, target in moved]

    def reuse(self) -> int:
        """Share the pages that others have published of the same text; safe to call again during a long prefill.

        Returns:
            How many tokens less are to be computed.
        """
        before = self.num_cached
        page_tokens = self._pool.page_tokens
        # The last committed token has to be computed whatever others hold.
        while (index := self.num_cached // page_tokens) < (len(self.token_ids) - 1) // page_tokens:
            page = self._pool.share(self._digest(index))
            if page is None:
                break
            if index < len(self.pages):
                self._pool.release([self.pages[index]])
                self.pages[index] = page
            else:
                self.pages.append(page)
            self.num_cached = (index + 1) * page_tokens
            self._num_published = index + 1
        return self.num_cached - before

    def take(self) -> list[int]:
        """Take the missing pages, or give back those beyond the need.

        Returns:
            The pages taken, which hold what their last owner left.

        Raises:
            NoCapacity: fewer are free.
        """
        num_missing = self.num_missing_pages
        if num_missing < 0:
            self._pool.release(self.pages[num_missing:])
            del self.pages[num_missing:]
        taken = self._pool.take(max(0, num_missing))
        self.pages += taken
        return taken

    def publish(self) -> None:
        """Let others share the pages that are full of computed tokens."""
        for index in range(self._num_published, self.num_cached // self._pool.page_tokens):
            self.pages[index] = self._pool.publish(self.pages[index], self._digest(index))
            self._num_published = index + 1

    def suspend(self) -> None:
        """Give every page back and keep the tokens: what is not kept by others is computed anew when it goes on."""
        self._pool.release(self.pages)
        self.pages = []
        self.num_cached = self._num_published = 0

    def close(self) -> None:
        """Give everything back; safe to repeat."""
        self.suspend()
        self.token_ids, self._digests = [], []
        self.tree = EMPTY_TREE

    def _slot(self, index: int) -> int:
        page, offset = divmod(index, self._pool.page_tokens)
        return self.pages[page] * self._pool.page_tokens + offset

    def _digest(self, index: int) -> Digest:
        """Of the page that holds the committed tokens from index * page_tokens on."""
        page_tokens = self._pool.page_tokens
        for full in range(len(self._digests), index + 1):
            token_ids = self.token_ids[full * page_tokens : (full + 1) * page_tokens]
            self._digests.append(page_digest(self._digests[-1] if full else NO_TOKENS, token_ids))
        return self._digests[index]
