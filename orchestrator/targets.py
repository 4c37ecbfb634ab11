"""A target model, and which of its replicas a prompt goes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from tokenizers import Tokenizer

from draftpool.errors import UnknownModel
from draftpool.v1 import verifier_pb2
from draftpool.vocabulary import Vocabulary
from draftpool.wire import vocabulary_from_wire
from orchestrator.prefixes import PrefixIndex
from orchestrator.replicas import Replica, VerifierReplica, choosable
from orchestrator.round_clock import PlainRoundClock
from orchestrator.routing import is_worth_it, power_of_two


@dataclass
class Target:
    """A target model and the replicas that serve it.

    Attributes:
        prefixes: in which era of which replica it was sent which beginning of a prompt. Another era holds nothing.
        plain_round: what verifying without a draft takes here.
    """

    description: verifier_pb2.DescribeVerifierReply
    vocabulary: Vocabulary
    tokenizer: Tokenizer
    replicas: list[VerifierReplica] = field(default_factory=list)
    prefixes: PrefixIndex[object] = field(default_factory=PrefixIndex)
    plain_round: PlainRoundClock = field(default_factory=PlainRoundClock)

    @property
    def name(self) -> str:
        return self.description.model

    @property
    def is_up(self) -> bool:
        return any(replica.is_up for replica in self.replicas)

    @property
    def identity(self) -> tuple[str, str, str, int, int]:
        """What must be the same of all replicas, so that it does not matter which one a request gets."""
        told = self.description
        fingerprint = self.vocabulary.fingerprint
        return told.architecture, told.dtype, fingerprint, told.max_context_tokens, told.max_tree_nodes

    @cached_property
    def max_prompt_bytes(self) -> int:
        """No text beyond this can have few enough tokens, special ones written out among them."""
        added = (token.content.encode() for token in self.tokenizer.get_added_tokens_decoder().values())
        return self.description.max_context_tokens * max(map(len, chain(self.vocabulary.token_bytes, added)))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt, with the special tokens that the tokenizer puts around it.

        For long texts call it on a thread of its own; the batch call is the one that lets others run meanwhile.
        """
        return tuple(self.tokenizer.encode_batch([text])[0].ids)

    def choose_replica(self, token_ids: Sequence[int], *, avoid: Collection[Replica] = frozenset()) -> VerifierReplica:
        """The replica that holds the longest beginning of a text, unless it is much busier than another; else power
        of two choices. The replica is taken to hold the text from now on.

        Args:
            avoid: taken only where no other is up.

        Raises:
            Unavailable: none is up.
        """
        candidates = {replica.era: replica for replica in choosable(self.replicas, avoid)}
        loads = {era: replica.load for era, replica in candidates.items()}
        era = self.prefixes.longest_match(token_ids, candidates)
        if era is None or not is_worth_it(loads[era], list(loads.values())):
            era = power_of_two(list(candidates), loads.__getitem__)
        self.prefixes.record(token_ids, era)
        return candidates[era]


def described_target(description: verifier_pb2.DescribeVerifierReply) -> Target:
    """Raises BadParameter for a vocabulary that does not fit its fingerprint, UnknownModel for a bad tokenizer."""
    try:
        tokenizer = Tokenizer.from_str(description.tokenizer_json.decode())
    except Exception as error:  # tokenizers raises nothing more precise
        raise UnknownModel(f"its tokenizer cannot be read: {error}") from error
    # A prompt that is too long is refused, never cut.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Target(description, vocabulary_from_wire(description.vocabulary), tokenizer)
