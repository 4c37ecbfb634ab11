"""Sharing pages, waiting for them, losing them: none of it changes a token."""

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, precondition, rule, run_state_machine_as_test

from draftpool import errors
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser
from verifier_service.job import VerifyJob

GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.8, seed=3)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def open_session(engine, params=GREEDY):
    return engine.new_session(Chooser(params, 272))


def chosen_by(engine, run_jobs, context, tree=EMPTY_TREE, params=GREEDY) -> tuple[int, ...]:
    """What a session that is opened for this alone is answered."""
    session = open_session(engine, params)
    (verdict,) = run_jobs(engine, VerifyJob(session, context, tree))
    engine.close_session(session)
    return verdict.choice.token_ids


def test_the_second_request_with_a_beginning_computes_only_what_is_its_own(
    llama, make_engine, run_jobs, make_ids
) -> None:
    engine, beginning = make_engine(llama), make_ids(0, 41)
    run_jobs(engine, VerifyJob(open_session(engine), [*beginning, 7, 8]))
    (verdict,) = run_jobs(engine, VerifyJob(open_session(engine), [*beginning, 9]))
    assert verdict.num_computed_tokens == 2  # pages of 4 tokens: 40 of the 41 are shared
    assert verdict.choice.token_ids == chosen_by(make_engine(llama), run_jobs, [*beginning, 9])
    engine.check_integrity()


def test_a_text_that_is_known_whole_still_has_its_last_token_computed(llama, make_engine, run_jobs, make_ids) -> None:
    engine, text = make_engine(llama), make_ids(0, 40)
    first = chosen_by(engine, run_jobs, text)
    (verdict,) = run_jobs(engine, VerifyJob(open_session(engine), text))
    assert verdict.num_computed_tokens == 4
    assert verdict.choice.token_ids == first


def test_an_answer_is_shared_too_when_the_next_question_quotes_it(llama, make_engine, run_jobs, make_ids) -> None:
    engine, text = make_engine(llama), make_ids(1, 6)
    session = open_session(engine)
    for _ in range(12):
        (verdict,) = run_jobs(engine, VerifyJob(session, text[len(session.token_ids) :]))
        text = [*text, verdict.choice.token_ids[0]]
    engine.close_session(session)
    assert engine.pool.num_held == 0
    (verdict,) = run_jobs(engine, VerifyJob(open_session(engine), text))
    assert verdict.num_computed_tokens == len(text) - 16


def test_requests_that_come_together_compute_their_common_beginning_once(
    llama, make_engine, run_jobs, make_ids
) -> None:
    engine = make_engine(llama, prefill_chunk_tokens=8)
    beginning = make_ids(2, 64)
    jobs = [VerifyJob(open_session(engine), [*beginning, last]) for last in (1, 2, 3)]
    verdicts = run_jobs(engine, *jobs)
    assert sum(verdict.num_computed_tokens for verdict in verdicts) < 1.5 * 65
    for last, verdict in zip((1, 2, 3), verdicts, strict=True):
        assert verdict.choice.token_ids == chosen_by(make_engine(llama), run_jobs, [*beginning, last])
    engine.check_integrity()


def test_accepted_nodes_stand_behind_the_committed_tokens_whatever_branch_they_come_from(
    llama, make_engine, run_jobs, make_ids, make_tree
) -> None:
    engine, text = make_engine(llama), make_ids(3, 11)
    session = open_session(engine)
    for step in range(6):
        tree = make_tree(step, 20)
        (verdict,) = run_jobs(engine, VerifyJob(session, text[len(session.token_ids) :], tree))
        assert verdict.choice.token_ids == chosen_by(make_engine(llama), run_jobs, text, tree)
        deepest = max(range(tree.num_nodes), key=lambda node: tree.depths[node])
        text = [*text, *(tree.token_ids[node] for node in tree.ancestors(deepest)), step]
    engine.check_integrity()


def test_who_finds_no_room_waits_and_is_served_when_there_is(llama, make_engine, run_jobs, make_ids) -> None:
    engine = make_engine(llama, num_pages=15, max_tree_nodes=8)
    first, second = open_session(engine), open_session(engine)
    run_jobs(engine, VerifyJob(first, make_ids(0, 40)))
    waiting = VerifyJob(second, make_ids(1, 30))
    assert not engine.turn([waiting])
    assert waiting.is_open
    assert engine.num_sessions == 1
    engine.close_session(first)
    assert engine.turn([waiting])
    assert waiting.future.result().choice.token_ids == chosen_by(make_engine(llama), run_jobs, make_ids(1, 30))
    engine.check_integrity()


