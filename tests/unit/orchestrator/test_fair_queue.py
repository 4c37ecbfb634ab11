"""The order in which requests get their turn, and who has to leave a full queue."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.fair_queue import FairQueue, Priority, Ticket

LIFT_S = 10.0
CLIENTS = st.sampled_from("abcd")
PRIORITIES = st.sampled_from(Priority)


class Queue(FairQueue):
    """A queue and its clock."""

    def __init__(self, max_waiting: int = 10**6) -> None:
        super().__init__(max_waiting=max_waiting, lift_s=LIFT_S)
        self.now_s = 0.0
        self.names: dict[Ticket, str] = {}
        self.left: list[str] = []

    def come(self, name: str, client: str, priority: Priority = Priority.STANDARD) -> Ticket:
        ticket = self.ticket(client, priority, self.now_s)
        self.names[ticket] = name
        victim = self.push(ticket)
        if victim is not None:
            self.left.append(self.names[victim])
        return ticket

    def order(self) -> list[str]:
        return [self.names[self.pop(self.now_s)] for _ in range(len(self))]


def test_a_clients_own_requests_come_first_come_first_served() -> None:
    queue = Queue()
    for name in ("1", "2", "3"):
        queue.come(name, "a")
    assert queue.order() == ["1", "2", "3"]


def test_a_client_with_a_thousand_waiting_delays_another_ones_first_by_one_turn() -> None:
    queue = Queue()
    for number in range(1000):
        queue.come(f"a{number}", "a")
    queue.come("b", "b")
    assert queue.order()[:3] == ["a0", "b", "a1"]


def test_clients_take_turns() -> None:
    queue = Queue()
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        queue.come(name, name[0])
    assert queue.order() == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_leaving_and_coming_again_gains_nobody_a_turn() -> None:
    queue = Queue()
    for name in ("a1", "b1", "c1"):
        queue.come(name, name[0])
    assert queue.names[queue.pop(0)] == "a1"
    queue.come("a2", "a")
    assert queue.order() == ["b1", "c1", "a2"]


def test_the_more_urgent_goes_first_whoever_asks() -> None:
    queue = Queue()
    queue.come("batch", "a", Priority.BATCH)
    queue.come("standard", "b", Priority.STANDARD)
    queue.come("interactive", "b", Priority.INTERACTIVE)
    assert queue.order() == ["interactive", "standard", "batch"]


def test_waiting_lifts_a_request_one_class_a_time() -> None:
    queue = Queue()
    queue.come("batch", "a", Priority.BATCH)
    queue.now_s = LIFT_S
    queue.come("standard", "b", Priority.STANDARD)
    queue.come("interactive", "c", Priority.INTERACTIVE)
    assert queue.order() == ["interactive", "batch", "standard"]


@given(st.integers(1, 5), st.sampled_from([1.0, 3.0]))
def test_no_stream_of_urgent_requests_starves_the_least_urgent(num_clients: int, turn_s: float) -> None:
    """It waits at most until it is as urgent as any, and then one turn of every client that was there before."""
    queue = Queue()
    for number in range(3 * num_clients):
        queue.come("urgent", f"client {number % num_clients}", Priority.INTERACTIVE)
    queue.come("patient", "patient client", Priority.BATCH)
    newcomers = count()
    num_turns = 0
    while True:
        num_turns += 1
        queue.come("urgent", f"client {next(newcomers) % num_clients}", Priority.INTERACTIVE)
        queue.come("urgent", f"new client {next(newcomers)}", Priority.INTERACTIVE)
        if queue.names[queue.pop(queue.now_s)] == "patient":
            break
        queue.now_s += turn_s
    assert num_turns <= 2 * LIFT_S / turn_s + num_clients + 2


def test_a_full_queue_refuses_the_newcomer_of_a_client_with_its_share() -> None:
    queue = Queue(max_waiting=4)
    for name in ("a1", "a2", "b1", "b2", "a3"):
        queue.come(name, name[0])
    assert queue.left == ["a3"]


def test_a_client_below_its_share_finds_room_at_the_expense_of_the_one_that_holds_most() -> None:
    queue = Queue(max_waiting=4)
    for name in ("a1", "a2", "a3", "b1", "c1"):
        queue.come(name, name[0])
    assert queue.left == ["a3"]
    assert queue.order() == ["a1", "b1", "c1", "a2"]


def test_within_a_client_the_least_urgent_gives_way() -> None:
    queue = Queue(max_waiting=2)
    queue.come("batch", "a", Priority.BATCH)
    queue.come("standard", "a")
    queue.come("interactive", "a", Priority.INTERACTIVE)
    assert queue.left == ["batch"]


def test_a_queue_without_room_refuses_everybody() -> None:
    queue = Queue(max_waiting=0)
    queue.come("a", "a")
    assert queue.left == ["a"]
    with pytest.raises(LookupError):
        queue.pop(0)


def test_who_gave_a_turn_back_waits_again_as_old_as_before_and_is_not_sent_away() -> None:
    queue = Queue(max_waiting=2)
    first = queue.come("a1", "a")
    assert queue.pop(0) is first
    queue.come("a2", "a")
    queue.come("a3", "a")
    assert queue.push(first, is_bounded=False) is None
    queue.come("b1", "b")
    assert queue.left == ["a3"]
    assert queue.order() == ["a1", "b1", "a2"]


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes, goes, is served and gives up: nobody is lost or doubled, and room is shared."""

    MAX_WAITING = 6

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(self.MAX_WAITING)
        self.waiting: list[Ticket] = []
        self.served: list[Ticket] = []
        self.returned: set[Ticket] = set()

    @rule(client=CLIENTS, priority=PRIORITIES)
    def come(self, client: str, priority: Priority) -> None:
        ticket = self.queue.ticket(client, priority, self.queue.now_s)
        self.waiting.append(ticket)
        victim = self.queue.push(ticket)
        if victim is not None:
            assert victim not in self.returned
            self.waiting.remove(victim)
            most = max(self.held(of) for of in "abcd")
            assert self.held(victim.client) + 1 >= most
            assert self.held(client) <= self.held(victim.client) + 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.queue.remove(ticket)
        self.waiting.remove(ticket)

    @precondition(lambda self: self.waiting)
    @rule(waited_s=st.floats(0, 15))
    def serve(self, waited_s: float) -> None:
        self.queue.now_s += waited_s
        ticket = self.queue.pop(self.queue.now_s)
        own = [other for other in self.waiting if (other.client, other.priority) == (ticket.client, ticket.priority)]
        assert ticket is min(own, key=lambda other: other.number)
        self.waiting.remove(ticket)
        self.served.append(ticket)

    @precondition(lambda self: self.served)
    @rule()
    def come_again(self) -> None:
        ticket = self.served.pop()
        assert self.queue.push(ticket, is_bounded=False) is None
        self.waiting.append(ticket)
        self.returned.add(ticket)

    def held(self, client: str) -> int:
        return sum(ticket.client == client for ticket in self.waiting if ticket not in self.returned)

    @invariant()
    def what_waits_is_what_came_and_has_not_gone(self) -> None:
        assert len(self.queue) == len(self.waiting) <= self.MAX_WAITING + len(self.returned)
        for priority in Priority:
            assert self.queue.num_waiting(priority) == sum(ticket.priority is priority for ticket in self.waiting)

    def teardown(self) -> None:
        popped = [self.queue.pop(self.queue.now_s) for _ in range(len(self.queue))]
        assert sorted(ticket.number for ticket in popped) == sorted(ticket.number for ticket in self.waiting)
        assert self.queue._served == {}


TestAnyOrder = AnyOrder.TestCase
