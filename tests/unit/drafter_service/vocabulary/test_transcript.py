"""A toy pair of vocabularies: the target writes letters and spaces, the drafter whole words and their beginnings."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from drafter_service.vocabulary.transcript import Transcript

SPACE = ord(" ")


def spell(target_ids: Sequence[int]) -> list[int]:
    """Words with the space before them, each a number of its own."""
    words = "".join(map(chr, target_ids)).replace(" ", "\n ").split("\n")
    return [sum(ord(letter) << (8 * place) for place, letter in enumerate(word)) for word in words if word]


def letters(text: str) -> list[int]:
    return list(map(ord, text))


def begins_word(target_id: int) -> bool:
    return target_id == SPACE


@given(st.lists(st.text("ab ", min_size=1, max_size=8), min_size=1, max_size=30))
def test_what_is_settled_and_the_tail_are_the_text_spelled_as_a_whole(pieces: list[str]) -> None:
    transcript = Transcript(spell, begins_word)
    settled: list[int] = []
    for piece in pieces:
        transcript.commit(letters(piece))
        settled += transcript.settle()
        assert transcript.ids
    assert settled + transcript.ids == spell(letters("".join(pieces)))


def test_a_word_that_goes_on_is_spelled_anew() -> None:
    transcript = Transcript(spell, begins_word)
    transcript.commit(letters("a num"))
    before = transcript.ids
    transcript.commit(letters("ber"))
    assert transcript.ids == spell(letters("a number"))
    assert transcript.ids[: len(before)] != before


def test_the_tail_stays_short_where_there_are_words() -> None:
    transcript = Transcript(spell, begins_word)
    for _ in range(200):
        transcript.commit(letters("ab "))
        transcript.settle()
        assert len(transcript.ids) < 16


def test_without_a_good_place_nothing_is_settled() -> None:
    transcript = Transcript(spell, begins_word)
    transcript.commit(letters("a" * 100))
    assert transcript.settle() == []
