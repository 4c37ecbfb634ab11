"""Small tokenizers of every kind that real models have, trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from draftpool.vocabulary import Vocabulary

MARK = "\u2581"
SPECIAL = ["<unk>", "<s>", "</s>"]
EOS = 2
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = {
    "cats": [
        "the cat sat on the mat, naïve café; the hat\n",
        "def f(x):\n    return  x + 1\n",
        "cats category catalogue concatenate hats hatter that chat mats matter format thematic cafés naïveté",
    ],
    "shells": [
        "she sells seashells on the sea shore; the shells she sells are sea shells, señor\n",
        "if  the   shore",
        "seller selling reseller shelled shelling ashore shores offshore seashore señora señores",
    ],
}


def byte_level(text: list[str], *, add_prefix_space: bool = False) -> Tokenizer:
    """GPT-2, Llama 3; with a prefix space, RoBERTa."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text * 3, trainer)
    return tokenizer


def neox(text: list[str]) -> Tokenizer:
    """Byte-level, normalised, with runs of spaces as added tokens."""
    tokenizer = byte_level(text)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * num_spaces, normalized=True) for num_spaces in range(2, 6)])
    return tokenizer


def marked_bpe(text: list[str], normalizer: Any, pre_tokenizer: Any, *, strips: bool = True) -> Tokenizer:
    """SentencePiece's BPE as it is converted, with a token for every byte."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    steps = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=[*SPECIAL, *BYTE_TOKENS], max_token_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(text * 3, trainer)
    return without_added(tokenizer, BYTE_TOKENS)


def llama_2(text: list[str]) -> Tokenizer:
    return marked_bpe(text, normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]), None)


def mistral(text: list[str], prepend_scheme: str = "first") -> Tokenizer:
    return marked_bpe(text, None, pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False))


def gemma(text: list[str]) -> Tokenizer:
    """Nothing is put before a text; runs of marks and newlines are added tokens that the model has too."""
    split = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer = marked_bpe(text, normalizers.Replace(" ", MARK), split, strips=False)
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in (MARK * 2, MARK * 3, "\n\n", "<table>")])
    return tokenizer


def unigram(text: list[str], pre_tokenizer: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, max_piece_length=8
    )
    tokenizer.train_from_iterator(text * 3, trainer)
    return tokenizer


def t5(text: list[str]) -> Tokenizer:
    """No byte tokens; white space is folded, characters are rewritten."""
    tokenizer = unigram(text, pre_tokenizers.Metaspace(prepend_scheme="always"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def unigram_with_bytes(text: list[str]) -> Tokenizer:
    tokenizer = unigram(text, pre_tokenizers.Metaspace(prepend_scheme="first"))
    description = json.loads(tokenizer.to_str())
    pieces = description["model"]["vocab"]
    description["model"]["vocab"] = pieces[:3] + [[token, -20.0] for token in BYTE_TOKENS] + pieces[3:]
    description["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    return tokenizer


KINDS: dict[str, Callable[[list[str]], Tokenizer]] = {
    "byte_level": byte_level,
    "byte_level_with_prefix": lambda text: byte_level(text, add_prefix_space=True),
    "neox": neox,
    "llama_2": llama_2,
    "mistral": mistral,
    "always_prepending": lambda text: mistral(text, "always"),
    "never_prepending": lambda text: mistral(text, "never"),
    "gemma": gemma,
    "t5": t5,
    "unigram_with_bytes": unigram_with_bytes,
}
SAYS_ALL_BYTES = [kind for kind in KINDS if kind != "t5"]
REWRITES_TEXT = {"neox", "t5"}
WRITES_MARKS = set(KINDS) - {"byte_level", "byte_level_with_prefix", "neox"}
PUTS_A_SPACE_FIRST = {
    "byte_level_with_prefix",
    "llama_2",
    "mistral",
    "always_prepending",
    "t5",
    "unigram_with_bytes",
}


def tokenizer_of(kind: str, text: str = "cats") -> Tokenizer:
    return _trained(kind, text)


def vocabulary_of(kind: str, text: str = "cats") -> Vocabulary:
    return _read(kind, text)


@cache
def _trained(kind: str, text: str) -> Tokenizer:
    return KINDS[kind](TEXTS[text])


@cache
def _read(kind: str, text: str) -> Vocabulary:
    tokenizer = _trained(kind, text)
    return Vocabulary.from_tokenizer_json(
        tokenizer.to_str(), vocab_size=tokenizer.get_vocab_size(), eos_token_ids=[EOS]
    )


def said(vocabulary: Vocabulary, token_ids: list[int]) -> bytes:
    return b"".join(vocabulary.token_bytes[token_id] for token_id in token_ids)


def without_added(tokenizer: Tokenizer, contents: list[str]) -> Tokenizer:
    """The same, these tokens known to its model alone."""
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = [a for a in description["added_tokens"] if a["content"] not in contents]
    return Tokenizer.from_str(json.dumps(description))
