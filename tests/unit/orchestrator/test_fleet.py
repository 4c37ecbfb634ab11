"""Who is taken for a replica of what."""

import asyncio

import pytest

from draftpool.errors import UnknownModel
from draftpool.v1 import vocabulary_pb2
from draftpool.vocabulary import Vocabulary
from draftpool.wire import vocabulary_to_wire
from orchestrator.ejection import EjectionPolicy
from orchestrator.fleet import Fleet
from tests.unit.orchestrator.fake_services import VOCABULARY, FakeDrafter, FakeVerifier, addresses_of, fleet_of, until
from tests.unit.orchestrator.generating import generation, run

OTHER_VOCABULARY = Vocabulary(VOCABULARY.token_bytes[::-1], (0,))


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "bfloat16"},
        {"architecture": "other"},
        {"vocabulary": vocabulary_to_wire(OTHER_VOCABULARY)},
        {"max_context_tokens": 65},
        {"max_tree_nodes": 15},
    ],
    ids=lambda told: next(iter(told)),
)
async def test_replicas_of_one_name_that_differ_are_not_taken_together(told: dict[str, object]) -> None:
    odd, usual = FakeVerifier(**told), FakeVerifier()
    async with fleet_of(odd, usual) as fleet:
        target = fleet.target("alphabet")
        assert [replica.is_up for replica in target.replicas] == [True]
        await asyncio.sleep(0.12)  # it is visited again, and refused again
        assert len(target.replicas) == 1
        assert (await run(generation(fleet, max_new_tokens=3)))[0]
        assert [] in (odd.openings, usual.openings)


async def test_a_target_may_come_back_changed_once_nobody_serves_the_old_one() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier) as fleet:
        old = fleet.target("alphabet")
        verifier.told = {"max_context_tokens": 8}
        old.replicas[0].report_failure("test")
        await until(lambda: fleet.target("alphabet").is_up)
        assert fleet.target("alphabet").description.max_context_tokens == 8
        assert old.replicas == []


@pytest.mark.parametrize(
    "told",
    [
        {"tokenizer_json": b"{}"},
        {"tokenizer_json": b"\xff"},
        {"vocabulary": vocabulary_pb2.Vocabulary(fingerprint="wrong", token_bytes=[b"a"])},
        {"vocabulary": vocabulary_to_wire(Vocabulary((b"a",), (1,)))},
    ],
    ids=["no tokenizer", "no text", "wrong fingerprint", "no such eos token"],
)
async def test_a_verifier_that_describes_nonsense_is_left_out_and_others_serve(told: dict[str, object]) -> None:
    async with fleet_of(FakeVerifier("beta", **told), FakeVerifier()) as fleet:
        assert set(fleet.targets) == {"alphabet"}
        with pytest.raises(UnknownModel, match="served here: alphabet"):
            fleet.target("beta")


async def test_a_service_in_the_wrong_role_is_left_out() -> None:
    verifier, drafter = FakeVerifier(), FakeDrafter()
    async with fleet_of(verifier, drafter):
        confused = Fleet(
            verifiers=addresses_of(drafter), drafters=addresses_of(verifier), refresh_s=60, ejection=EjectionPolicy()
        )
        async with confused.watched():
            assert confused.targets == {}
            assert not confused.drafters[0].is_up


async def test_one_address_told_twice_is_one_replica() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier, verifier) as fleet:
        assert len(fleet.target("alphabet").replicas) == 1


async def test_drafters_are_taught_a_target_that_appears_later_ahead_of_the_first_request() -> None:
    verifier, drafter = FakeVerifier(), FakeDrafter()
    async with fleet_of(verifier, drafter) as fleet:
        assert drafter.vocabularies == {VOCABULARY.fingerprint}
        assert fleet.shared_vocabulary(fleet.target("alphabet")) == 26 / 27
        verifier.model, verifier.told = "beta", {"vocabulary": vocabulary_to_wire(OTHER_VOCABULARY)}
        fleet.target("alphabet").replicas[0].report_failure("test")
        await until(lambda: OTHER_VOCABULARY.fingerprint in drafter.vocabularies)
        assert drafter.num_lessons == 2


async def test_many_requests_that_find_a_drafter_untaught_teach_it_once() -> None:
    drafter = FakeDrafter()
    async with fleet_of(FakeVerifier(), drafter, refresh_s=60) as fleet:
        fleet.drafters[0].shared_vocabulary.clear()
        await asyncio.gather(*(run(generation(fleet)) for _ in range(8)))
        assert drafter.num_lessons == 2
        assert len(drafter.openings) == 8
