"""What an engine takes, and the checks that a request has to pass before it costs anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftpool.errors import BadParameter, ContextTooLong, EmptyContext, MalformedTree, TokenOutOfVocabulary
from verifier_service.job import VerifyJob
from verifier_service.schedule import PassLimits


@dataclass(frozen=True)
class EngineLimits:
    """How much an engine takes.

    Attributes:
        max_sessions: admitted at the same time; more wait.
        max_context_tokens: committed tokens of a session and the depth of its tree together.
        max_tree_nodes: of one tree.
        of_pass: how large a forward pass may be.
        max_idle_s: a session that is asked nothing for longer may lose its pages to others that need them.

    Raises:
        BadParameter: the largest tree does not fit in a pass beside a prefill chunk.
    """

    max_sessions: int
    max_context_tokens: int
    max_tree_nodes: int
    of_pass: PassLimits
    max_idle_s: float = 5.0

    def __post_init__(self) -> None:
        if self.of_pass.prefill_chunk_tokens + 1 + self.max_tree_nodes > self.of_pass.max_pass_tokens:
            raise BadParameter(
                f"max_pass_tokens ({self.of_pass.max_pass_tokens}) must hold a prefill chunk "
                f"({self.of_pass.prefill_chunk_tokens}), a tree ({self.max_tree_nodes}) and 1 more"
            )

    @property
    def smallest_pass(self) -> PassLimits:
        """In which any session still comes forward."""
        return PassLimits(max_pass_tokens=self.max_tree_nodes + 2, prefill_chunk_tokens=1)

    def check(self, job: VerifyJob, vocab_size: int) -> None:
        """Raises InvalidRequest, of the class that says what is wrong with a job."""
        if not job.committed_token_ids:
            if job.session.token_ids:
                raise BadParameter("every message must commit at least one token")
            raise EmptyContext("the first message of a session must carry the context, at least one token")
        if job.tree.num_nodes > self.max_tree_nodes:
            raise MalformedTree(f"the tree has {job.tree.num_nodes} nodes; this verifier takes {self.max_tree_nodes}")
        for token_ids in (job.committed_token_ids, job.tree.token_ids):
            _check_vocabulary(token_ids, vocab_size)
        if job.support is not None:
            job.support.check(job.tree.num_nodes + 1, vocab_size)
        num_tokens = len(job.session.token_ids) + len(job.committed_token_ids) + job.tree.depth
        if num_tokens > self.max_context_tokens:
            raise ContextTooLong(
                f"{num_tokens} tokens, the tree's depth included, are more than this verifier's "
                f"{self.max_context_tokens}"
            )


def _check_vocabulary(token_ids: Sequence[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise TokenOutOfVocabulary(f"token {token_id} is not one of the model's {vocab_size}")
