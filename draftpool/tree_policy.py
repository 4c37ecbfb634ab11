"""What a drafter can be asked for: a fixed shape, or nodes to spend as it sees fit. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from draftpool.errors import BadParameter
from draftpool.tree import NO_DRAFT, TreeShape

_BEST_FIRST = re.compile(r"best ([1-9]\d{0,5})(?: of depth |x)([1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True)
class BestFirst:
    """A tree policy that spends a number of nodes on the paths most likely to be accepted.

    The drafter estimates how likely each candidate is to be what the target chooses, and grows where the product
    along the path is largest. It may stop early, where another level would hardly be reached.

    Attributes:
        max_nodes: at most so many nodes, at least 1.
        max_depth: and no path longer, at least 1.

    Source: dynamic draft trees as in EAGLE-2, arXiv:2406.16858; here under shared noise.

    Raises:
        BadParameter: either below 1.
    """

    max_nodes: int
    max_depth: int

    def __post_init__(self) -> None:
        if self.max_nodes < 1 or self.max_depth < 1:
            raise BadParameter(
                f"a best-first tree has at least one node and one level, got {self.max_nodes} and {self.max_depth}"
            )

    @property
    def num_nodes(self) -> int:
        """At most."""
        return self.max_nodes

    @property
    def depth(self) -> int:
        """At most."""
        return min(self.max_depth, self.max_nodes)

    def within(self, max_nodes: int) -> TreePolicy:
        """This policy with no more nodes than that."""
        return BestFirst(min(self.max_nodes, max_nodes), self.max_depth) if max_nodes > 0 else NO_DRAFT

    def no_deeper_than(self, max_depth: int) -> TreePolicy:
        return BestFirst(self.max_nodes, min(self.max_depth, max_depth)) if max_depth > 0 else NO_DRAFT

    def __str__(self) -> str:
        return f"best {self.max_nodes} of depth {self.max_depth}"


TreePolicy: TypeAlias = TreeShape | BestFirst


def parse_policy(text: str) -> TreePolicy:
    """`3,2,2,1,1`: how many children every node of each depth has; `best 16x6`: the 16 best nodes, 6 deep at most.

    Raises:
        BadParameter: anything else.
    """
    if budget := _BEST_FIRST.fullmatch(text.strip()):
        return BestFirst(max_nodes=int(budget[1]), max_depth=int(budget[2]))
    factors = [part.strip() for part in text.strip("() ").split(",")]
    if not all(factor.isdecimal() and int(factor) >= 1 for factor in factors):
        raise BadParameter(
            "a shape is the number of children at each depth, from 1 on, such as 3,2,2,1,1, or the nodes and levels "
            f"of a best-first tree, such as best 16x6; got {text!r}"
        )
    return TreeShape(tuple(map(int, factors)))
