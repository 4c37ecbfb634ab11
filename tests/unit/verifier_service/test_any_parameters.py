"""The law of drafting holds whatever the parameters: with the same seed, drafting on and off give the same tokens."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftpool.sampling import Grammar, SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser
from verifier_service.grammar import GrammarCompiler
from verifier_service.job import VerifyJob

EOS = 256
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
JSON = Grammar("json_schema", json.dumps(SCHEMA))
GRAMMARS = [None, JSON, Grammar("regex", "(ab|ba){2,40}c?"), Grammar("lark", 'start: "(" start ")" | /[0-9]{1,3}/')]

token_lists = st.lists(st.integers(0, 256), max_size=200, unique=True).map(tuple)
any_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 1, 20, 100]),
    top_p=st.sampled_from([1.0, 0.9, 0.4]),
    min_p=st.sampled_from([0.0, 0.02, 0.3]),
    typical_p=st.sampled_from([1.0, 0.9, 0.3]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 1.5, -1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.8, -0.5]),
    logit_bias=st.dictionaries(st.integers(0, 256), st.floats(-9, 9, width=16), max_size=5).map(
        lambda biases: tuple(biases.items())
    ),
    allowed_token_ids=st.just(()) | token_lists.map(lambda ids: tuple({*ids, 97, 98, 99, EOS})),
    banned_token_ids=st.just(()) | token_lists.map(lambda ids: tuple(i for i in ids if i not in (97, EOS))),
    min_new_tokens=st.sampled_from([0, 3, 30]),
    stop_token_ids=st.sampled_from([(), (97, 120)]),
    seed=st.integers(0, 2**64 - 1),
    grammar=st.sampled_from(GRAMMARS),
)


@pytest.fixture(scope="module")
def compiler(llama) -> GrammarCompiler:
    return GrammarCompiler(llama.vocabulary, llama.tokenizer_json)


def chooser_of(target, compiler, params, num_prompt_tokens) -> Chooser:
    return Chooser(
        params,
        target.vocab_size,
        num_prompt_tokens=num_prompt_tokens,
        eos_token_ids=target.vocabulary.eos_token_ids,
        unused_token_ids=target.unused_ids.tolist(),
        grammar=compiler.start(params.grammar) if params.grammar else None,
    )


def decode(engine, run_jobs, chooser, context, num_tokens, draft=lambda _: EMPTY_TREE) -> list[int]:
    """Up to the end of the text; `draft` makes a tree of the tokens so far."""
    session, emitted, committed = engine.new_session(chooser), [], list(context)
    while len(emitted) < num_tokens and EOS not in emitted:
        tree = draft(emitted)
        (verdict,) = run_jobs(engine, VerifyJob(session, committed, tree))
        path = tree.walk(verdict_path(tree, verdict.choice.token_ids))
        committed = [*(tree.token_ids[node] for node in path), verdict.choice.token_ids[path[-1] + 1 if path else 0]]
        emitted += committed
    engine.close_session(session)
    end = emitted.index(EOS) + 1 if EOS in emitted else len(emitted)
    return emitted[: min(end, num_tokens)]


def verdict_path(tree, chosen) -> list[int]:
    """The drafted tokens that were chosen, from the root on."""
    path, node = [], tree.child(-1, chosen[0])
    while node is not None:
        path.append(tree.token_ids[node])
        node = tree.child(node, chosen[node + 1])
    return path


def tree_along(continuation, wrong: list[int]) -> DraftTree:
    """The true continuation, and beside each of its nodes, and under it, a token that may be wrong."""
    token_ids, parents, parent = [], [], -1
    for token_id, other in zip(continuation, wrong, strict=False):
        first = len(token_ids)
        token_ids += [token_id] if token_id == other else [token_id, other]
        parents += [parent] * (len(token_ids) - first)
        if token_id != other:
            token_ids.append(token_id)
            parents.append(first + 1)
        parent = first
    return DraftTree(tuple(token_ids), tuple(parents))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=any_params, data=st.data())
def test_drafting_changes_no_token_under_any_combination_of_parameters(
    params, data, llama, compiler, make_engine, run_jobs, make_ids
) -> None:
    engine, context = make_engine(llama), make_ids(data.draw(st.integers(0, 50)), 6)
    plain = decode(engine, run_jobs, chooser_of(llama, compiler, params, 6), context, 24)

    def draft(emitted):
        depth = data.draw(st.integers(0, 5))
        wrong = data.draw(st.lists(st.integers(0, 271), min_size=depth, max_size=depth))
        return tree_along(plain[len(emitted) :], wrong)

    assert decode(engine, run_jobs, chooser_of(llama, compiler, params, 6), context, 24, draft) == plain


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=any_params, num_before=st.integers(0, 12))
def test_a_session_opened_again_in_the_middle_of_its_answer_goes_on_as_the_lost_one(
    params, num_before, llama, compiler, make_engine, run_jobs, make_ids
) -> None:
    engine, context = make_engine(llama), make_ids(7, 9)
    whole = decode(engine, run_jobs, chooser_of(llama, compiler, params, 9), context, 16)
    before = whole[:num_before]
    if EOS in before or len(before) == 16:
        return
    again = chooser_of(llama, compiler, params, 9)
    assert decode(engine, run_jobs, again, [*context, *before], 16 - len(before)) == whole[len(before) :]


def test_text_under_a_json_schema_is_json_of_that_schema(target, make_engine, run_jobs, make_ids, make_tree) -> None:
    """By random weights, with random drafts."""
    compiler, engine, num_ended = GrammarCompiler(target.vocabulary, target.tokenizer_json), make_engine(target), 0
    for seed in range(12):
        params = SamplingParams(temperature=1.2, seed=seed, grammar=JSON)
        chooser, drafts = chooser_of(target, compiler, params, 5), iter(range(100 * seed, 100 * seed + 100))
        token_ids = decode(engine, run_jobs, chooser, make_ids(seed, 5), 100, lambda _, d=drafts: make_tree(next(d), 6))
        if token_ids[-1] != EOS:  # whitespace and escapes are long in bytes
            continue
        num_ended += 1
        value = json.loads(b"".join(target.vocabulary.token_bytes[token_id] for token_id in token_ids))
        assert {"name", "age"} <= value.keys() <= SCHEMA["properties"].keys()
        assert len(value["name"]) <= 6
        assert 0 <= value["age"] <= 150
        assert len(value.get("tags", [])) <= 2
        assert set(value.get("tags", [])) <= {"red", "blue"}
    assert num_ended >= 3
