"""The loop under the rejection rule, with services that fail: real gRPC, and a target that is sure of the alphabet."""

import pytest

from draftpool.errors import ContextLost, InternalError, NoCapacity
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT, TreeShape, chain
from draftpool.v1 import drafter_pb2, sampling_pb2, tree_pb2, verifier_pb2
from draftpool.wire import tree_from_wire
from orchestrator.bandit import BanditRegistry, LocalSums, Method, Situation
from orchestrator.drafting import DraftSource
from orchestrator.fleet import Fleet
from orchestrator.generation import Generation, Limits
from orchestrator.rules import rejection
from orchestrator.settings import DEFAULT_ARMS
from orchestrator.verifying import VerifySource
from tests.unit.orchestrator.fake_services import FakeDrafter, FakeVerifier, Fault, fleet_of, next_token
from tests.unit.orchestrator.generating import UNHURRIED, bandit, run

PARAMS = SamplingParams(seed=7)
TEXT = "bcdefghijklm"
CHAIN = chain(3)
REJECTION = sampling_pb2.ACCEPTANCE_RULE_REJECTION


class DrawingDrafter(FakeDrafter):
    """Says that it drew its chains from a law that is sure of them, or, when `is_wrong`, from one that is half sure."""

    def __init__(self, *, is_wrong: bool = False, **options) -> None:
        super().__init__(**options)
        self.is_wrong = is_wrong
        self.rules: list[int] = []

    def _draw(self, token_ids: list[int], request: drafter_pb2.DraftRequest) -> drafter_pb2.DraftReply:
        if request.HasField("session"):
            self.rules.append(request.session.acceptance_rule)
        reply = super()._draw(token_ids, request)
        for token_id in reply.tree.token_ids:
            row = {token_id: 0.5, (token_id + 5) % 26: 0.5} if self.is_wrong else {token_id: 1.0}
            reply.draft_probs.row_lengths.append(len(row))
            reply.draft_probs.token_ids.extend(row)
            reply.draft_probs.probs.extend(row.values())
        if reply.tree.token_ids:
            reply.draft_probs.row_lengths.append(0)
        if self.is_wrong:  # the other token was drawn
            for node, token_id in enumerate(reply.tree.token_ids):
                reply.tree.token_ids[node] = (token_id + 5) % 26
        return reply


class WeighingVerifier(FakeVerifier):
    """Sure of the next letter."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.rules: list[int] = []

    def _choose(self, token_ids: list[int], request: verifier_pb2.VerifyRequest) -> verifier_pb2.VerifyReply:
        if request.HasField("session"):
            self.rules.append(request.session.acceptance_rule)
        tree, asked = tree_from_wire(request.tree), request.draft_support
        reply = verifier_pb2.VerifyReply(target_probs=tree_pb2.SparseRows(row_lengths=asked.row_lengths))
        lengths = list(asked.row_lengths) or [0] * (tree.num_nodes + 1)
        first = 0
        for token_id, length in zip([token_ids[-1], *tree.token_ids], lengths, strict=True):
            inside = list(asked.token_ids[first : first + length])
            probs = [float(other == next_token(token_id)) for other in inside]
            reply.target_probs.probs.extend(probs)
            reply.outside_probs.append(1 - sum(probs))
            reply.outside_token_ids.append(26 if sum(probs) else next_token(token_id))
            first += length
        return reply


def generation(fleet: Fleet, shape: TreeShape = CHAIN) -> Generation:
    target = fleet.target("alphabet")
    return Generation(
        [0],
        vocabulary=target.vocabulary,
        limits=Limits(len(TEXT)),
        drafts=DraftSource(fleet, target, PARAMS, patience=UNHURRIED, is_rejection=True),
        verifier=VerifySource(target, PARAMS, num_prompt_tokens=1, timeout_s=None, is_rejection=True),
        bandit=bandit(),
        fixed_shape=shape,
        accept=rejection(PARAMS.seed),
    )


async def test_drafts_by_the_targets_law_are_accepted_and_both_services_know_the_rule() -> None:
    verifier, drafter = WeighingVerifier(), DrawingDrafter()
    async with fleet_of(verifier, drafter) as fleet:
        text, rounds = await run(generation(fleet))
    assert (text, [round_.num_accepted for round_ in rounds]) == (TEXT, [3, 3, 3])
    assert (verifier.rules, drafter.rules) == ([REJECTION], [REJECTION])


async def test_what_the_target_would_never_say_is_never_accepted() -> None:
    async with fleet_of(WeighingVerifier(), DrawingDrafter(is_wrong=True)) as fleet:
        text, rounds = await run(generation(fleet))
    assert text == TEXT
    assert sum(round_.num_accepted for round_ in rounds) == 0


async def test_without_drafts_the_targets_own_tokens_come() -> None:
    async with fleet_of(WeighingVerifier()) as fleet:
        text, _ = await run(generation(fleet, NO_DRAFT))
    assert text == TEXT


@pytest.mark.parametrize("fate", [ContextLost("evicted"), NoCapacity("full"), Fault.END_STREAM])
async def test_a_service_lost_in_any_round_costs_no_token(fate: Exception | Fault) -> None:
    for num_before in range(3):
        verifier, drafter = WeighingVerifier(), DrawingDrafter()
        verifier.script = [None] * num_before + [fate]
        drafter.script = [None] * num_before + [fate]
        async with fleet_of(verifier, drafter) as fleet:
            text, _ = await run(generation(fleet))
        assert text == TEXT


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: reply.ClearField("draft_probs"),
        lambda reply: reply.draft_probs.row_lengths.append(0),
        lambda reply: reply.draft_probs.probs.__setitem__(0, 0.5),
    ],
    ids=["without laws", "of another tree", "that do not add up"],
)
async def test_drafts_with_unusable_laws_are_left_out(spoil) -> None:
    def spoilt(reply: drafter_pb2.DraftReply) -> drafter_pb2.DraftReply:
        spoil(reply)
        return reply

    async with fleet_of(WeighingVerifier(), DrawingDrafter(always=spoilt)) as fleet:
        text, rounds = await run(generation(fleet))
    assert text == TEXT
    assert sum(round_.num_accepted for round_ in rounds) == 0


async def test_a_verifier_that_does_not_weigh_is_a_bug() -> None:
    async with fleet_of(FakeVerifier(), DrawingDrafter()) as fleet:
        with pytest.raises(InternalError, match="chose 0 tokens"):
            await run(generation(fleet))


def test_the_bandit_of_the_rule_has_no_best_first_trees() -> None:
    registry = BanditRegistry(DEFAULT_ARMS, LocalSums(), Method())
    arms = registry.bandit(Situation("a", "d", "rejection"), 128, only_fixed=True).arms
    assert set(arms) == {arm for arm in DEFAULT_ARMS if isinstance(arm, TreeShape)}
    assert set(registry.bandit(Situation("a", "d", "sampled"), 128).arms) == set(DEFAULT_ARMS)
