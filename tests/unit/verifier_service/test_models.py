"""One mechanism serves all families of decoders, and what it cannot serve is refused with the reason."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig

from draftpool.errors import ModelNotServable
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE
from tests.unit.verifier_service.families import REFUSED, SERVED
from verifier_service.attention import TREE_ATTENTION
from verifier_service.choosing import Chooser
from verifier_service.context_length import max_context_tokens
from verifier_service.loading import load_target
from verifier_service.packing import Chunk, pack
from verifier_service.replica import VerifierReplica
from verifier_service.session import Session
from verifier_service.settings import VerifierSettings


@pytest.fixture(scope="module")
def family_folder(tmp_path_factory, llama_folder):
    """Makes the folder of a family's model, its norms and biases random too, or finds it."""
    root = tmp_path_factory.mktemp("families")

    def make(name, model_maker):
        folder = root / name.replace(" ", "-").replace(",", "")
        if not folder.exists():
            model = model_maker()
            with torch.no_grad():  # as initialised, norms are ones and biases zero: too kind to the code
                for parameter in model.parameters():
                    if parameter.dim() == 1:
                        parameter.add_(torch.randn_like(parameter) * 0.2)
            model.save_pretrained(folder)
            shutil.copy(llama_folder / "tokenizer.json", folder)
        return str(folder)

    return make


def own_logits(target, token_ids) -> torch.Tensor:
    """(V,) after the last token, by transformers' plain attention."""
    target.model.set_attn_implementation("eager")
    try:
        return target.model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0, -1]
    finally:
        target.model.set_attn_implementation(TREE_ATTENTION)


def assert_scores_its_paths(target, rows, session) -> None:
    tree, used = session.tree, slice(0, 257)
    paths = [[], *([tree.token_ids[ancestor] for ancestor in tree.ancestors(node)] for node in range(tree.num_nodes))]
    for row, path in zip(rows, paths, strict=True):
        expected = own_logits(target, [*session.token_ids, *path])
        torch.testing.assert_close(row[used], expected[used], rtol=5e-5, atol=5e-5)


class Scorer:
    """Sessions of one target, scored pass by pass as an engine would."""

    def __init__(self, target, runner, pool) -> None:
        self._target, self._runner, self._pool = target, runner, pool

    def open(self, context, tree):
        session = Session(Chooser(SamplingParams(temperature=0), self._target.vocab_size), self._pool)
        session.advance(context, tree)
        return session

    def run(self, *chunks, moved=((), ())):
        """One pass; the rows of every chunk that asked for some are compared with transformers' own."""
        cleared = [page for chunk in chunks for page in chunk.session.take()]
        logits = self._runner.run(pack(chunks, moved=moved, cleared=cleared))
        rows = logits.split([chunk.num_choices for chunk in chunks])
        for chunk, own in zip(chunks, rows, strict=True):
            chunk.session.num_cached += chunk.num_committed
            if chunk.is_last:
                assert_scores_its_paths(self._target, own, chunk.session)


@pytest.mark.parametrize("family", SERVED)
@torch.inference_mode()
def test_trees_of_several_sessions_in_one_pass_equal_the_paths_of_transformers(
    family, family_folder, make_memory, make_tree, make_ids
) -> None:
    target = load_target(family_folder(family, SERVED[family]), dtype="float32")
    scorer = Scorer(target, *make_memory(target))
    long, short, chunked, bare = (
        scorer.open(make_ids(seed, num_tokens), tree)
        for seed, (num_tokens, tree) in enumerate(
            [(13, make_tree(0, 12)), (1, make_tree(1, 5)), (20, make_tree(2, 9)), (8, EMPTY_TREE)]
        )
    )
    # Windows reach into what an earlier pass has cached, and end inside of it.
    scorer.run(Chunk(long, 9, is_last=False), Chunk(chunked, 11, is_last=False))
    scorer.run(
        Chunk(long, 4, is_last=True),
        Chunk(short, 1, is_last=True),
        Chunk(chunked, 4, is_last=False),
        Chunk(bare, 8, is_last=True),
    )
    # The long one goes on from the deepest node of its tree, whose path is not where it lay.
    deepest = max(range(long.tree.num_nodes), key=long.tree.depths.__getitem__)
    path = [long.tree.token_ids[node] for node in long.tree.ancestors(deepest)]
    moved = long.advance([*path, 7], make_tree(3, 6))
    assert long.num_pending == 1
    assert moved[0]
    scorer.run(Chunk(chunked, 5, is_last=True), Chunk(long, 1, is_last=True), moved=moved)


@pytest.mark.parametrize("family", SERVED)
def test_a_replica_of_every_family_passes_the_check_at_its_start(family, family_folder) -> None:
    folder = family_folder(family, SERVED[family])
    VerifierReplica(VerifierSettings(model=folder, dtype="float32", kv_tokens=300)).close()


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_cannot_be_served_is_refused_with_the_reason(kind, family_folder) -> None:
    make, reason = REFUSED[kind]
    folder = family_folder(kind, make)
    with pytest.raises(ModelNotServable, match=reason):
        VerifierReplica(VerifierSettings(model=folder, dtype="float32", kv_tokens=300))


def test_a_model_with_code_of_its_own_is_refused(tmp_path) -> None:
    config = {"model_type": "homemade", "auto_map": {"AutoConfig": "homemade.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelNotServable, match="its own Python code"):
        load_target(str(tmp_path))


def test_texts_end_where_one_would_change_the_positions_of_another(family_folder) -> None:
    """Beyond that length longrope rotates the tokens of all sessions in a pass by other frequencies."""
    config = AutoConfig.from_pretrained(family_folder("phi3, longrope", SERVED["phi3, longrope"]))
    assert config.max_position_embeddings == 128
    assert max_context_tokens(config) == 64
    assert max_context_tokens(AutoConfig.for_model("llama", max_position_embeddings=99)) == 99
