"""Verifiers that fail, go away or break the contract, over real gRPC: a prefill is all it costs."""

import asyncio

import pytest

from draftpool.errors import ContextLost, Draining, InternalError, MalformedTree, NoCapacity, Unavailable, UnknownModel
from draftpool.tree import chain
from draftpool.v1 import verifier_pb2
from orchestrator.patience import VerifyPatience
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, Step, fleet_of, until
from tests.unit.orchestrator.generating import bandit, generation, run, text_of

UNDISTURBED = "bcdefghijklm"


async def test_a_verifier_that_goes_away_is_replaced_by_another_which_gets_the_whole_context() -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, FakeDrafter()) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                first, second = sorted(verifiers, key=lambda verifier: verifier.num_open, reverse=True)
                await first.stop()
        assert text_of(rounds) == UNDISTURBED
        assert [round_.num_committed for round_ in rounds] == [4, 4, 4]
        assert (first.openings, second.openings) == ([[0]], [[0, 1, 2, 3, 4]])


@pytest.mark.parametrize(
    "loss",
    [ContextLost("evicted"), Draining("bye"), Unavailable("gone"), NoCapacity("full"), UnknownModel("other")],
    ids=lambda error: error.reason,
)
async def test_whatever_a_lost_session_is_called_the_text_goes_on_undisturbed(loss: Exception) -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, FakeDrafter()) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 2:
                next(verifier for verifier in verifiers if verifier.num_open).script = [loss]
        assert text_of(rounds) == UNDISTURBED
        assert sorted(opening for verifier in verifiers for opening in verifier.openings) == [[0], [*range(9)]]


async def test_a_replica_that_drains_keeps_its_session_until_its_grace_ends_and_then_another_has_it() -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, FakeDrafter()) as fleet:
        rounds = []
        async for round_ in generation(fleet, max_new_tokens=16).rounds():
            rounds.append(round_)
            leaving, staying = sorted(verifiers, key=lambda verifier: verifier.num_open, reverse=True)
            if len(rounds) == 1:
                await leaving.drain()
                await until(lambda: sum(replica.is_up for replica in fleet.verifiers) == 1)
            if len(rounds) == 2:
                assert (leaving.num_messages, staying.num_messages) == (2, 0)
                leaving.script = [Draining("the grace has ended")]
        assert text_of(rounds) == "bcdefghijklmnopq"
        assert sorted(opening for verifier in verifiers for opening in verifier.openings) == [[0], [*range(9)]]


@pytest.mark.parametrize("end", [Fault.END_STREAM, Fault.ANSWER_AND_END_STREAM])
async def test_a_stream_that_just_ends_is_a_lost_one(end: Fault) -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, FakeDrafter()) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                next(verifier for verifier in verifiers if verifier.num_open).script = [end]
            await asyncio.sleep(0.02)  # the end of the stream arrives before the next message leaves
        assert text_of(rounds) == UNDISTURBED


async def test_an_evicted_session_is_opened_again_on_the_same_replica_with_the_whole_context() -> None:
    verifier = FakeVerifier()
    verifier.script = [None, ContextLost("evicted")]
    async with fleet_of(verifier, FakeDrafter()) as fleet:
        assert (await run(generation(fleet)))[0] == UNDISTURBED
        assert verifier.openings == [[0], [0, 1, 2, 3, 4]]
        assert fleet.target("alphabet").is_up


async def test_a_request_outlives_the_restart_of_its_only_verifier() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier, FakeDrafter()) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 1:
                await verifier.stop()
                await verifier.start()
        assert text_of(rounds) == UNDISTURBED
        assert verifier.openings == [[0], [0, 1, 2, 3, 4]]


async def test_a_verifier_that_came_back_as_another_model_serves_the_old_one_no_more() -> None:
    changed, faithful = FakeVerifier(), FakeVerifier()
    async with fleet_of(changed, faithful) as fleet:
        old = fleet.target("alphabet")
        changed.model = "beta"
        while not changed.num_refused:  # either of the two may be asked
            assert (await run(generation(fleet, max_new_tokens=3)))[0] == "bcd"
        await until(lambda: "beta" in fleet.targets)
        assert (len(old.replicas), changed.num_refused, changed.openings) == (1, 1, [])
        assert (await run(generation(fleet, target=fleet.target("beta"), max_new_tokens=3)))[0] == "bcd"


