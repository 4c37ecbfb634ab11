"""The laws of the rejection rule, by enumeration: every draft that can be drawn, with its exact probability."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import MalformedTree
from draftpool.tree import EMPTY_TREE, ROOT, DraftTree
from orchestrator.rejection import SiblingOdds, accept_drawn_path, rejection_uniforms, sibling_odds
from orchestrator.sparse_laws import SparseLaws
from orchestrator.target_laws import TargetLaws

Law = dict[int, Fraction]
VOCAB_SIZE = 5
OUTSIDE = -1
"""Stands for all tokens outside of the support; the rule does not tell them apart."""


def law_of(weights: list[int]) -> Law:
    return {token_id: Fraction(weight, sum(weights)) for token_id, weight in enumerate(weights) if weight}


def draws(draft: Law, num_siblings: int) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """All ways to draw siblings without replacement, and how probable each is."""
    for drawn in permutations(draft, min(num_siblings, len(draft))):
        left = [1 - sum((draft[token_id] for token_id in drawn[:place]), Fraction(0)) for place in range(len(drawn))]
        yield drawn, prod((draft[x] / mass for x, mass in zip(drawn, left, strict=True)), start=Fraction(1))


def exact_odds(drawn: tuple[int, ...], draft: Law, target: Law) -> SiblingOdds:
    """By the code under test, in rational numbers."""
    support = list(draft)
    inside = np.array([target.get(token_id, Fraction(0)) for token_id in support], dtype=object)
    draft_probs = np.array(list(draft.values()), dtype=object)
    outside = Fraction(1) - sum(inside, Fraction(0))
    return sibling_odds([support.index(token_id) for token_id in drawn], draft_probs, inside, outside)


def emitted_law(draft: Law, target: Law, num_siblings: int) -> Law:
    """Of the token after a node, over all drafts and all that can become of them."""
    emitted: Counter[int] = Counter()
    for drawn, chance in draws(draft, num_siblings):
        odds = exact_odds(drawn, draft, target)
        for token_id, accept_prob in zip(drawn, odds.accept_probs, strict=False):
            emitted[token_id] += chance * accept_prob
            chance *= 1 - accept_prob
        for token_id, share in zip([*draft, OUTSIDE], [*odds.residual, odds.outside], strict=True):
            emitted[token_id] += chance * share
    return {token_id: share for token_id, share in emitted.items() if share}


def folded(target: Law, draft: Law) -> Law:
    """The target's law with everything outside of the draft's support taken together."""
    inside = {token_id: share for token_id, share in target.items() if token_id in draft}
    outside = 1 - sum(inside.values(), Fraction(0))
    return inside | ({OUTSIDE: outside} if outside else {})


weights = st.lists(st.integers(0, 9), min_size=VOCAB_SIZE, max_size=VOCAB_SIZE).filter(any)


@given(weights, weights, st.integers(0, VOCAB_SIZE))
def test_what_is_emitted_follows_the_targets_law_exactly_whatever_the_draft(draft, target, num_siblings) -> None:
    """In rational numbers: no tolerance, no luck."""
    laws = law_of(draft), law_of(target)
    assert emitted_law(*laws, num_siblings) == folded(laws[1], laws[0])


@pytest.mark.parametrize(
    ("draft", "target"),
    [
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]),  # the support covers everything
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),  # the same law
        ([3, 4, 0, 0, 0], [0, 0, 1, 1, 1]),  # nothing in common
        ([0, 0, 0, 7, 0], [1, 1, 1, 1, 1]),  # one token to draw
        ([1, 1, 1, 1, 1], [0, 0, 0, 7, 0]),  # one token to choose
        ([10**12, 1, 1, 0, 0], [1, 1, 10**12, 1, 0]),  # a draft that is sure, and wrong
    ],
)
@pytest.mark.parametrize("num_siblings", [0, 1, 2, 3, 5])
def test_extreme_laws_are_no_exception(draft, target, num_siblings) -> None:
    laws = law_of(draft), law_of(target)
    assert emitted_law(*laws, num_siblings) == folded(laws[1], laws[0])


def test_a_draft_by_the_targets_own_law_is_always_accepted() -> None:
    law = law_of([1, 2, 3, 4, 5])
    assert all(exact_odds((token_id,), law, law).accept_probs == (1,) for token_id in law)


def test_when_all_tokens_were_drawn_one_is_accepted() -> None:
    draft, target = law_of([1, 2, 3, 4, 5]), law_of([5, 1, 1, 1, 9])
    for drawn, _ in draws(draft, VOCAB_SIZE):
        accept_probs = exact_odds(drawn, draft, target).accept_probs
        assert prod(1 - accept_prob for accept_prob in accept_probs) == 0


def test_drawing_with_replacement_would_be_noticed() -> None:
    """The enumeration can fail: siblings drawn otherwise than the rule believes give another law."""
    draft, target = law_of([6, 3, 1]), law_of([2, 4, 4])
    emitted: Counter[int] = Counter()
    for first in draft:
        for second in draft:
            chance = draft[first] * draft[second]
            odds = exact_odds((first, second), draft, target)
            for token_id, accept_prob in zip((first, second), odds.accept_probs, strict=True):
                emitted[token_id] += chance * accept_prob
                chance *= 1 - accept_prob
            for token_id, share in zip(draft, odds.residual, strict=True):
                emitted[token_id] += chance * share
    assert dict(emitted) != target


@given(
    st.lists(st.floats(1e-30, 1), min_size=4, max_size=4),
    st.lists(st.floats(0, 1) | st.just(0.0), min_size=5, max_size=5).filter(lambda target: sum(target) > 1e-3),
)
def test_in_float64_rounding_neither_breaks_the_odds_nor_brings_what_cannot_be(draft, target) -> None:
    *inside, outside = np.array(target) / sum(target)
    odds = sibling_odds([2, 0, 3], np.array(draft), np.array(inside), outside)
    assert all(0 <= accept_prob <= 1 for accept_prob in odds.accept_probs)
    assert odds.residual.sum() + odds.outside == pytest.approx(1)
    for uniform in (0.0, 0.3, np.nextafter(1, 0)):
        place = odds.place(float(uniform))
        assert target[4 if place is None else place] > 0


def test_laws_that_differ_by_rounding_alone_leave_something_to_choose() -> None:
    law = np.array([0.1, 0.2, 0.7])
    odds = sibling_odds([1], law * (1 + 2e-16), law * (1 - 2e-16), 0.0)
    assert odds.residual.sum() == pytest.approx(1)
    assert odds.place(0.999) == 2


def test_after_a_sibling_that_was_nearly_sure_the_next_ones_odds_are_still_right() -> None:
    """1 minus its probability would have lost the rest to rounding."""
    draft = np.array([1.0, 3e-30, 1e-30])
    odds = sibling_odds([0, 1], draft, np.array([0.0, 0.6, 0.4]), 0.0)
    assert odds.accept_probs == pytest.approx((0, 0.6 / 0.75))
    np.testing.assert_allclose(odds.residual, [0, 0, 1])


def test_siblings_too_improbable_for_the_wire_are_left_untried() -> None:
    odds = sibling_odds([0, 1], np.array([1.0, 0.0]), np.array([0.0, 0.5]), 0.5)
    assert odds.accept_probs == (0,)
    np.testing.assert_allclose([*odds.residual, odds.outside], [0, 0.5, 0.5])


#       4       2
#      / \      |
#     0   1     3
TREE = DraftTree((4, 2, 0, 1, 3), (ROOT, ROOT, 0, 0, 1))
LENGTHS = [3, 2, 1, 0, 0, 0]
DRAFT = SparseLaws(
    np.concatenate([[0], np.cumsum(LENGTHS)]), np.array([2, 4, 1, 1, 0, 3]), np.array([0.3, 0.5, 0.2, 0.5, 0.5, 1])
)


def target_laws(*inside: float) -> TargetLaws:
    """The last of each row's mass lies outside, where the target's tokens are 100 and up."""
    laws = SparseLaws(DRAFT.offsets, DRAFT.token_ids, np.array(inside))
    rows = np.repeat(np.arange(6), LENGTHS)
    outside = 1 - np.bincount(rows, weights=laws.probs, minlength=6)
    return TargetLaws(laws, outside, (100, 101, 102, 103, 104, 105))


def test_a_walk_tries_siblings_in_turn_and_goes_down_from_the_one_accepted() -> None:
    target = target_laws(0.15, 0.25, 0.1, 0.1, 0.4, 0.7)  # root: 0.5 outside; under node 0: 0.5; under node 1: 0.3
    uniforms = np.array([[0.49, 0.0, 0.0], [0.79, 0.0, 0.0], [0.5, 0.5, 0.5]])
    path = accept_drawn_path(TREE, DRAFT, target, uniforms)
    assert (path.nodes, path.token_ids, path.rows) == ((0, 2), (4, 0, 103), (0, 1, 3))
    uniforms[0, 0] = 0.51  # node 0 carries 4: 0.25 / 0.5
    path = accept_drawn_path(TREE, DRAFT, target, uniforms)
    # What is left of the root's law is all outside, so that the second sibling cannot be accepted.
    assert (path.nodes, path.token_ids) == ((), (100,))


def test_the_last_token_comes_from_the_residual_in_the_support_or_outside() -> None:
    target = target_laws(0.1, 0.0, 0.6, 0.5, 0.5, 1.0)  # root: 0.3 outside; the draft has too little of token 1
    sure_to_fail = np.full((3, 3), 0.999)
    # After token 4: 4/7 for token 1, 3/7 outside. After token 2, drawn from 3/5 and 2/5: 6/21 and 15/21.
    for uniform, token_id in ((0.0, 1), (0.28, 1), (0.29, 100), (0.9, 100)):
        sure_to_fail[0, 2] = uniform
        path = accept_drawn_path(TREE, DRAFT, target, sure_to_fail)
        assert (path.nodes, path.token_ids) == ((), (token_id,))


def test_the_empty_tree_yields_the_targets_own_token() -> None:
    laws = TargetLaws(SparseLaws.empty(1), np.array([1.0]), (7,))
    path = accept_drawn_path(EMPTY_TREE, SparseLaws.empty(1), laws, np.array([[0.3]]))
    assert (path.nodes, path.token_ids) == ((), (7,))


def test_laws_of_another_tree_are_refused() -> None:
    laws = TargetLaws(SparseLaws.empty(1), np.array([1.0]), (7,))
    with pytest.raises(MalformedTree, match="5 nodes came with laws for 1 rows"):
        accept_drawn_path(TREE, SparseLaws.empty(1), laws, np.zeros((3, 3)))


def test_chance_is_a_function_of_seed_position_and_sibling() -> None:
    """A walk that begins a token later, with another tree, decides by the same numbers where positions are the same."""
    early, late = rejection_uniforms(9, 20, TREE), rejection_uniforms(9, 21, DraftTree((1,), (ROOT,)))
    assert early.shape == (3, 3)
    np.testing.assert_array_equal(early[1:, :2], late)
    assert not np.isin(early, rejection_uniforms(10, 20, TREE)).any()
