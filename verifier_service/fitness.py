"""Is a loaded model one that the verifier can serve? Found out by running it, not by its name."""

from __future__ import annotations

import torch
from torch import Tensor

from draftpool.errors import ModelNotServable
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from verifier_service.attention import TREE_ATTENTION, AttentionOptions
from verifier_service.choosing import Chooser
from verifier_service.kv_store import LayerShape
from verifier_service.packing import Chunk, pack
from verifier_service.pages import PagePool
from verifier_service.refusal import refuse_lost_windows
from verifier_service.runner import Runner
from verifier_service.session import Session
from verifier_service.target import Target

_MAX_RELATIVE_ERROR = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}
"""Of a row of logits, in the 2-norm. A wrong mask or position gives an error near 1."""


class LayerProbe:
    """Attention that computes nothing and notes what each layer would cache."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}
        self.windows: dict[int, int | None] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        if layer in self.shapes:
            raise ModelNotServable("a layer of the model computes attention more than once, and would need more caches")
        self.windows[layer] = options.window
        self.shapes[layer] = LayerShape(
            num_heads=key.shape[1],
            key_dim=key.shape[3],
            value_dim=value.shape[3],
            dtype=key.dtype,
            device=key.device,
        )
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])


@torch.inference_mode()
def layer_shapes(target: Target) -> list[LayerShape]:
    """What every layer caches of one token.

    Raises:
        ModelNotServable: attention layers do not all go through tree attention, or want more than it does.
    """
    probe = LayerProbe()
    first = torch.zeros(1, dtype=torch.int64, device=target.device)
    try:
        logits = target.run(first, first, first, probe)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelNotServable(f"{target.name} does not take the arguments of a packed pass: {error}") from error
    num_layers = target.model.config.get_text_config().num_hidden_layers
    if sorted(probe.shapes) != list(range(num_layers)):
        raise ModelNotServable(
            f"only {len(probe.shapes)} of the {num_layers} layers of {target.name} compute attention by tree attention"
        )
    refuse_lost_windows(target.model.config, [probe.windows[layer] for layer in range(num_layers)], target.name)
    if logits.shape[2] < target.vocab_size:
        raise ModelNotServable(f"{target.name} has {logits.shape[2]} logits for {target.vocab_size} token ids")
    return [probe.shapes[layer] for layer in range(num_layers)]


@torch.inference_mode()
def check_trees(target: Target, runner: Runner, pool: PagePool) -> None:
    """Score a small tree and compare with the model's own attention, path by path. Takes a few short passes.

    Raises:
        ModelNotServable: they differ, so the model's positions or attention are not what tree attention takes them for.
    """
    num_ids = target.vocab_size
    context = [1 % num_ids, 2 % num_ids, 3 % num_ids]
    tree = DraftTree((num_ids - 1, num_ids - 2, num_ids // 2, num_ids // 3), (-1, -1, 0, 1))
    session = Session(Chooser(SamplingParams(temperature=0), num_ids), pool)
    session.advance(context, tree)
    cleared = session.take()
    try:
        scored = runner.run(pack([Chunk(session, len(context), is_last=True)], cleared=cleared))
    finally:
        session.close()
    for node in range(tree.num_nodes):
        path = [*context, *(tree.token_ids[ancestor] for ancestor in tree.ancestors(node))]
        expected = _own_logits(target, path)
        error = (scored[node + 1] - expected).nan_to_num().norm() / expected.nan_to_num(neginf=0).norm()
        if not error <= _MAX_RELATIVE_ERROR[target.dtype]:
            raise ModelNotServable(
                f"{target.name} scores a tree otherwise than its paths (relative error {error:.2g}); "
                "its positions or its attention are of a kind that this verifier does not support"
            )


def _own_logits(target: Target, token_ids: list[int]) -> Tensor:
    """(V,) after the last token, by transformers' plain attention."""
    target.model.set_attn_implementation("eager")
    try:
        logits: Tensor = target.model(input_ids=torch.tensor([token_ids], device=target.device), use_cache=False).logits
    finally:
        target.model.set_attn_implementation(TREE_ATTENTION)
    own = logits[0, -1, : target.vocab_size].float()
    return own.index_fill_(0, target.unused_ids, -torch.inf)
