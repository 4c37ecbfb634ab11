"""From a batch's logits to the tokens the target chooses, session by session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from draftpool.choice import coupled_scores, gumbel_rows
from draftpool.errors import DraftpoolError
from draftpool.noise import GumbelRows
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from verifier_service.device_noise import gumbel_noise
from verifier_service.grammar import GrammarState
from verifier_service.masks import Masks
from verifier_service.penalties import Penalties
from verifier_service.sortless import best_under_noise
from verifier_service.support import Support
from verifier_service.transfer import to_device
from verifier_service.weighing import weigh


class Chooser:
    """How one session's logits become tokens: its parameters, its noise, and what they need of its past.

    Holds nothing that the committed tokens do not determine: a session opened again with all of them chooses alike.

    Args:
        num_prompt_tokens: the answer begins behind them; None takes the first question's tokens for the prompt.
        eos_token_ids: of the target.
        unused_token_ids: stand for nothing; their logits are -inf already.
        grammar: what the answer is held to, of `params.grammar`.

    Attributes:
        params: as the request gave them.
        num_top_logprobs: of the most probable tokens, reported for every choice; 0 for none.

    Raises:
        BadParameter: nothing could ever be chosen.
        TokenOutOfVocabulary: a parameter names a token that the target does not have.
    """

    def __init__(
        self,
        params: SamplingParams,
        vocab_size: int,
        *,
        num_prompt_tokens: int | None = None,
        num_top_logprobs: int = 0,
        eos_token_ids: Sequence[int] = (),
        unused_token_ids: Sequence[int] = (),
        grammar: GrammarState | None = None,
    ) -> None:
        params.require_vocabulary(vocab_size)
        self.params = params
        self.num_top_logprobs = num_top_logprobs
        self.noise = None if params.is_greedy else GumbelRows(params.seed, vocab_size)
        self._num_prompt_tokens = num_prompt_tokens
        self._grammar = grammar
        self._masks = (
            Masks(params, vocab_size, eos_token_ids=eos_token_ids, unused_token_ids=unused_token_ids, grammar=grammar)
            if params.has_masks
            else None
        )
        self._biased_ids = torch.tensor([token_id for token_id, _ in params.logit_bias], dtype=torch.int64)
        self._biases = torch.tensor([bias for _, bias in params.logit_bias])
        self._penalties = Penalties(params) if params.has_penalties else None

    @property
    def is_plain(self) -> bool:
        """Whether it takes the largest logit as it is."""
        return self.params.is_greedy and not self.params.changes_logits

    def foresee(self, token_ids: Sequence[int], tree: DraftTree) -> None:
        """Compute what the tokens and the tree decide without logits, so that a pass need not wait for it.

        Any thread may do it, while nobody asks this session's next question. Raises as `adjusted` does.
        """
        if self._grammar is not None:
            self._grammar.masks(token_ids, self._answer_start(token_ids), tree)

    def adjusted(self, logits: Tensor, token_ids: Sequence[int], tree: DraftTree) -> Tensor:
        """All that comes before the temperature: masks, bias, penalties, each row's along its own path.

        Args:
            logits: (N + 1, V) float32; not changed.

        Returns:
            (N + 1, V); the same tensor where nothing applies.

        Raises:
            BadParameter: the answer so far is not of the grammar, or the grammar is too complex to go on with.
        """
        num_prompt_tokens = self._answer_start(token_ids)
        if self._masks is not None:
            logits = self._masks.applied(logits, token_ids, num_prompt_tokens, tree)
        if len(self._biases):
            self._biased_ids = to_device(self._biased_ids, logits.device)
            self._biases = to_device(self._biases, logits.device)
            logits = logits.index_add(1, self._biased_ids, self._biases.expand(len(logits), -1))
        if self._penalties is not None:
            logits = self._penalties.applied(logits, token_ids, num_prompt_tokens, tree)
        return logits

    def _answer_start(self, token_ids: Sequence[int]) -> int:
        if self._num_prompt_tokens is None:
            self._num_prompt_tokens = len(token_ids)
        return self._num_prompt_tokens


@dataclass(frozen=True)
class Question:
    """One session's part of a pass.

    Attributes:
        token_ids: all committed tokens of the session; tokens have only been appended since its last question.
        tree: of this pass, N nodes.
        support: for the rejection rule, of a session that samples: what the law is wanted on; None when coupled.
    """

    chooser: Chooser
    token_ids: Sequence[int]
    tree: DraftTree
    want_logprobs: bool = False
    support: Support | None = None

    @property
    def num_rows(self) -> int:
        """One after the last committed token, one after every node."""
        return self.tree.num_nodes + 1


@dataclass(frozen=True)
class Choice:
    """What the target chose.

    Attributes:
        token_ids: N + 1; entry 0 after the last committed token, entry i + 1 after node i. With a support, chosen from
            what is outside of it.
        logprobs: as long where asked for, else empty; under the model's own distribution.
        top_token_ids, top_logprobs: (N + 1) * n, row after row, most probable first; empty where not asked for.
        support_probs: (S,), of the law that tokens are chosen by, on the support.
        outside_probs: N + 1, of all that is outside of it; 0 where nothing is, and the row's token means nothing.
        support_logprobs: (S,) where asked for, as `logprobs`.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    top_token_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    support_probs: tuple[float, ...] = ()
    outside_probs: tuple[float, ...] = ()
    support_logprobs: tuple[float, ...] = ()