async def test_without_any_verifier_a_request_is_told_so_when_patience_ends_and_when_to_come_again() -> None:
    async with fleet_of(FakeVerifier(always=Unavailable("gone")), refresh_s=60) as fleet:
        with pytest.raises(Unavailable) as raised:
            await run(generation(fleet, verify_patience=VerifyPatience(recovery_s=0.3)))
        assert raised.value.retry_after_s


async def test_a_full_verifier_is_waited_for_and_its_hint_is_passed_on_when_patience_ends() -> None:
    verifier = FakeVerifier(always=NoCapacity("full", retry_after_s=0.2))
    async with fleet_of(verifier, refresh_s=60) as fleet:
        with pytest.raises(NoCapacity) as raised:
            await run(generation(fleet, verify_patience=VerifyPatience(recovery_s=0.5)))
        assert raised.value.retry_after_s == 0.2
        assert 2 <= verifier.num_messages <= 3
        assert fleet.target("alphabet").is_up


async def test_a_session_lost_again_and_again_is_a_clear_error() -> None:
    verifier = FakeVerifier(always=ContextLost("evicted"))
    async with fleet_of(verifier, refresh_s=60) as fleet:
        with pytest.raises(ContextLost):
            await run(generation(fleet))
        assert verifier.num_messages == 9
        assert fleet.target("alphabet").is_up


async def test_a_stopped_verifier_is_found_out_by_a_probe_and_another_takes_over() -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers, refresh_s=60) as fleet:
        rounds = []
        async for round_ in generation(fleet, verify_patience=VerifyPatience(stall_s=0.1)).rounds():
            rounds.append(round_)
            if len(rounds) == 3:
                stopped, other = sorted(verifiers, key=lambda verifier: verifier.num_open, reverse=True)
                stopped.awake.clear()
        assert text_of(rounds) == UNDISTURBED
        assert other.openings == [[0, 1, 2, 3]]
        assert [round_.num_verifiers_lost for round_ in rounds] == [0] * 3 + [1] + [0] * 8
        assert [replica.is_up for replica in fleet.target("alphabet").replicas].count(True) == 1
        stopped.awake.set()


async def test_a_busy_verifier_is_not_taken_for_lost() -> None:
    verifiers, has_read = [FakeVerifier(), FakeVerifier()], asyncio.Event()
    for verifier in verifiers:
        verifier.script = [has_read]
    async with fleet_of(*verifiers, refresh_s=60) as fleet:
        asyncio.get_running_loop().call_later(1.5, has_read.set)
        text, rounds = await run(generation(fleet, verify_patience=VerifyPatience(stall_s=0.3)))
        assert text == UNDISTURBED
        assert not any(round_.num_verifiers_lost for round_ in rounds)
        assert sum(verifier.num_messages for verifier in verifiers) == len(rounds)


async def test_a_request_waits_for_its_only_verifier_to_wake_up() -> None:
    verifier = FakeVerifier()
    async with fleet_of(verifier) as fleet:
        rounds = []
        async for round_ in generation(fleet, verify_patience=VerifyPatience(stall_s=0.1)).rounds():
            rounds.append(round_)
            if len(rounds) == 3:
                verifier.awake.clear()
                asyncio.get_running_loop().call_later(0.6, verifier.awake.set)
        assert text_of(rounds) == UNDISTURBED
        assert verifier.openings == [[0], [0, 1, 2, 3]]


async def test_two_verifiers_lost_one_after_the_other_within_a_round_come_back_to_the_first() -> None:
    verifiers = [FakeVerifier(), FakeVerifier()]
    async with fleet_of(*verifiers) as fleet:
        rounds = []
        async for round_ in generation(fleet).rounds():
            rounds.append(round_)
            if len(rounds) == 2:
                for verifier in verifiers:
                    verifier.script = [Unavailable("gone")]
        assert text_of(rounds) == UNDISTURBED
        assert sum(round_.num_verifiers_lost for round_ in rounds) >= 2