def test_nobody_is_admitted_past_one_that_waits_for_room(llama, make_engine, run_jobs, make_ids) -> None:
    engine = make_engine(llama, num_pages=15, max_tree_nodes=8)
    run_jobs(engine, VerifyJob(open_session(engine), make_ids(0, 40)))
    large, small = VerifyJob(open_session(engine), make_ids(1, 30)), VerifyJob(open_session(engine), [1])
    assert not engine.turn([large, small])
    assert small.is_open


def test_who_waits_too_long_is_told_when_to_come_again(llama, make_engine, run_jobs, make_ids) -> None:
    clock = Clock()
    engine = make_engine(llama, num_pages=15, max_tree_nodes=8, clock=clock)
    run_jobs(engine, VerifyJob(open_session(engine), make_ids(0, 40)))
    waiting = VerifyJob(open_session(engine), make_ids(1, 30), expires_at=clock.now + 2)
    engine.turn([waiting])
    assert waiting.is_open
    clock.now += 2.1
    engine.turn([waiting])
    with pytest.raises(errors.NoCapacity, match="session of 8 pages of KV cache \\(5 of 15 are free") as refused:
        waiting.future.result()
    assert refused.value.retry_after_s
    engine.check_integrity()


def test_sessions_beyond_the_limit_wait_until_one_closes(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama, max_sessions=1)
    first = open_session(engine)
    run_jobs(engine, VerifyJob(first, [1]))
    waiting = VerifyJob(open_session(engine), [1])
    assert not engine.turn([waiting])
    engine.close_session(first)
    assert engine.turn([waiting])


def test_a_growing_session_takes_pages_from_a_younger_one_which_goes_on_later(
    llama, make_engine, run_jobs, make_ids
) -> None:
    engine = make_engine(llama, num_pages=15, max_tree_nodes=8)
    old, young = open_session(engine, WARM), open_session(engine, WARM)
    texts = {old: make_ids(0, 28), young: make_ids(1, 28)}
    run_jobs(engine, *(VerifyJob(session, text) for session, text in texts.items()))
    growing = VerifyJob(old, make_ids(2, 12))
    run_jobs(engine, growing)
    assert not young.pages
    going_on = VerifyJob(young, [5])
    assert not engine.turn([going_on])  # it would have to take them back from its elder
    engine.close_session(old)
    run_jobs(engine, going_on)
    expected = chosen_by(make_engine(llama), run_jobs, [*texts[young], 5], params=WARM)
    assert going_on.future.result().choice.token_ids == expected
    engine.check_integrity()


def test_a_session_idle_for_long_gives_way_to_a_new_one_and_comes_back(llama, make_engine, run_jobs, make_ids) -> None:
    clock = Clock()
    engine = make_engine(llama, num_pages=15, max_tree_nodes=8, clock=clock)
    idle, fresh = open_session(engine), open_session(engine)
    run_jobs(engine, VerifyJob(idle, make_ids(0, 40)))
    waiting = VerifyJob(fresh, make_ids(1, 30))
    clock.now += 4
    assert not engine.turn([waiting])
    clock.now += 2
    assert engine.turn([waiting])
    assert not idle.pages
    engine.close_session(fresh)
    (verdict,) = run_jobs(engine, VerifyJob(idle, [3]))
    assert verdict.choice.token_ids == chosen_by(make_engine(llama), run_jobs, [*make_ids(0, 40), 3])


def test_closing_a_session_frees_it_even_in_the_middle_of_its_prefill(llama, make_engine, make_ids) -> None:
    engine = make_engine(llama, prefill_chunk_tokens=4)
    session = open_session(engine)
    job = VerifyJob(session, make_ids(0, 30))
    engine.turn([job])
    assert job.is_open
    assert engine.pool.num_held == 8
    engine.close_session(session)
    engine.close_session(session)
    assert engine.pool.num_held == engine.num_sessions == 0
    engine.check_integrity()


class SmallDevice:
    """A runner whose device has no memory for passes beyond a size."""

    def __init__(self, runner, max_tokens: int) -> None:
        self.runner = runner
        self.max_tokens = max_tokens
        self.num_refused = 0

    def run(self, layout):
        logits = self.runner.run(layout)
        if len(layout.token_ids) > self.max_tokens:
            self.num_refused += 1
            raise torch.OutOfMemoryError("out of memory")
        return logits


