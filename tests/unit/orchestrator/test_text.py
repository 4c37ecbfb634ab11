from hypothesis import given
from hypothesis import strategies as st

from draftpool.vocabulary import Vocabulary
from orchestrator.text import TextAssembler, TextToken

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)), ())


def assemble(pieces: list[bytes], stop: tuple[str, ...]) -> tuple[list[list[TextToken]], TextAssembler]:
    """What each push released, and what `finish` did."""
    assembler = TextAssembler(Vocabulary(tuple(pieces), ()), stop)
    released = []
    for token_id in range(len(pieces)):
        released.append(assembler.push(token_id, drafted=False))
        if assembler.matched_stop is not None:
            break
    return [*released, assembler.finish()], assembler


def text_of(released: list[list[TextToken]]) -> str:
    return "".join(token.text for tokens in released for token in tokens)


def test_text_without_stop_strings_is_released_at_once() -> None:
    released, _ = assemble([b"Hello", b" ", b"world"], ())
    assert [[token.text for token in tokens] for tokens in released] == [["Hello"], [" "], ["world"], []]


def test_a_stop_string_may_straddle_tokens() -> None:
    released, assembler = assemble([b"answer: 4", b"2\n#", b"## end", b" never"], ("###",))
    assert text_of(released) == "answer: 42\n"
    assert assembler.matched_stop == "###"


def test_what_could_become_a_stop_string_is_held_and_then_released() -> None:
    released, assembler = assemble([b"a", b"\n\n", b"Q", b"ueen"], ("\n\nQuestion",))
    assert [len(tokens) for tokens in released] == [1, 0, 0, 3, 0]
    assert text_of(released) == "a\n\nQueen"
    assert assembler.matched_stop is None


def test_the_earliest_of_several_stop_strings_wins() -> None:
    released, assembler = assemble([b"one two three"], ("three", "two"))
    assert (text_of(released), assembler.matched_stop) == ("one ", "two")


def test_half_a_character_waits_for_the_other_half() -> None:
    released, _ = assemble(["\u00e9".encode()[:1], "\u00e9".encode()[1:], b"!"], ())
    assert [[token.text for token in tokens] for tokens in released] == [[], ["", "\u00e9"], ["!"], []]


def test_half_a_character_at_the_end_becomes_a_replacement_character() -> None:
    released, _ = assemble([b"a", "\u20ac".encode()[:2]], ())
    assert text_of(released) == "a\ufffd"


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_the_text_ends_before_the_first_stop_string_however_it_is_split(text: str, stop: list[str]) -> None:
    assembler = TextAssembler(BYTES, stop)
    released: list[TextToken] = []
    num_pushed = 0
    for byte in text.encode():
        released += assembler.push(byte, drafted=False)
        num_pushed += 1
        if assembler.matched_stop is not None:
            break
    released += assembler.finish()
    # The first stop string to be complete ends the text; of those completed together, the earliest begun.
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    if not ends:
        assert "".join(token.text for token in released) == text
    else:
        assert (
            "".join(token.text for token in released)
            == text[: min(begin for end, begin in ends if end == min(ends)[0])]
        )
    assert len(released) == num_pushed