async def test_a_channel_that_is_closed_underneath_a_round_is_a_lost_replica_and_no_cancellation() -> None:
    verifiers = [FakeVerifier(always=Fault.HANG), FakeVerifier(always=Fault.HANG)]
    async with fleet_of(*verifiers, refresh_s=60) as fleet:
        task = asyncio.create_task(run(generation(fleet)))
        await until(lambda: any(verifier.num_messages for verifier in verifiers))
        for verifier in verifiers:
            verifier.always = None
        for replica in fleet.target("alphabet").replicas:
            if replica.num_streams:
                await replica.channel.close()
        assert (await task)[0] == UNDISTURBED


def change(**fields: object) -> Step:
    def answer(reply: verifier_pb2.VerifyReply) -> verifier_pb2.VerifyReply:
        return verifier_pb2.VerifyReply(**({"chosen_token_ids": reply.chosen_token_ids} | fields))

    return answer


@pytest.mark.parametrize(
    "nonsense",
    [
        change(chosen_token_ids=[]),
        change(chosen_token_ids=[1] * 9),
        change(chosen_token_ids=[1, 2, 3, 27]),
        change(chosen_logprobs=[-1.0] * 4),
        change(top_token_ids=[1] * 4, top_logprobs=[-1.0] * 4),
    ],
    ids=["no tokens", "too many tokens", "no such token", "log-probabilities", "top tokens"],
)
async def test_a_verifier_that_breaks_the_contract_is_not_the_clients_fault(nonsense: Step) -> None:
    async with fleet_of(FakeVerifier(always=nonsense), FakeDrafter()) as fleet:
        with pytest.raises(InternalError):
            await run(generation(fleet))


async def test_what_a_verifier_refuses_is_passed_on_and_not_tried_again() -> None:
    verifier = FakeVerifier()
    verifier.script = [MalformedTree("crooked")]
    async with fleet_of(verifier) as fleet:
        with pytest.raises(MalformedTree, match="crooked"):
            await run(generation(fleet))
        assert verifier.openings == []


async def test_clocks_that_disagree_do_no_harm() -> None:
    def age(reply: verifier_pb2.VerifyReply) -> verifier_pb2.VerifyReply:
        reply.timings.CopyFrom(type(reply.timings)(queue_us=2**60))
        return reply

    async with fleet_of(FakeVerifier(always=age), FakeDrafter(always=age)) as fleet:
        text, rounds = await run(generation(fleet))
        assert text == UNDISTURBED
        assert all(round_.wire_us >= 0 for round_ in rounds)
        assert all(round_.draft_us + round_.verify_us + round_.wire_us <= round_.round_us for round_ in rounds)


async def test_leaving_a_generation_between_rounds_ends_both_streams() -> None:
    verifier, drafter = FakeVerifier(), FakeDrafter()
    async with fleet_of(verifier, drafter) as fleet:
        rounds = generation(fleet).rounds()
        await anext(rounds)
        assert (verifier.num_open, drafter.num_open) == (1, 1)
        await rounds.aclose()
        await until(lambda: verifier.num_open == drafter.num_open == 0)


@pytest.mark.parametrize("role", ["verifier", "drafter"])
async def test_cancelling_a_generation_within_a_round_ends_both_streams(role: str) -> None:
    verifier, drafter = FakeVerifier(), FakeDrafter()
    (verifier if role == "verifier" else drafter).script = [None, Fault.HANG]
    async with fleet_of(verifier, drafter) as fleet:
        task = asyncio.create_task(run(generation(fleet)))
        await until(lambda: not verifier.script and not drafter.script)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: verifier.num_open == drafter.num_open == 0)


async def test_rounds_that_open_a_session_teach_the_bandit_nothing() -> None:
    verifier, taught = FakeVerifier(), bandit(chain(3))
    verifier.script = [None, None, ContextLost("evicted")]
    async with fleet_of(verifier, FakeDrafter()) as fleet:
        _, rounds = await run(generation(fleet, max_new_tokens=20, taught=taught))
        assert len(rounds) == 5
        assert [outcome.verified.num_tokens for outcome in taught.lessons] == [4, 4, 4]  # not the first, not the third
