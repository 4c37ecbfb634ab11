import subprocess
import sys
from dataclasses import replace

from prometheus_client import REGISTRY

from draftpool.tree import EMPTY_TREE
from orchestrator.generation import Round
from orchestrator.metrics import observe_round
from tests.unit.orchestrator.generating import CHAIN

ROUND = Round(
    shape=CHAIN,
    tree=EMPTY_TREE,
    num_accepted=0,
    num_committed=1,
    tokens=(),
    draft_us=0,
    verify_us=1,
    wire_us=1,
    round_us=2,
    finish=None,
    opened_draft_session=False,
    opened_verify_session=False,
)


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"draftpool_{name}_total", {"target": "counted", **labels}) or 0.0


def test_hedged_rounds_late_drafts_and_sessions_lost_are_counted() -> None:
    for round_ in (
        ROUND,
        replace(ROUND, was_hedged=True),
        replace(ROUND, was_hedged=True, num_drafters_lost=2),
        replace(ROUND, draft_was_late=True, num_verifiers_lost=3),
    ):
        observe_round("counted", round_)
    assert count("rounds", shape=str(CHAIN)) == 4
    assert count("hedged_rounds") == 2
    assert count("late_drafts") == 1
    assert count("failovers", role="drafter") == 2
    assert count("failovers", role="verifier") == 3


def test_without_a_redis_nothing_is_said_of_sharing() -> None:
    program = """
import asyncio
from prometheus_client import generate_latest
import orchestrator.server
from orchestrator.settings import OrchestratorSettings
from orchestrator.sharing.store import open_sums

async def show():
    async with open_sums(OrchestratorSettings(redis_url=None)):
        print(generate_latest().decode())

asyncio.run(show())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "draftpool_rounds_total" in said
    assert "draftpool_sharing" not in said
