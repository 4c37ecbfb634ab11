"""Who was last sent a text's beginning."""

import random

from orchestrator.prefixes import BLOCK_TOKENS, PrefixIndex

ANY = {"a", "b", "old", "new", "newest", "1", "2", "3"}


def text(*blocks: int, rest: int = 0) -> list[int]:
    """Full blocks, each of one repeated token, and some tokens more."""
    return [token for block in blocks for token in [block] * BLOCK_TOKENS] + [0] * rest


def test_the_longest_known_beginning_decides() -> None:
    index: PrefixIndex[str] = PrefixIndex()
    index.record(text(1, 2, 3), "a")
    index.record(text(1, 2, 4, 5), "b")
    assert index.longest_match(text(1, 2, 3, 9), ANY) == "a"
    assert index.longest_match(text(1, 2, 4, 9), ANY) == "b"
    assert index.longest_match(text(1, 2), ANY) == "b"  # both hold it; the last one surely does


def test_the_same_tokens_behind_another_beginning_are_another_text() -> None:
    index: PrefixIndex[str] = PrefixIndex()
    index.record(text(1, 2), "a")
    assert index.longest_match(text(2), ANY) is None
    assert index.longest_match(text(9, 2), ANY) is None


def test_only_full_blocks_count() -> None:
    index: PrefixIndex[str] = PrefixIndex()
    index.record(text(rest=BLOCK_TOKENS - 1), "a")
    index.record(text(1, rest=5), "b")
    assert len(index) == 1
    assert index.longest_match(text(rest=BLOCK_TOKENS - 1), ANY) is None
    assert index.longest_match(text(1, rest=9), ANY) == "b"


def test_of_owners_that_are_out_of_the_question_the_beginnings_are_not_known() -> None:
    index: PrefixIndex[str] = PrefixIndex()
    index.record(text(1, 2), "a")
    index.record(text(1, 2, 3), "b")
    index.record(text(1), "a")
    assert index.longest_match(text(1, 2, 3), {"a", "b"}) == "b"
    assert index.longest_match(text(1, 2, 3), {"a"}) == "a"
    assert index.longest_match(text(1, 2, 3), {"c"}) is None


def test_memory_is_bounded_whatever_is_sent() -> None:
    index: PrefixIndex[int] = PrefixIndex(max_blocks=100)
    draws = random.Random(7)
    for owner in range(500):
        index.record([draws.randrange(50_000) for _ in range(draws.randrange(40 * BLOCK_TOKENS))], owner)
        assert len(index) <= 100


def test_a_text_longer_than_the_index_keeps_its_beginning() -> None:
    index: PrefixIndex[str] = PrefixIndex(max_blocks=3)
    index.record(text(1, 2, 3, 4, 5), "a")
    assert len(index) == 3
    assert index.longest_match(text(1, 2, 3), ANY) == "a"


def test_the_least_recently_sent_text_is_forgotten_first_and_its_end_before_its_beginning() -> None:
    index: PrefixIndex[str] = PrefixIndex(max_blocks=4)
    index.record(text(1, 2), "old")
    index.record(text(3, 4), "new")
    index.record(text(5), "newest")
    assert index.longest_match(text(1), ANY) == "old"
    assert len(index) == 4
    index.record(text(6), "newest")
    assert [index.longest_match(text(*blocks), ANY) for blocks in ((1,), (3, 4), (5,))] == [None, "new", "newest"]


def test_what_is_sent_again_is_recent_again() -> None:
    index: PrefixIndex[str] = PrefixIndex(max_blocks=2)
    for token in (1, 2, 1, 3):
        index.record(text(token), str(token))
    assert [index.longest_match(text(token), ANY) for token in (1, 2, 3)] == ["1", None, "3"]
