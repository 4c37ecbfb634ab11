import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from draftpool.errors import NoCapacity
from verifier_service.pages import NO_TOKENS, PagePool, page_digest

NUM_PAGES = 6


class AnyUseOfThePool(RuleBasedStateMachine):
    """Whatever is taken, published, shared and given back, every page is blank, kept, or held by those who say so."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(NUM_PAGES, 4)
        self.held: list[list[int]] = []
        self.content: dict[int, bytes] = {}

    holders = Bundle("holders")

    @rule(target=holders, num_pages=st.integers(0, NUM_PAGES + 1))
    def take(self, num_pages):
        num_free = self.pool.num_free
        try:
            pages = self.pool.take(num_pages)
        except NoCapacity:
            assert num_pages > num_free
            pages = []
        else:
            assert num_pages <= num_free
        assert not set(pages) & {page for others in self.held for page in others}
        self.held.append(pages)
        for page in pages:
            self.content.pop(page, None)
        return pages

    @rule(pages=holders, letter=st.sampled_from("abc"))
    def publish(self, pages, letter):
        if pages and pages[0] not in self.content:
            pages[0] = self.pool.publish(pages[0], letter.encode())
            assert self.content.setdefault(pages[0], letter.encode()) == letter.encode()

    @rule(target=holders, letter=st.sampled_from("abc"))
    def share(self, letter):
        page = self.pool.share(letter.encode())
        assert page is None or self.content[page] == letter.encode()
        self.held.append([] if page is None else [page])
        return self.held[-1]

    @rule(pages=consumes(holders))
    def release(self, pages):
        self.pool.release(pages)
        self.held = [others for others in self.held if others is not pages]

    @invariant()
    def every_page_is_accounted_for(self):
        self.pool.check_integrity(self.held)
        assert self.pool.num_held == len({page for pages in self.held for page in pages})


TestAnyUseOfThePool = AnyUseOfThePool.TestCase


def test_a_refused_request_takes_nothing_and_says_how_much_was_free() -> None:
    pool = PagePool(5, 4)
    pool.take(3)
    with pytest.raises(NoCapacity, match="2 are free"):
        pool.take(3)
    assert pool.num_free == 2


def test_what_nobody_holds_is_kept_until_its_memory_is_wanted_and_the_longest_unused_goes_first() -> None:
    pool = PagePool(3, 4)
    first, second = pool.take(2)
    pool.publish(first, b"first")
    pool.publish(second, b"second")
    pool.release([first])
    pool.release([second])
    assert (pool.num_free, pool.num_kept) == (3, 2)
    pool.take(2)
    assert pool.share(b"first") is None
    assert pool.share(b"second") == second


def test_the_end_of_a_text_is_forgotten_before_its_beginning() -> None:
    pool = PagePool(3, 4)
    pages = pool.take(3)
    for index, page in enumerate(pages):
        pool.publish(page, bytes([index]))
    pool.release(pages)
    pool.take(1)
    assert [pool.share(bytes([index])) for index in range(3)] == [pages[0], pages[1], None]


def test_two_who_computed_the_same_end_up_with_one_page() -> None:
    pool = PagePool(4, 4)
    mine, theirs = pool.take(2)
    assert pool.publish(mine, b"same") == mine
    assert pool.publish(theirs, b"same") == mine
    assert pool.num_holders(mine) == 2
    assert pool.num_free == 3
    pool.check_integrity([[mine], [mine]])


def test_giving_back_twice_is_noticed() -> None:
    pool = PagePool(2, 4)
    pages = pool.take(1)
    pool.release(pages)
    with pytest.raises(RuntimeError, match="nobody held it"):
        pool.release(pages)


def test_a_leak_is_noticed() -> None:
    pool = PagePool(2, 4)
    (page,) = pool.take(1)
    with pytest.raises(RuntimeError, match=rf"pages \[{page}\] are not held"):
        pool.check_integrity([])


def test_a_digest_tells_all_tokens_before_it_apart() -> None:
    assert page_digest(NO_TOKENS, [1, 2]) == page_digest(NO_TOKENS, [1, 2])
    texts = [[[1, 2], [3, 4]], [[1, 3], [3, 4]], [[3, 4]], [[2, 1], [3, 4]], [[1, 2], [4, 3]]]
    digests = set()
    for pages in texts:
        digest = NO_TOKENS
        for page in pages:
            digest = page_digest(digest, page)
        digests.add(digest)
    assert len(digests) == len(texts)
