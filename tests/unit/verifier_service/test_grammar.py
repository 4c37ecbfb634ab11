"""Masks of grammars, over bytes and over the merged tokens of an embedded model."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from draftpool.embedded import embedded_path
from draftpool.errors import BadParameter
from draftpool.sampling import Grammar
from draftpool.tree import EMPTY_TREE, DraftTree
from draftpool.vocabulary import Vocabulary
from verifier_service.grammar import GrammarCompiler

EOS = 256
AB = Grammar("regex", "(ab|ac)+d?")


@pytest.fixture(scope="module")
def letters(llama) -> dict[str, int]:
    """Ids of one-byte tokens."""
    return {bytes(token).decode("latin-1"): i for i, token in enumerate(llama.vocabulary.token_bytes) if token}


@pytest.fixture(scope="module")
def compiler(llama) -> GrammarCompiler:
    return GrammarCompiler(llama.vocabulary, llama.tokenizer_json)


def embedded(model: str) -> tuple[Tokenizer, GrammarCompiler]:
    """An embedded model's tokenizer, with token 0 for the end of a text."""
    tokenizer_json = (embedded_path(model) / "tokenizer.json").read_text()
    tokenizer = Tokenizer.from_str(tokenizer_json)
    vocabulary = Vocabulary.from_tokenizer_json(
        tokenizer_json, vocab_size=tokenizer.get_vocab_size(), eos_token_ids=[0]
    )
    return tokenizer, GrammarCompiler(vocabulary, tokenizer_json)


def allowed(mask) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def test_the_masks_follow_every_path_of_the_tree(compiler, letters) -> None:
    a, b, c, d = (letters[letter] for letter in "abcd")
    tree = DraftTree((a, b, c, a, d, EOS, b), (-1, 0, 0, 1, 2, 1, -1))
    masks = compiler.start(AB).masks([1, 2], 2, tree)
    after_ab = {a, d, EOS}
    expected = [{a}, {b, c}, after_ab, after_ab, {b, c}, {EOS}, {EOS}]
    assert [allowed(mask) for mask in masks[:7]] == expected
    assert allowed(masks[7]) >= set(range(272)), "behind a refused node nothing is masked"


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_path_of_the_tree_is_masked_as_the_same_tokens_committed(data, compiler, letters) -> None:
    path = [letters[letter] for letter in data.draw(st.sampled_from(["ab", "abac", "acd", "abacab"]))]
    beside = data.draw(st.lists(st.sampled_from([letters[x] for x in "abcdz"] + [EOS]), max_size=6))
    token_ids, parents = list(path), list(range(-1, len(path) - 1))
    for token_id in beside:
        parent = data.draw(st.integers(-1, len(token_ids) - 1))
        if DraftTree(tuple(token_ids), tuple(parents)).child(parent, token_id) is None:
            token_ids.append(token_id)
            parents.append(parent)
    state = compiler.start(AB)
    drafted = state.masks([9], 1, DraftTree(tuple(token_ids), tuple(parents)))
    for length in range(len(path) + 1):
        committed = state if length == 0 else compiler.start(AB)
        (mask,) = committed.masks([9, *path[:length]], 1, EMPTY_TREE)
        assert np.array_equal(mask, drafted[length])


def test_nothing_but_the_end_follows_a_text_that_is_complete(compiler, letters) -> None:
    state, text = compiler.start(AB), [letters[x] for x in "abd"]
    assert allowed(state.masks(text, 0, EMPTY_TREE)[0]) == {EOS}
    assert allowed(state.masks([*text, EOS], 0, EMPTY_TREE)[0]) == {EOS}


def test_the_prompt_is_not_part_of_the_text(compiler, letters) -> None:
    prompt = [letters[x] for x in "zzz"]
    assert allowed(compiler.start(AB).masks(prompt, 3, EMPTY_TREE)[0]) == {letters["a"]}


def test_an_answer_that_is_not_of_the_grammar_is_refused(compiler, letters) -> None:
    with pytest.raises(BadParameter, match=f"token {letters['z']} at position 1"):
        compiler.start(AB).masks([letters["a"], letters["z"]], 0, EMPTY_TREE)
    with pytest.raises(BadParameter, match="position 0"):
        compiler.start(AB).masks([9999], 0, EMPTY_TREE)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar("regex", "a(b"), "regex cannot be compiled: .*regex parse error: unclosed group$"),
        (Grammar("json_schema", '{"type": "foo"}'), "json_schema cannot be compiled: Invalid type: foo"),
        (Grammar("json_schema", "{nope"), "json_schema cannot be read"),
        (Grammar("lark", "start: nowhere"), 'lark cannot be compiled: .*unknown name: "nowhere"'),
    ],
    ids=lambda value: getattr(value, "source", ""),
)
def test_a_grammar_that_is_wrong_is_refused_in_one_line(grammar, message, compiler) -> None:
    with pytest.raises(BadParameter, match=message) as raised:
        compiler.start(grammar)
    assert "\n" not in raised.value.message


def test_a_grammar_that_explodes_is_given_up() -> None:
    tokenizer, compiler = embedded("tiny-llama")
    state = compiler.start(Grammar("lark", 'start: start start | /./ | ""'))
    with pytest.raises(BadParameter, match="too complex"):
        state.masks(tokenizer.encode("ab ac ab ad " * 40, add_special_tokens=False).ids, 0, EMPTY_TREE)


def test_a_target_that_cannot_end_a_text_is_not_held_to_one(llama) -> None:
    endless = Vocabulary(llama.vocabulary.token_bytes, ())
    with pytest.raises(BadParameter, match="no token to end"):
        GrammarCompiler(endless, llama.tokenizer_json).start(AB)


def test_states_of_one_grammar_do_not_disturb_each_other(compiler, letters) -> None:
    first, second = compiler.start(AB), compiler.start(AB)
    first.masks([letters["a"]], 0, EMPTY_TREE)
    assert allowed(second.masks([], 0, EMPTY_TREE)[0]) == {letters["a"]}


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-neox"])
def test_what_a_tokenizer_makes_of_json_is_allowed_token_by_token(model) -> None:
    """Merged tokens of a trained tokenizer, their bytes and ends as the model has them."""
    tokenizer, compiler = embedded(model)
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}
    state = compiler.start(Grammar("json_schema", json.dumps(schema)))
    token_ids = tokenizer.encode('{"name": "Jo said: \\"hé\\"", "n": 12}', add_special_tokens=False).ids
    for index, token_id in enumerate(token_ids):
        assert token_id in allowed(state.masks(token_ids[:index], 0, EMPTY_TREE)[0])
    assert 0 in allowed(state.masks(token_ids, 0, EMPTY_TREE)[0])
