"""The target vocabularies that this replica has been given, and the drafter's own."""

from __future__ import annotations

from collections import OrderedDict

from drafter_service.mamba.weights import RecurrentWeights
from drafter_service.vocabulary.bridge import VocabularyBridge
from drafter_service.vocabulary.tokenizer_file import TokenizerFile
from draftpool.errors import UnknownVocabulary
from draftpool.vocabulary import Vocabulary


class BridgeRegistry:
    """Bridges by the fingerprint of the target's vocabulary; the least recently used goes first.

    A session keeps its bridge for its life, registered or not.
    """

    def __init__(self, max_vocabularies: int) -> None:
        self._max_vocabularies = max_vocabularies
        self._bridges: OrderedDict[str, VocabularyBridge] = OrderedDict()

    def add(self, bridge: VocabularyBridge) -> None:
        self._bridges[bridge.target.fingerprint] = bridge
        self._bridges.move_to_end(bridge.target.fingerprint)
        while len(self._bridges) > self._max_vocabularies:
            self._bridges.popitem(last=False)

    def get(self, fingerprint: str) -> VocabularyBridge:
        """Raises UnknownVocabulary."""
        bridge = self._bridges.get(fingerprint)
        if bridge is None:
            raise UnknownVocabulary(
                f"this drafter holds no vocabulary {fingerprint!r}; call RegisterVocabulary, then open the stream again"
            )
        self._bridges.move_to_end(fingerprint)
        return bridge


def drafter_vocabulary(tokenizer: TokenizerFile, weights: RecurrentWeights) -> Vocabulary:
    """The drafter's own vocabulary; what ends a text is the model's word, else the tokenizer's.

    Raises:
        ModelNotServable: the tokenizer is of a kind whose tokens' bytes cannot be known, or not this model's.
    """
    return Vocabulary.from_tokenizer_json(
        tokenizer.json,
        vocab_size=weights.vocab_size,
        eos_token_ids=weights.eos_token_ids or tokenizer.eos_token_ids,
    )