def test_a_pass_too_large_for_the_device_is_done_in_smaller_ones(llama, make_engine, run_jobs, make_ids) -> None:
    devices = []

    def small(runner):
        devices.append(SmallDevice(runner, 20))
        return devices[0]

    engine = make_engine(llama, wrap_runner=small, max_tree_nodes=8)
    texts = [make_ids(index, 50) for index in range(3)]
    verdicts = run_jobs(engine, *(VerifyJob(open_session(engine, WARM), text) for text in texts))
    assert devices[0].num_refused > 0
    expected = [chosen_by(make_engine(llama), run_jobs, text, params=WARM) for text in texts]
    assert [verdict.choice.token_ids for verdict in verdicts] == expected
    engine.check_integrity()


def test_who_does_not_fit_on_the_device_at_all_is_told_so_and_the_engine_lives(llama, make_engine, run_jobs) -> None:
    engine = make_engine(llama, wrap_runner=lambda runner: SmallDevice(runner, 4), max_tree_nodes=8)
    tree = DraftTree((1, 2, 3, 4), (-1, -1, -1, -1))
    with pytest.raises(errors.NoCapacity, match="no memory"):
        run_jobs(engine, VerifyJob(open_session(engine), [1], tree))
    assert run_jobs(engine, VerifyJob(open_session(engine), [1]))
    engine.check_integrity()


class AnyUseUnderPressure(RuleBasedStateMachine):
    """Requests with common beginnings in a cache too small for them: every answer is that of an engine with room."""

    make_engine, llama, make_tree = None, None, None  # given by the test

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.engine = self.make_engine(
            self.llama, num_pages=14, max_tree_nodes=10, prefill_chunk_tokens=7, max_pass_tokens=24, clock=self.clock
        )
        self.roomy = self.make_engine(self.llama)
        self.sessions: list = []
        self.jobs: list[VerifyJob] = []
        self.num_asked = 0

    sessions_bundle = Bundle("sessions")

    @rule(target=sessions_bundle, seed=st.sampled_from([0, 1]), length=st.integers(1, 40), num_nodes=st.integers(0, 10))
    def open(self, seed, length, num_nodes):
        session = open_session(self.engine, WARM)
        self.sessions.append(session)
        text = [(seed * 50 + index * index) % 250 for index in range(length)]
        self._ask(session, text, num_nodes)
        return session

    @rule(session=sessions_bundle, data=st.data(), num_nodes=st.integers(0, 10), num_more=st.integers(1, 5))
    def advance(self, session, data, num_nodes, num_more):
        if any(job.session is session for job in self.jobs) or len(session.token_ids) > 40:
            return
        tree = session.tree
        on_tree = tree.ancestors(data.draw(st.integers(0, tree.num_nodes - 1))) if tree.num_nodes else ()
        self._ask(session, [*(tree.token_ids[node] for node in on_tree), *range(num_more)], num_nodes)

    @rule(session=consumes(sessions_bundle))
    def abandon(self, session):
        for job in self.jobs:
            if job.session is session:
                job.future.cancel()
        self.engine.close_session(session)
        self.sessions.remove(session)

    @precondition(lambda self: self.jobs)
    @rule()
    def turn(self):
        self.engine.turn([job for job in self.jobs if job.is_open])
        self.engine.check_integrity()
        for job in self.jobs:
            if not job.is_open and not job.future.cancelled():
                self._compare(job)
        self.jobs = [job for job in self.jobs if job.is_open]

    @rule(seconds=st.sampled_from([1, 6]))
    def wait(self, seconds):
        self.clock.now += seconds

    def teardown(self):
        """All that still wait are answered as those before them are done."""
        for session in list(self.sessions):
            for _ in range(200):
                if not any(job.is_open and job.session is session for job in self.jobs):
                    break
                self.turn()
                self.wait(1)
            assert not any(job.is_open and job.session is session for job in self.jobs)
            self.engine.close_session(session)
        self.engine.check_integrity()
        assert self.engine.pool.num_held == self.engine.num_sessions == 0

    def _ask(self, session, token_ids, num_nodes):
        self.num_asked += 1
        self.jobs.append(VerifyJob(session, token_ids, self.make_tree(self.num_asked, num_nodes)))

    def _compare(self, job):
        session = open_session(self.roomy, WARM)
        expected = VerifyJob(session, job.session.token_ids, job.tree)
        while expected.is_open:
            self.roomy.turn([expected])
        self.roomy.close_session(session)
        assert job.future.result().choice.token_ids == expected.future.result().choice.token_ids


def test_any_use_under_pressure_changes_no_token_and_leaks_no_page(llama, make_engine, make_tree) -> None:
    class Bound(AnyUseUnderPressure):
        pass

    Bound.make_engine, Bound.llama, Bound.make_tree = staticmethod(make_engine), llama, staticmethod(make_tree)
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