_Answer: TypeAlias = dict[str, Tensor]
"""A `Choice` still on the device: those of its attributes that were asked for, each flat."""


def choose_all(logits: Tensor, questions: Sequence[Question]) -> list[Choice | DraftpoolError]:
    """The tokens chosen after the last committed token and after every node of each session's tree.

    Each is an exact sample of the law that the session's parameters make of its row, and a function of (tokens
    so far, seed, parameters) alone: whoever else is in the batch does not matter. The device is read once.

    Args:
        logits: (R, V) float32, R the questions' rows together, question after question; not changed.

    Returns:
        One answer a question; an error where that session cannot go on, which is nobody else's concern.
    """
    num_rows = [question.num_rows for question in questions]
    is_any_plain = any(question.chooser.is_plain for question in questions)
    largest = logits.argmax(dim=-1) if is_any_plain else logits.new_zeros(len(logits), dtype=torch.int64)
    answers: list[_Answer | DraftpoolError] = []
    for question, rows, plain, gumbel in zip(
        questions,
        torch.split(logits, num_rows),
        torch.split(largest, num_rows),
        _gumbels(questions, logits),
        strict=True,
    ):
        try:
            answer = {"token_ids": plain} if question.chooser.is_plain else _choose(rows, question, gumbel)
            answers.append(answer | _logprobs(rows, answer["token_ids"], question))
        except DraftpoolError as error:
            answers.append(error)
    return _read(answers)


def _choose(logits: Tensor, question: Question, gumbel: Tensor | None) -> _Answer:
    chooser = question.chooser
    logits = chooser.adjusted(logits, question.token_ids, question.tree)
    if gumbel is None:
        return {"token_ids": logits.argmax(dim=-1)}
    if question.support is not None:
        return weigh(logits, chooser.params, gumbel, question.support)
    if logits.device.type != "cpu":
        return {"token_ids": coupled_scores(logits, chooser.params, gumbel).argmax(dim=-1)}
    return {"token_ids": best_under_noise(logits, chooser.params, gumbel)}


def _gumbels(questions: Sequence[Question], logits: Tensor) -> list[Tensor | None]:
    """(N + 1, V) a question: the noise of the position that each row chooses for; None for the greedy ones."""
    if logits.device.type == "cpu":
        return [_gumbel(question) for question in questions]
    seeds: list[int] = []
    positions: list[int] = []
    places: list[list[int]] = []
    for question in questions:
        if question.chooser.noise is not None:
            places.append([len(seeds) + depth for depth in (0, *question.tree.depths)])
            seeds += [question.chooser.params.seed] * (question.tree.depth + 1)
            positions += _positions(question)
    noise = gumbel_noise(seeds, positions, logits.shape[-1], logits.device)
    index = to_device(torch.tensor([place for rows in places for place in rows], dtype=torch.int64), logits.device)
    found = iter(torch.split(noise.index_select(0, index), [len(rows) for rows in places]))
    return [None if question.chooser.noise is None else next(found) for question in questions]


def _gumbel(question: Question) -> Tensor | None:
    """On a CPU, where the rows of the last question are remembered."""
    if question.chooser.noise is None:
        return None
    by_depth = gumbel_rows(question.chooser.noise, _positions(question))
    if question.tree.num_nodes == 0:
        return by_depth
    return by_depth.index_select(0, torch.tensor([0, *question.tree.depths]))


def _positions(question: Question) -> list[int]:
    """Of the tokens chosen at each depth; nodes of one depth share theirs."""
    next_position = len(question.token_ids)
    return list(range(next_position, next_position + question.tree.depth + 1))


def _logprobs(logits: Tensor, chosen: Tensor, question: Question) -> _Answer:
    """The log-probabilities asked for, under the target's own distribution."""
    num_top = question.chooser.num_top_logprobs
    if not (question.want_logprobs or num_top):
        return {}
    log_totals = logits.logsumexp(dim=-1, keepdim=True)
    found = {"logprobs": (logits.gather(-1, chosen[:, None]) - log_totals)[:, 0]}
    if question.support is not None:
        rows, token_ids = question.support.places(logits.device)
        found["support_logprobs"] = logits[rows, token_ids] - log_totals[rows, 0]
    if num_top:
        top = logits.topk(num_top, dim=-1)
        found |= {"top_token_ids": top.indices.flatten(), "top_logprobs": (top.values - log_totals).flatten()}
    return found


def _read(answers: Sequence[_Answer | DraftpoolError]) -> list[Choice | DraftpoolError]:
    """Bring everything to the CPU at once: ids as int32, logarithms by their bits."""
    parts = [part for answer in answers if not isinstance(answer, DraftpoolError) for part in answer.values()]
    bits = [part.view(torch.int32) if part.is_floating_point() else part.int() for part in parts]
    read = iter(torch.split(torch.cat(bits).cpu(), [len(part) for part in bits]) if bits else ())
    return [
        answer
        if isinstance(answer, DraftpoolError)
        else Choice(**{name: _values(next(read), is_real=part.is_floating_point()) for name, part in answer.items()})
        for answer in answers
    ]


def _values(bits: Tensor, *, is_real: bool) -> tuple[Any, ...]:
    return tuple(bits.view(torch.float32).tolist() if is_real else bits.tolist())
