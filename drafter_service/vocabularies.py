"""The target vocabularies that this replica has been given, and the drafter's own."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from tokenizers import Tokenizer
from transformers.utils.hub import cached_file

from drafter_service.bridge import VocabularyBridge
from drafter_service.speller import Speller
from drafter_service.weights import MambaWeights
from draftpool.errors import ModelNotServable, UnknownVocabulary
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


def load_speller(model: str, weights: MambaWeights) -> Speller:
    """Read the tokenizer that lies beside a checkpoint.

    Args:
        model: a folder or a hub id.

    Raises:
        ModelNotServable: there is no `tokenizer.json`, or it is of a kind whose tokens' bytes cannot be known.
    """
    try:
        path = cached_file(model, "tokenizer.json")
    except OSError as error:
        raise ModelNotServable(f"{model!r} has no tokenizer.json: {error}") from error
    if path is None:
        raise ModelNotServable(f"{model!r} has no tokenizer.json")
    tokenizer_json = Path(path).read_text(encoding="utf-8")
    vocabulary = Vocabulary.from_tokenizer_json(
        tokenizer_json, vocab_size=weights.vocab_size, eos_token_ids=weights.eos_token_ids
    )
    return Speller(vocabulary, Tokenizer.from_str(tokenizer_json))
