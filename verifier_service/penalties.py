"""Penalties on tokens that a text holds already, counted along every path of a tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from verifier_service.transfer import to_device


class Penalties:
    """Repetition, frequency and presence penalties of one session.

    The repetition penalty looks at prompt and answer, the others at the answer alone; nodes belong to the answer.
    Only the columns of tokens that occur are touched.

    Source: repetition penalty, CTRL, arXiv:1909.05858; the others as OpenAI's API defines them.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._counts: dict[int, int] = {}  # in the answer; the prompt's tokens at 0 where they matter
        self._num_read = 0

    def applied(self, logits: Tensor, token_ids: Sequence[int], num_prompt_tokens: int, tree: DraftTree) -> Tensor:
        """New logits, (N + 1, V), given all committed tokens and the tree behind them."""
        self._read(token_ids, num_prompt_tokens)
        num_known = len(self._counts)
        columns, counts = self._table(tree)
        if not len(columns):
            return logits
        params, index = self._params, to_device(torch.from_numpy(columns), logits.device)
        num_times = to_device(torch.from_numpy(counts), logits.device)
        values = logits.index_select(1, index)
        if params.repetition_penalty != 1:
            is_seen = num_times > 0
            is_seen[:, :num_known] = True
            penalised = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
            values = torch.where(is_seen, penalised, values)
        values = values - params.frequency_penalty * num_times - params.presence_penalty * (num_times > 0)
        return logits.index_copy(1, index, values)

    def _read(self, token_ids: Sequence[int], num_prompt_tokens: int) -> None:
        """Count the tokens committed since the last time."""
        for position in range(self._num_read, len(token_ids)):
            if position >= num_prompt_tokens:
                self._counts[token_ids[position]] = self._counts.get(token_ids[position], 0) + 1
            elif self._params.repetition_penalty != 1:
                self._counts.setdefault(token_ids[position], 0)
        self._num_read = len(token_ids)

    def _table(self, tree: DraftTree) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """(U,) the tokens that occur, the committed ones first, and (N + 1, U) how often before each row's choice."""
        fresh = dict.fromkeys(token_id for token_id in tree.token_ids if token_id not in self._counts)
        columns = np.array([*self._counts, *fresh], dtype=np.int64)
        place = {token_id: column for column, token_id in enumerate(columns.tolist())} if tree.num_nodes else {}
        counts = np.zeros((tree.num_nodes + 1, len(columns)), dtype=np.float32)
        counts[0, : len(self._counts)] = list(self._counts.values())
        for node, (token_id, parent) in enumerate(zip(tree.token_ids, tree.parents, strict=True)):
            counts[node + 1] = counts[parent + 1]
            counts[node + 1, place[token_id]] += 1
        return columns, counts
