"""What others have learned of a target is asked for before the first request comes."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.bandit import BanditRegistry, LocalSums, Method
from orchestrator.requests import SamplingClass
from orchestrator.settings import DEFAULT_ARMS
from orchestrator.situations import Situations
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, fleet_of, until


class AskedSums(LocalSums):
    """Remembers which groups were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def view(self, key: str) -> Mapping[str, float]:
        self.asked.add(key)
        return super().view(key)


async def test_all_that_a_first_request_looks_at_was_asked_for_when_its_target_was_found() -> None:
    sums = AskedSums()
    bandits = BanditRegistry(DEFAULT_ARMS, sums, Method())
    async with fleet_of(FakeVerifier(), FakeDrafter()) as fleet:
        situations = Situations(fleet, bandits)
        async with situations.recalled():
            await until(lambda: bool(sums.asked))
        for target in fleet.targets.values():
            for bandit in list(bandits.bandits):
                foreseen = sums.asked.copy()
                assert situations.bandit(target, SamplingClass(bandit.situation.sampling)) is bandit
                bandit.choose()
                bandit.release()
                assert sums.asked == foreseen


async def test_a_drafter_that_comes_later_is_another_situation_and_asked_for_too() -> None:
    sums = AskedSums()
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter) as fleet:
        model = fleet.drafter_models
        await drafter.stop()
        await until(lambda: fleet.drafter_models == "none")
        async with Situations(fleet, BanditRegistry(DEFAULT_ARMS, sums, Method())).recalled():
            await until(lambda: any("|none" in key for key in sums.asked))
            assert not any(f"|{model}" in key for key in sums.asked)
            await drafter.start()
            await until(lambda: any(f"|{model}|greedy" in key for key in sums.asked))
