"""A pass padded to a bucket and replayed gives the logits that it gives alone."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE
from verifier_service import runner
from verifier_service.buckets import Bucket
from verifier_service.choosing import Chooser
from verifier_service.fitness import layer_shapes
from verifier_service.graphs import GraphRunner
from verifier_service.kv_store import KvStore
from verifier_service.packing import Chunk, pack
from verifier_service.paged_attention import PagedAttention
from verifier_service.pages import PagePool
from verifier_service.session import Session

NUM_PAGES, PAGE_TOKENS, MAX_NODES = 63, 4, 40
GREEDY = SamplingParams(temperature=0)


class RefusedRunner:
    def run(self, layout):
        raise AssertionError(f"{len(layout.token_ids)} rows were not replayed")


@pytest.fixture
def make_graphs():
    def make(target, buckets, eager=None, make_attention=PagedAttention, **options):
        store = KvStore(layer_shapes(target), NUM_PAGES + 1, PAGE_TOKENS)
        for kept in (*store.keys, *store.values):
            kept.zero_()
        graphs = GraphRunner(
            eager or RefusedRunner(),
            target,
            store,
            make_attention,
            scratch_page=NUM_PAGES,
            max_keys=128,
            max_tree_nodes=MAX_NODES,
            buckets=buckets,
            **options,
        )
        return graphs, store

    return make


def passes_of_three_turns(vocab_size, make_tree, make_ids):
    """Layouts of two sessions that prefill, draft, and go on along an accepted path."""
    pool = PagePool(NUM_PAGES, PAGE_TOKENS)
    sessions = [Session(Chooser(GREEDY, vocab_size), pool) for _ in range(2)]
    turns = [
        [(make_ids(0, 6), make_tree(0, 3)), (make_ids(1, 3), EMPTY_TREE)],
        [((*make_tree(0, 3).token_ids[:1], 7), make_tree(2, 35)), ((5,), make_tree(3, 4))],
        [((9,), EMPTY_TREE), ((8,), make_tree(4, 2))],
    ]
    for turn in turns:
        moved, cleared = ([], []), []
        for session, (ids, tree) in zip(sessions, turn, strict=True):
            sources, targets = session.advance(ids, tree)
            moved[0].extend(sources)
            moved[1].extend(targets)
            cleared += session.take()
        chunks = [Chunk(session, session.num_pending, is_last=True) for session in sessions]
        yield pack(chunks, moved=moved, cleared=cleared)
        for chunk in chunks:
            chunk.session.num_cached += chunk.num_committed


def test_padded_and_replayed_passes_give_the_logits_of_the_passes_alone(
    target, make_graphs, make_memory, make_tree, make_ids
) -> None:
    graphs, _ = make_graphs(target, [Bucket(8, 2), Bucket(48, 1), Bucket(48, 3), Bucket(96, 8)])
    plain, _ = make_memory(target, NUM_PAGES, PAGE_TOKENS)
    for layout in passes_of_three_turns(target.vocab_size, make_tree, make_ids):
        logits = graphs.run(layout)
        assert logits.shape == (len(layout.logit_rows), target.vocab_size)
        torch.testing.assert_close(logits, plain.run(layout), rtol=1e-5, atol=1e-5)


def test_the_kernels_give_the_same_logits_replayed_and_not(
    llama, make_graphs, make_memory, make_tree, make_ids, monkeypatch
) -> None:
    pytest.importorskip("triton", reason="the kernels are tested where Triton is installed: pip install triton")
    from verifier_service.triton_attention import TritonAttention

    graphs, _ = make_graphs(llama, [Bucket(16, 2), Bucket(48, 3)], make_attention=TritonAttention)
    plain, _ = make_memory(llama, NUM_PAGES, PAGE_TOKENS)
    monkeypatch.setattr(runner, "has_kernels", lambda _: True)
    eager, _ = make_memory(llama, NUM_PAGES, PAGE_TOKENS)
    for layout in passes_of_three_turns(llama.vocab_size, make_tree, make_ids):
        expected = plain.run(layout)
        torch.testing.assert_close(graphs.run(layout), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(eager.run(layout), expected, rtol=1e-5, atol=1e-5)


def test_padding_writes_to_its_own_page_alone(llama, make_graphs, make_tree, make_ids) -> None:
    graphs, store = make_graphs(llama, [Bucket(96, 8)])
    layout = next(passes_of_three_turns(llama.vocab_size, make_tree, make_ids))
    graphs.run(layout)
    before = [kept.clone() for kept in store.keys]
    graphs.run(replace(layout, cleared=()))
    held = {page for segment in layout.segments for page in segment.pages}
    for kept, old in zip(store.keys, before, strict=True):
        assert kept.isfinite().all()
        by_page = kept.view(kept.shape[0], NUM_PAGES + 1, -1)
        assert {page for page in range(NUM_PAGES) if by_page[:, page].any()} <= held
        assert by_page[:, NUM_PAGES].any()
        torch.testing.assert_close(kept[:, : NUM_PAGES * PAGE_TOKENS], old[:, : NUM_PAGES * PAGE_TOKENS])


def test_what_fits_in_no_bucket_is_computed_as_it_is(llama, make_graphs, make_memory, make_tree, make_ids) -> None:
    plain, _ = make_memory(llama, NUM_PAGES, PAGE_TOKENS)
    graphs, _ = make_graphs(llama, [Bucket(4, 2)], eager=plain)
    layout = next(passes_of_three_turns(llama.vocab_size, make_tree, make_ids))
    assert torch.equal(graphs.run(layout), plain.run(layout))


def test_the_largest_pass_is_recorded_first_and_a_model_that_cannot_be_is_served_without(llama, make_graphs) -> None:
    num_rows = []

    def record(compute):
        num_rows.append(len(compute()))
        if len(num_rows) > 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return compute

    graphs, _ = make_graphs(llama, [Bucket(2, 1), Bucket(16, 2), Bucket(8, 2), Bucket(16, 1)], record=record)
    assert num_rows == [16, 16, 8]
    assert graphs.buckets == [Bucket(16, 2), Bucket(16, 1)]


class NothingReadBack(TorchDispatchMode):
    """Fails on operators whose results' sizes or values the host has to wait for on a device."""

    _WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        assert not name.startswith(self._WAITING), f"{name} waits for the device"
        if name.startswith("index") and isinstance(args[1], list | tuple):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{name} by a mask"
        return func(*args, **(kwargs or {}))


def test_no_pass_waits_for_the_device(target, make_graphs, make_tree, make_ids) -> None:
    graphs, _ = make_graphs(target, [Bucket(96, 8)])
    for layout in passes_of_three_turns(target.vocab_size, make_tree, make_ids):
        with NothingReadBack():
            graphs.run(layout)
