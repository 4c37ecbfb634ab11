"""Holding a text to a JSON schema, a regular expression or a grammar: which tokens may come next, along every path.

The parsing is llguidance's (https://github.com/guidance-ai/llguidance). A session's state is a matcher that has
consumed the committed answer; the nodes of a tree are tried and taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import fill_next_token_bitmask

from draftpool.errors import BadParameter
from draftpool.sampling import Grammar
from draftpool.tree import DraftTree
from draftpool.vocabulary import Vocabulary

BitArray = npt.NDArray[np.int32]

_MAX_COMPILED = 64
_LIMITS = LLParserLimits(step_max_items=10_000, verbose_errors=False)
"""Of one token's mask: some milliseconds at the very worst."""

_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,32}"
"""Between the parts of JSON. With a bound, so that a text is when its schema is; weak models like to go on for ever."""

_LEAVE = -1


class GrammarCompiler:
    """Makes grammars into states for one target's vocabulary, and remembers the last 64 compiled. Safe for threads."""

    def __init__(self, vocabulary: Vocabulary, tokenizer_json: str) -> None:
        self._vocabulary = vocabulary
        self._tokenizer_json = tokenizer_json
        self._compiled = lru_cache(_MAX_COMPILED)(self._compile)

    def start(self, grammar: Grammar) -> GrammarState:
        """A state before the first token. A new grammar takes milliseconds, up to a second: not for an event loop.

        Raises:
            BadParameter: the grammar is wrong, or more complex than the library takes, as it says; or the target has no
                token to end a text with.
        """
        if not self._vocabulary.eos_token_ids:
            raise BadParameter("the model has no token to end a text with, so it cannot be held to a grammar")
        return GrammarState(self._compiled(grammar).deep_copy(), self._vocabulary)

    def _compile(self, grammar: Grammar) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, _library_grammar(grammar), log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise BadParameter(f"the {grammar.kind} cannot be compiled: {_sentence(matcher.get_error())}")
        return matcher

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        """Made with the first grammar. Where that leaves one text only, the text's usual tokens alone are allowed."""
        eos_token_ids = list(self._vocabulary.eos_token_ids)
        return LLTokenizer(self._tokenizer_json, n_vocab=len(self._vocabulary), eos_token=eos_token_ids)


class GrammarState:
    """How far one session's answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary) -> None:
        self._matcher = matcher
        self._eos_token_ids = frozenset(vocabulary.eos_token_ids)
        self._vocab_size = len(vocabulary)
        self._end = _bits(vocabulary.eos_token_ids, len(vocabulary))
        self._num_read = 0
        self._has_ended = False
        self._last: tuple[int, DraftTree, BitArray] | None = None

    def masks(self, token_ids: Sequence[int], num_prompt_tokens: int, tree: DraftTree) -> BitArray:
        """What may come after the last committed token and after every node.

        The walk goes depth first and takes every step back; asked again for the same, it is not walked again. Behind a
        node that the grammar refuses nothing is masked: its row can never be reached.

        Args:
            token_ids: all committed tokens; those behind the prompt are the answer.

        Returns:
            (N + 1, W) int32: bit v % 32 of word v // 32 says whether token v may come.

        Raises:
            BadParameter: the answer is not of the grammar, or the grammar is too complex to go on with.
        """
        if self._last is not None and self._last[:2] == (len(token_ids), tree):
            return self._last[2]
        self._read(token_ids, max(num_prompt_tokens, self._num_read))
        masks = np.full((tree.num_nodes + 1, len(self._end)), -1, dtype=np.int32)
        has_ended = [self._has_ended]
        children: list[list[int]] = [[] for _ in range(tree.num_nodes + 1)]
        for node, (token_id, parent) in enumerate(zip(tree.token_ids, tree.parents, strict=True)):
            has_ended.append(has_ended[parent + 1] or token_id in self._eos_token_ids)
            if not has_ended[-1]:
                children[parent + 1].append(node)
        masks[has_ended] = self._end
        if not self._has_ended:
            self._walk(tree, children, masks)
        self._last = len(token_ids), tree, masks
        return masks

    def _read(self, token_ids: Sequence[int], first: int) -> None:
        """Consume the answer's tokens from `first` on."""
        for position in range(first, len(token_ids)):
            token_id = token_ids[position]
            if token_id in self._eos_token_ids:
                self._has_ended = True
            elif self._has_ended or not self._consumes(token_id):
                raise BadParameter(f"token {token_id} at position {position} is not what the grammar allows there")
        self._num_read = len(token_ids)

    def _walk(self, tree: DraftTree, children: Sequence[Sequence[int]], masks: BitArray) -> None:
        self._fill(masks, 0)
        ahead = list(children[0])
        while ahead:
            node = ahead.pop()
            if node == _LEAVE:
                self._matcher.rollback(1)
            elif self._consumes(tree.token_ids[node]):
                self._fill(masks, node + 1)
                ahead += [_LEAVE, *children[node + 1]]

    def _consumes(self, token_id: int) -> bool:
        is_known = 0 <= token_id < self._vocab_size  # the library breaks on others
        return is_known and not self._matcher.is_stopped() and self._matcher.try_consume_tokens([token_id]) == 1

    def _fill(self, masks: BitArray, row: int) -> None:
        """Raises BadParameter when the library gives up."""
        if self._matcher.is_stopped() and not self._matcher.is_error():
            masks[row] = self._end
            return
        fill_next_token_bitmask(self._matcher, masks, row)
        if self._matcher.is_error():
            raise BadParameter(f"the grammar is too complex: {_sentence(self._matcher.get_error())}")
        if self._matcher.is_accepting():
            masks[row] |= self._end


def _library_grammar(grammar: Grammar) -> str:
    try:
        match grammar.kind:
            case "json_schema":
                return LLMatcher.grammar_from_json_schema(grammar.source, defaults={"whitespace_pattern": _WHITESPACE})
            case "regex":
                return LLMatcher.grammar_from_regex(grammar.source)
            case "lark":
                return LLMatcher.grammar_from_lark(grammar.source)
    except ValueError as error:
        raise BadParameter(f"the {grammar.kind} cannot be read: {_sentence(str(error))}") from None


def _bits(token_ids: Sequence[int], vocab_size: int) -> BitArray:
    """(W,) int32 with the bits of these tokens."""
    flags = np.zeros(-(-vocab_size // 32) * 32, dtype=np.uint8)
    flags[list(token_ids)] = 1
    return np.packbits(flags, bitorder="little").view(np.int32)


def _sentence(message: str) -> str:
    """The library's message without its drawing: the first line, and the one that says what is wrong."""
    first, *others = message.strip().splitlines() or [""]
    causes = [line.removeprefix("error: ") for line in others if line.startswith("error: ")]
    return ": ".join([first.rstrip(": "), *causes])
