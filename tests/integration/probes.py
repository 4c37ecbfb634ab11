"""Looking into running services from outside, by the gauges that an operator would look at."""

import asyncio
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from draftpool.cli.stack import Stack

QUESTION = "Question: Tom has 12 marbles. He buys 3 bags of 8 marbles each. How many marbles does he have?\nAnswer:"

_FAILOVERS = "draftpool_failovers_total"
_POOL = "draftpool_pool_replicas"
_SESSIONS = {"draftpool_drafter_sessions", "draftpool_verifier_sessions"}
_MEMORY = {"draftpool_drafter_state_slots_used", "draftpool_verifier_kv_pages_held"}


def _samples(address: str) -> list[Sample]:
    with urlopen(f"http://{address}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
        return [sample for family in families for sample in family.samples]


def _gauges(address: str) -> dict[str, float]:
    return {sample.name: sample.value for sample in _samples(address) if not sample.labels}


async def _total(stack: Stack, names: set[str]) -> float:
    pages = await asyncio.gather(*(asyncio.to_thread(_gauges, address) for address in stack.metrics.values()))
    return sum(value for gauges in pages for name, value in gauges.items() if name in names)


async def _orchestrator_total(stack: Stack, name: str, **labels: str) -> int:
    """The sum of a metric of the orchestrator over all samples that carry these labels."""
    samples = await asyncio.to_thread(_samples, stack.metrics["orchestrator"])
    return int(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))


async def failovers(stack: Stack, role: str) -> int:
    """Sessions with that role's services that were lost within requests and made good."""
    return await _orchestrator_total(stack, _FAILOVERS, role=role)


async def until_up(stack: Stack, role: str, num_replicas: int, within_s: float = 60.0) -> None:
    """Wait until the orchestrator sends work to so many replicas."""
    async with asyncio.timeout(within_s):
        while await _orchestrator_total(stack, _POOL, role=role, state="up") < num_replicas:
            await asyncio.sleep(0.1)


def num_sessions(stack: Stack, service: str) -> int:
    """Sessions that one of the model services holds."""
    gauges = _gauges(stack.metrics[service])
    return int(sum(value for name, value in gauges.items() if name in _SESSIONS))


async def open_sessions(stack: Stack) -> int:
    """Sessions that the model services hold, all together."""
    return int(await _total(stack, _SESSIONS))


async def held_memory(stack: Stack) -> int:
    """State slots and KV pages in use, all together."""
    return int(await _total(stack, _MEMORY))


async def all_sessions_are_freed(stack: Stack, within_s: float = 5.0) -> bool:
    """Whether the services come to hold nothing: no session, no recurrent state, no keys and values."""
    async with asyncio.timeout(within_s):
        while await _total(stack, _SESSIONS | _MEMORY):
            await asyncio.sleep(0.02)
    return True
