"""Mamba-1 for tree drafting: states live in a pool, children start from their parent's state by index.

Glossary: n rows of a batch, T tokens of a chunk, V vocabulary, D d_inner, S state size, K convolution window.

A slot holds, layer by layer, K + 1 + S rows of D numbers:

    row 0           the convolution's latest output (scratch)
    rows 1 .. K - 1 what the tokens so far already contribute to the next K - 1 outputs, bias included
    row K           the bias, a constant
    then S rows     the recurrent state

A step adds `tap i * input` to row i + 1 and stores it as row i: the causal convolution, the shift of its window
and its bias are one `addcmul`. The recurrence keeps D last, so that all it does is vectorised over D.
`exp2` is used for `exp` because torch computes it about four times as fast on CPUs (measured, AVX-512).

Source: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv:2312.00752; states in a tree,
"Mamba Drafters for Speculative Decoding", arXiv:2506.01206.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from drafter_service.weights import LayerWeights, MambaWeights

_MAX_ROWS = 32
"""Rows computed at once; wider batches gain nothing and leave the cache."""

_MAX_SCAN_TOKENS = 64
"""Tokens prefilled at once; bounds the (T, S, D) buffers to what a cache holds."""


@dataclass(frozen=True)
class _LayerViews:
    """Where one layer of a step finds its parents' state and leaves its children's; all are views."""

    parent_window: Tensor  # (n, K, D): rows 1 .. K
    parent_state: Tensor  # (n, S, D)
    child_window: Tensor  # (n, K, D): rows 0 .. K - 1
    child_state: Tensor  # (n, S, D)
    conv_output: Tensor  # (n, D): row 0


@dataclass(frozen=True)
class _Workspace:
    """The step's buffers for n rows, and their views; built once for each n."""

    parents: Tensor  # (n, layers, K + 1 + S, D)
    children: tuple[Tensor, ...]  # n times (layers, K + 1 + S, D)
    layers: tuple[_LayerViews, ...]


