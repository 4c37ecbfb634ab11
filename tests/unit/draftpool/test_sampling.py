import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool import wire
from draftpool.errors import BadParameter
from draftpool.sampling import Grammar, SamplingParams

exact = st.floats(-2, 2, width=16)
token_ids = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)
params = st.builds(
    SamplingParams,
    temperature=st.floats(0, 100, width=16),
    top_k=st.integers(0, 2**32 - 1),
    top_p=st.floats(0.125, 1, width=16),
    min_p=st.floats(0, 1, width=16),
    typical_p=st.floats(0.125, 1, width=16),
    repetition_penalty=st.floats(0.125, 100, width=16),
    presence_penalty=exact,
    frequency_penalty=exact,
    logit_bias=st.dictionaries(st.integers(0, 2**32 - 1), exact, max_size=4).map(lambda of: tuple(sorted(of.items()))),
    banned_token_ids=token_ids,
    min_new_tokens=st.integers(0, 2**32 - 1),
    stop_token_ids=token_ids,
    seed=st.integers(0, 2**64 - 1),
    grammar=st.none() | st.builds(Grammar, st.sampled_from(["json_schema", "regex", "lark"]), st.text(min_size=1)),
)


@given(params)
def test_the_wire_carries_every_parameter(params: SamplingParams) -> None:
    assert wire.sampling_from_wire(wire.sampling_to_wire(params)) == params


def test_what_is_left_out_on_the_wire_has_its_default() -> None:
    assert wire.sampling_from_wire(type(wire.sampling_to_wire(SamplingParams()))(), drawn_seed=0) == SamplingParams()


@given(params)
def test_a_drafter_is_told_what_it_can_apply_and_nothing_else(params: SamplingParams) -> None:
    told = params.for_drafter()
    assert not told.changes_logits
    assert (told.temperature, told.top_k, told.top_p, told.min_p, told.typical_p, told.seed) == (
        params.temperature,
        params.top_k,
        params.top_p,
        params.min_p,
        params.typical_p,
        params.seed,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"typical_p": 1.1},
        {"min_p": -0.1},
        {"min_p": float("nan")},
        {"repetition_penalty": 0},
        {"repetition_penalty": float("inf")},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, float("nan")),)},
        {"logit_bias": ((1, 1.0), (1, 2.0))},
        {"logit_bias": tuple((index, 1.0) for index in range(1025))},
        {"allowed_token_ids": (1, 2), "banned_token_ids": (2, 1, 3)},
        {"allowed_token_ids": tuple(range(16385))},
        {"banned_token_ids": tuple(range(16385))},
        {"stop_token_ids": tuple(range(65))},
        {"min_new_tokens": -1},
        {"seed": 2**64},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_value_out_of_its_range_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(BadParameter, match=next(iter(wrong))):
        SamplingParams(**wrong)


@pytest.mark.parametrize("source", ["", "a" * 65537, "é" * 40000], ids=["empty", "long", "long in bytes"])
def test_a_grammar_has_a_source_of_at_most_65536_bytes(source: str) -> None:
    with pytest.raises(BadParameter, match="1 to 65536 bytes"):
        Grammar("regex", source)
