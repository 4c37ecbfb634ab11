"""Two verifiers, two drafters and a script of faults for each: the text is always the undisturbed one."""

import asyncio
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draftpool.errors import ContextLost, Draining, InternalError, NoCapacity, Unavailable, UnknownVocabulary
from draftpool.tree import NO_DRAFT, TreeShape, chain
from orchestrator.patience import DraftPatience, VerifyPatience
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, Step, fleet_of
from tests.unit.orchestrator.generating import generation, run
from tests.unit.orchestrator.test_lost_drafters import draw

UNDISTURBED = "bcdefghijklmnopqrstu"
NUM_TOKENS = len(UNDISTURBED)

ANYWHERE: dict[str, Step] = {
    "answers": None,
    "is gone": Unavailable("gone"),
    "drains": Draining("bye"),
    "forgets": ContextLost("evicted"),
    "is full": NoCapacity("full", retry_after_s=0.02),
    "ends the stream": Fault.END_STREAM,
    "answers and ends the stream": Fault.ANSWER_AND_END_STREAM,
    "stops for a while": Fault.FREEZE,
}
AT_DRAFTERS: dict[str, Step] = ANYWHERE | {
    "hangs": Fault.HANG,
    "has a bug": InternalError("oops"),
    "forgets the vocabulary": UnknownVocabulary("register it"),
    "draws wrong tokens": draw(5, 6),
    "draws what does not exist": draw(27),
    "draws too much": draw(1, 2, 3, 4),
}

at_verifiers = st.lists(st.sampled_from(sorted(ANYWHERE)), max_size=4)
at_drafters = st.lists(st.sampled_from(sorted(AT_DRAFTERS)), max_size=6)
shapes = st.sampled_from([None, NO_DRAFT, chain(3), TreeShape((2, 1))])
waits_s = st.sampled_from([0.0, 0.002, 0.05])

VERIFY_PATIENCE = VerifyPatience(stall_s=0.05)

each_example_is_slow = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def services(scripts: list[list[str]], fates: dict[str, Step], kind: type) -> list:
    made = [kind() for _ in scripts]
    for service, script in zip(made, scripts, strict=True):
        service.script = [fates[name] for name in script]
    return made


@each_example_is_slow
@given(
    st.tuples(at_verifiers, at_verifiers).map(list),
    st.tuples(at_drafters, at_drafters).map(list),
    shapes,
    waits_s,
    waits_s,
)
async def test_whatever_fails_and_when_the_tokens_are_the_undisturbed_ones_and_nothing_is_left_behind(
    verifier_scripts: list[list[str]],
    drafter_scripts: list[list[str]],
    shape: TreeShape | None,
    least_wait_s: float,
    first_wait_s: float,
) -> None:
    patience = DraftPatience(least_wait_s, first_wait_s, stall_s=0.05, timeout_s=0.2)
    verifiers = services(verifier_scripts, ANYWHERE, FakeVerifier)
    drafters = services(drafter_scripts, AT_DRAFTERS, FakeDrafter)
    async with fleet_of(*verifiers, *drafters, refresh_s=0.02) as fleet:
        started = generation(
            fleet, shape=shape, max_new_tokens=NUM_TOKENS, draft_patience=patience, verify_patience=VERIFY_PATIENCE
        )
        text, _ = await run(started)
        assert text == UNDISTURBED


@each_example_is_slow
@given(at_verifiers, at_drafters, st.floats(0, 0.15), waits_s)
async def test_whenever_a_request_is_cancelled_nothing_is_left_behind(
    verifier_script: list[str], drafter_script: list[str], cancel_after_s: float, least_wait_s: float
) -> None:
    patience = DraftPatience(least_wait_s, stall_s=0.05, timeout_s=0.2)
    verifiers = services([verifier_script], ANYWHERE, FakeVerifier)
    drafters = services([drafter_script], AT_DRAFTERS, FakeDrafter)
    async with fleet_of(*verifiers, *drafters, refresh_s=0.02) as fleet:
        started = generation(fleet, max_new_tokens=NUM_TOKENS, draft_patience=patience, verify_patience=VERIFY_PATIENCE)
        with suppress(TimeoutError):
            async with asyncio.timeout(cancel_after_s):
                await run(started)