class Mamba1:
    """Computes on a pool of states that somebody else allocates slots of."""

    def __init__(self, weights: MambaWeights, num_slots: int) -> None:
        self._weights = weights
        self._window = len(weights.layers[0].conv_taps)
        self._initial_state = _initial_state(weights)
        self._norm_floor = torch.tensor([(weights.norm_eps * weights.d_model) ** 0.5], device=self.device)
        # Left unwritten: pages that no session has needed yet take no memory.
        self._states = torch.empty(num_slots, *weights.state_shape, device=self.device)
        self._slots = self._states.unbind(0)
        self._parents = torch.empty(_MAX_ROWS, *weights.state_shape, device=self.device)
        self._children = torch.empty_like(self._parents)
        self._children[:, :, self._window] = self._initial_state[:, self._window]  # the constant row
        self._workspaces: dict[int, _Workspace] = {}

    @property
    def device(self) -> torch.device:
        return self._weights.embedding.device

    @property
    def vocab_size(self) -> int:
        return self._weights.vocab_size

    @property
    def num_parameters(self) -> int:
        return self._weights.num_parameters

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    @property
    def slot_bytes(self) -> int:
        return self._weights.slot_bytes

    def reset(self, slot: int) -> None:
        """Make a slot the state before any token."""
        self._slots[slot].copy_(self._initial_state)

    def copy(self, source: int, target: int) -> None:
        """Make one slot what another is."""
        self._slots[target].copy_(self._slots[source])

    def state(self, slot: int) -> Tensor:
        """(layers, K + S, D): a copy of what a slot remembers."""
        return self._slots[slot][:, 1:].clone()

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        """Feed one token to each of n states.

        Args:
            token_ids: n drafter token ids.
            parent_slots: n slots to start from; they may repeat.
            child_slots: n different slots to leave the new states in; one may be its own parent, no other row's.

        Returns:
            (n, V) float32 logits of the token after each.
        """
        if len(token_ids) <= _MAX_ROWS:
            return self._step(token_ids, parent_slots, child_slots)
        pieces = (slice(start, start + _MAX_ROWS) for start in range(0, len(token_ids), _MAX_ROWS))
        return torch.cat([self._step(token_ids[rows], parent_slots[rows], child_slots[rows]) for rows in pieces])

    def _step(self, token_ids: Sequence[int], parent_slots: Sequence[int], child_slots: Sequence[int]) -> Tensor:
        space = self._workspace(len(token_ids))
        torch.index_select(self._states, 0, self._indices(parent_slots), out=space.parents)
        hidden = F.embedding(self._indices(token_ids), self._weights.embedding)
        for layer, views in zip(self._weights.layers, space.layers, strict=True):
            hidden = self._step_layer(hidden, layer, views)
        for slot, child in zip(child_slots, space.children, strict=True):
            self._slots[slot].copy_(child)
        return self._weights.head(self._normed(hidden))

    def _step_layer(self, hidden: Tensor, layer: LayerWeights, views: _LayerViews) -> Tensor:
        """(n, d_model) to (n, d_model); writes the children's views."""
        conv_input, gate = layer.project_in(self._normed(hidden)).chunk(2, dim=1)
        torch.addcmul(views.parent_window, conv_input[:, None], layer.conv_taps, out=views.child_window)
        inputs = F.silu(views.conv_output)
        time_step, drive, readout = _select(inputs, layer)
        state = torch.mul(time_step[:, None], layer.log2_decay, out=views.child_state)
        state.exp2_().mul_(views.parent_state).addcmul_(drive[:, :, None], (time_step * inputs)[:, None])
        return _gated_output(hidden, layer, inputs, gate, torch.bmm(readout[:, None], state)[:, 0])

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int], slot: int) -> None:
        """Feed T tokens to one state, in place; the projections run in parallel over time."""
        for start in range(0, len(token_ids), _MAX_SCAN_TOKENS):
            chunk = self._indices(token_ids[start : start + _MAX_SCAN_TOKENS])
            hidden = F.embedding(chunk, self._weights.embedding)
            for layer, state in zip(self._weights.layers, self._slots[slot], strict=True):
                hidden = self._prefill_layer(hidden, layer, state)

    def _prefill_layer(self, hidden: Tensor, layer: LayerWeights, rows: Tensor) -> Tensor:
        """(T, d_model) to (T, d_model).

        Args:
            rows: (K + 1 + S, D), this layer of the slot; updated in place.
        """
        conv_input, gate = layer.project_in(self._normed(hidden)).chunk(2, dim=1)
        inputs = F.silu(_convolve(conv_input, layer, rows[: self._window + 1]))
        time_step, drive, readout = _select(inputs, layer)
        decay = torch.mul(time_step[:, None], layer.log2_decay).exp2_()
        states = torch.mul(drive[:, :, None], (time_step * inputs)[:, None])
        _scan(decay, states, rows[self._window + 1 :])
        return _gated_output(hidden, layer, inputs, gate, torch.bmm(readout[:, None], states)[:, 0])

    def _normed(self, hidden: Tensor) -> Tensor:
        """RMS norm without its weight and sqrt(d_model), which the next projection carries."""
        length = torch.linalg.vector_norm(hidden, dim=1, keepdim=True)
        return hidden / torch.hypot(length, self._norm_floor)

    def _indices(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def _workspace(self, num_rows: int) -> _Workspace:
        if num_rows not in self._workspaces:
            parents, children = self._parents[:num_rows], self._children[:num_rows]
            views = (
                _layer_views(parents[:, index], children[:, index], self._window)
                for index in range(len(self._weights.layers))
            )
            self._workspaces[num_rows] = _Workspace(parents, children.unbind(0), tuple(views))
        return self._workspaces[num_rows]


def _layer_views(parents: Tensor, children: Tensor, window: int) -> _LayerViews:
    """Views of (n, K + 1 + S, D) buffers."""
    return _LayerViews(
        parent_window=parents[:, 1 : window + 1],
        parent_state=parents[:, window + 1 :],
        child_window=children[:, :window],
        child_state=children[:, window + 1 :],
        conv_output=children[:, 0],
    )


def _initial_state(weights: MambaWeights) -> Tensor:
    """(layers, K + 1 + S, D): the slot before any token."""
    state = torch.zeros(weights.state_shape, device=weights.embedding.device)
    for rows, layer in zip(state, weights.layers, strict=True):
        rows[1 : len(layer.conv_taps) + 1] = layer.conv_bias
    return state


def _select(inputs: Tensor, layer: LayerWeights) -> tuple[Tensor, Tensor, Tensor]:
    """The input-dependent parameters: time step (n, D), B (n, S) and C (n, S)."""
    state_size = layer.log2_decay.shape[0]
    sizes = [layer.time_step.shape[0], state_size, state_size]
    low_rank, drive, readout = torch.split(inputs @ layer.select, sizes, dim=1)
    return F.softplus(torch.addmm(layer.time_step_bias, low_rank, layer.time_step)), drive, readout


def _gated_output(hidden: Tensor, layer: LayerWeights, inputs: Tensor, gate: Tensor, read: Tensor) -> Tensor:
    """The block's end: skip connection, gate, projection, residual."""
    return torch.addmm(hidden, read.addcmul_(inputs, layer.skip).mul_(F.silu(gate)), layer.project_out)


def _convolve(conv_input: Tensor, layer: LayerWeights, rows: Tensor) -> Tensor:
    """Causal convolution over time, going on from a slot's window.

    Args:
        conv_input: (T, D).
        rows: (K + 1, D), the slot's window; left as K single steps would have left it.

    Returns:
        (T, D).
    """
    window, width = layer.conv_taps.shape
    num_tokens = conv_input.shape[0]
    padded = F.pad(conv_input.T, (window - 1, window - 1))[None]
    kernel = layer.conv_taps.flip(0).T[:, None]
    outputs = F.conv1d(padded, kernel, groups=width)[0].T.contiguous()
    outputs[: window - 1] += rows[1:window]
    outputs[window - 1 :] += layer.conv_bias
    rows[:window] = outputs[num_tokens - 1 :]
    return outputs[:num_tokens]


def _scan(decay: Tensor, states: Tensor, state: Tensor) -> None:
    """The recurrence, one `addcmul` a token: states[t] = decay[t] * states[t - 1] + states[t].

    Exact and stable where a logarithmic-space parallel scan is neither, and quick while D * S is in the thousands.

    Args:
        decay: (T, S, D).
        states: (T, S, D); on entry what each token adds, on return the states.
        state: (S, D); on entry the state before, on return the last.
    """
    previous = state
    for decayed, current in zip(decay.unbind(0), states.unbind(0), strict=True):
        previous = current.addcmul_(decayed, previous)
    state.copy_(previous)
