"""Nested trees: what is read off a large tree is what the small one would have been, drawn for itself."""

import random
from collections.abc import Sequence
from statistics import mean

import pytest

from draftpool.tree import NO_DRAFT, ROOT, DraftTree, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy
from orchestrator.acceptance import accept_path
from orchestrator.bandit.nesting import Lesson, VerifiedTree, is_nested, nested_lessons, part_of

PAPER = TreeShape((3, 2, 2, 1, 1))
POLICIES: Sequence[TreePolicy] = (
    NO_DRAFT,
    *map(chain, range(1, 6)),
    TreeShape((2, 2)),
    TreeShape((2, 1, 3)),
    PAPER,
    *(BestFirst(nodes, depth) for nodes in (1, 3, 8, 20) for depth in (1, 2, 5, 9)),
)
NESTED = [(inner, outer) for outer in POLICIES for inner in POLICIES if is_nested(inner, outer)]
NUM_TOKENS = 5


def values_after(path: tuple[int, ...], world: int) -> dict[int, float]:
    """A drafter that is as sure of what may follow a path as it happens to be."""
    rng = random.Random(f"{world} {path}")
    weights = {token_id: rng.random() ** 2 for token_id in range(NUM_TOKENS)}
    return {token_id: weight / sum(weights.values()) for token_id, weight in weights.items()}


def drawn(policy: TreePolicy, world: int) -> DraftTree:
    """The policy's tree by its definition, as drafters send it."""
    found: list[tuple[int, ...]] = []
    if isinstance(policy, BestFirst):
        waiting = {(): 1.0}
        while waiting and len(found) < policy.max_nodes:
            path = max(waiting, key=lambda path: (waiting[path], path))
            value = waiting.pop(path)
            if path:
                found.append(path)
            if len(path) < policy.max_depth:
                waiting |= {(*path, token_id): value * share for token_id, share in values_after(path, world).items()}
    else:
        level: list[tuple[int, ...]] = [()]
        for num_children in policy.branching:
            ranked = [(path, sorted(values_after(path, world).items(), key=lambda entry: -entry[1])) for path in level]
            level = [(*path, token_id) for path, best in ranked for token_id, _ in best[:num_children]]
            found += level
    index_of = {(): ROOT} | {path: index for index, path in enumerate(found)}
    return DraftTree(tuple(path[-1] for path in found), tuple(index_of[path[:-1]] for path in found))


def paths(tree: DraftTree, nodes: Sequence[int]) -> set[tuple[int, ...]]:
    return {tuple(tree.token_ids[above] for above in tree.ancestors(node)) for node in nodes}


def verified(policy: TreePolicy, tree: DraftTree, world: int) -> VerifiedTree:
    """Against a target that says what the drafter thinks likely, more or less."""
    rng = random.Random(world)
    text: list[int] = []
    for _ in range(10):
        likely = values_after(tuple(text), world)
        text.append(rng.choices(list(likely), [share**2 for share in likely.values()])[0])
    chosen = [text[0]]
    for node in range(tree.num_nodes):
        path = [tree.token_ids[above] for above in tree.ancestors(node)]
        chosen.append(text[len(path)] if path == text[: len(path)] else 0)
    path = accept_path(tree, chosen)
    return VerifiedTree(policy, tree, path.nodes, len(path.token_ids))


@pytest.mark.parametrize(("inner", "outer"), NESTED, ids=str)
def test_a_nested_policys_tree_is_the_part_that_is_read_off(inner: TreePolicy, outer: TreePolicy) -> None:
    for world in range(20):
        large, small = drawn(outer, world), drawn(inner, world)
        assert paths(large, sorted(part_of(large, inner))) == paths(small, range(small.num_nodes))


@pytest.mark.parametrize(("inner", "outer"), NESTED, ids=str)
def test_a_lesson_is_what_playing_the_policy_would_have_taught(inner: TreePolicy, outer: TreePolicy) -> None:
    for world in range(20):
        learned = nested_lessons(verified(outer, drawn(outer, world), world), [inner])
        played = nested_lessons(verified(inner, drawn(inner, world), world), [inner])
        assert learned == played


def test_lessons_from_others_are_unbiased_and_those_from_trees_that_are_not_nested_would_not_be() -> None:
    small, large = chain(3), BestFirst(8, 5)
    played = [nested_lessons(verified(small, drawn(small, world), world), [small])[0] for world in range(2000)]
    from_tree = [nested_lessons(verified(PAPER, drawn(PAPER, world), world), [small])[0] for world in range(2000)]
    assert mean(own.num_tokens for own in from_tree) == mean(own.num_tokens for own in played)
    assert nested_lessons(verified(large, drawn(large, 0), 0), [small]) == []
    held = [own for world, own in enumerate(played) if _holds(drawn(large, world), drawn(small, world))]
    assert mean(own.num_tokens for own in held) > 1.1 * mean(own.num_tokens for own in played)


def _holds(large: DraftTree, small: DraftTree) -> bool:
    return len(large.walk(small.token_ids)) == small.num_nodes


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (chain(3), BestFirst(8, 5)),
        (BestFirst(3, 3), PAPER),
        (chain(6), PAPER),
        (TreeShape((2, 3)), PAPER),
        (BestFirst(8, 5), BestFirst(16, 4)),
        (BestFirst(8, 4), BestFirst(16, 5)),  # which may have spent on the fifth level what the fourth would get
        (BestFirst(9, 4), BestFirst(8, 9)),
    ],
    ids=str,
)
def test_nothing_else_is_nested(inner: TreePolicy, outer: TreePolicy) -> None:
    assert not is_nested(inner, outer)


def test_a_text_that_ends_within_the_round_ends_for_all() -> None:
    tree = DraftTree((1, 2, 3), (ROOT, 0, 1))
    ended = VerifiedTree(chain(3), tree, (0, 1, 2), num_tokens=2)
    assert [lesson.num_tokens for lesson in nested_lessons(ended, [NO_DRAFT, chain(1), chain(2), chain(3)])] == [
        1,
        2,
        2,
        2,
    ]


def test_a_tree_that_came_back_smaller_is_smaller_for_all() -> None:
    short = VerifiedTree(chain(4), DraftTree((1, 2), (ROOT, 0)), (0, 1), num_tokens=3)
    assert nested_lessons(short, [chain(1), chain(3)]) == [Lesson(chain(1), 2, 1, 1), Lesson(chain(3), 3, 2, 2)]


def test_a_policy_that_was_cut_teaches_what_is_nested_in_what_is_left() -> None:
    cut = PAPER.no_deeper_than(2)
    told = nested_lessons(verified(cut, drawn(cut, 0), 0), [chain(2), chain(3), PAPER])
    assert [lesson.policy for lesson in told] == [chain(2)]
