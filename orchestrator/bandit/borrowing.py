"""What is known of times under one load, lent to another. Pure."""

from __future__ import annotations

from orchestrator.bandit.passes import NodePrice
from orchestrator.bandit.timing import OWN_PASS_NODES, OWN_SECONDS, RoundTimes

_NODES_BEHIND = {"drafted*seconds": "nodes", "nodes*seconds": "nodes*nodes", "depth*seconds": "nodes*depth"}
"""The sum that grows with a node's seconds, and how often it holds them."""


def with_borrowed(own: RoundTimes, lent: RoundTimes, num_rounds: float) -> RoundTimes:
    """Topped up to so many rounds with another load's, at the own node price and the pace of the own rounds.

    A verifier with more to do is slower, but what a level costs beside a plain round differs less; what a node costs
    beside it differs greatly, and passes tell how much.
    """
    lent = _at_price(_at_pace(lent, own.pace(lent) if own.num_rounds > 0 else 1.0), own.node_price)
    share = min(1.0, (num_rounds - own.num_rounds) / lent.num_rounds)
    names = own.sums.keys() | lent.sums.keys()
    return RoundTimes(
        {name: own.sums.get(name, 0.0) + share * lent.sums.get(name, 0.0) for name in names}, own.node_price
    )


def _at_pace(times: RoundTimes, pace: float) -> RoundTimes:
    """The same rounds as if everything had taken so many times as long."""
    sums = {name: pace ** name.count("seconds") * amount for name, amount in times.sums.items()}
    return RoundTimes(sums, times.node_price._replace(seconds=pace * times.node_price.seconds))


def _at_price(times: RoundTimes, price: NodePrice) -> RoundTimes:
    """The same rounds as if a node of a pass had cost what it costs under another load."""
    extra_s, before = price.seconds - times.node_price.seconds, times.sums
    sums = dict(before)
    for seconds, nodes in _NODES_BEHIND.items():
        if seconds in sums:
            sums[seconds] += extra_s * before[nodes]
    for name in before:
        if name.endswith(OWN_SECONDS):
            sums[name] += extra_s * before.get(name.removesuffix(OWN_SECONDS) + OWN_PASS_NODES, 0.0)
    if "nodes*seconds" in sums:
        sums["seconds*seconds"] += extra_s * (2 * before["nodes*seconds"] + extra_s * before["nodes*nodes"])
    return RoundTimes(sums, price)
