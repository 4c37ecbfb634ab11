"""The leader of a group of ranks, with a group that only pretends to be one."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from verifier_service.packing import PassLayout, Segment
from verifier_service.parallel import GroupLost, LeadingRunner, RankGroup, Signal, follow, num_ranks

LAYOUT = PassLayout(*(np.arange(3) for _ in range(3)), (Segment(0, 3, 0, 3, (), (0,)),))
LOGITS = torch.ones(3, 5)


class FakeGroup(RankGroup):
    """Keeps what is sent, and hands it out to those who receive; once `is_broken`, nothing goes through."""

    def __init__(self) -> None:
        super().__init__(rank=0, num_ranks=2, control=None)
        self.__dict__.update(sent=[], num_answers=0, is_broken=False)

    def send(self, command: PassLayout | Signal) -> None:
        if self.is_broken:
            raise RuntimeError("Connection closed by peer")
        self.sent.append(command)

    def receive(self) -> PassLayout | Signal:
        return self.sent.pop(0)

    def answer(self) -> None:
        self.__dict__["num_answers"] += 1


class FakeRunner:
    def __init__(self) -> None:
        self.layouts: list[PassLayout] = []

    def run(self, layout: PassLayout) -> Tensor:
        self.layouts.append(layout)
        return LOGITS


@pytest.fixture
def group() -> FakeGroup:
    return FakeGroup()


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def leader(group: FakeGroup, lost: threading.Event):
    leader = LeadingRunner(FakeRunner(), group, on_lost=lost.set, beat_s=0.02)
    yield leader
    leader.close()


def test_a_pass_is_announced_and_computed(leader: LeadingRunner, group: FakeGroup) -> None:
    assert leader.run(LAYOUT) is LOGITS
    assert group.sent[0] is LAYOUT


@pytest.mark.usefixtures("leader")
def test_an_idle_leader_asks_whether_the_others_are_there(group: FakeGroup) -> None:
    while group.num_answers < 3:
        time.sleep(0.005)
    assert set(group.sent) == {Signal.BEAT}


def test_an_idle_leader_notices_a_lost_rank(leader: LeadingRunner, group: FakeGroup, lost: threading.Event) -> None:
    group.__dict__["is_broken"] = True
    assert lost.wait(5)
    assert isinstance(leader.loss, GroupLost)


def test_after_a_failed_pass_no_other_is_computed(group: FakeGroup, lost: threading.Event) -> None:
    class OutOfMemory(FakeRunner):
        def run(self, layout: PassLayout) -> Tensor:  # noqa: ARG002
            raise torch.OutOfMemoryError("no room")

    leader = LeadingRunner(OutOfMemory(), group, on_lost=lost.set)
    for _ in range(2):
        with pytest.raises(GroupLost, match="must be started again: no room"):
            leader.run(LAYOUT)
    assert lost.is_set()
    assert group.sent == [LAYOUT]
    leader.close()
    assert group.sent == [LAYOUT]


def test_closing_lets_the_others_go_once(leader: LeadingRunner, group: FakeGroup) -> None:
    leader.close()
    leader.close()
    assert [command for command in group.sent if command is not Signal.BEAT] == [Signal.STOP]


def test_a_follower_computes_answers_and_stops_as_it_is_told(group: FakeGroup) -> None:
    group.sent += [LAYOUT, Signal.BEAT, LAYOUT, Signal.STOP, LAYOUT]
    runner = FakeRunner()
    follow(runner, group)
    assert runner.layouts == [LAYOUT, LAYOUT]
    assert group.num_answers == 1


def test_only_a_whole_launcher_environment_means_ranks(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    assert num_ranks() == 1
    for name, value in (("RANK", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert num_ranks() == 4
