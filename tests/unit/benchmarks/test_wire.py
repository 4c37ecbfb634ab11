"""What happens to a packet on the wire between two hosts."""

import os
import socket
from collections.abc import Iterator

import pytest

from benchmarks.wire import Plug, Wire

HERE, THERE = socket.inet_aton("198.18.0.1"), socket.inet_aton("198.18.0.2")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bench:
    """Two hosts whose devices are pipes: what they are given can be read."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ends = {address: os.pipe() for address in (HERE, THERE)}
        self.plugs = {address: Plug(device) for address, (_, device) in self.ends.items()}
        self.wire = Wire(self.plugs, self.clock)
        for arrives, _ in self.ends.values():
            os.set_blocking(arrives, False)

    def arrived(self, address: bytes) -> bytes:
        try:
            return os.read(self.ends[address][0], 10_000)
        except BlockingIOError:
            return b""


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for pair in made.ends.values():
        for descriptor in pair:
            os.close(descriptor)


def packet(source: bytes, target: bytes, payload: bytes = b"") -> bytes:
    return b"\x45" + bytes(11) + source + target + payload


def test_without_a_length_a_packet_arrives_at_once(bench: Bench) -> None:
    bench.wire.take(packet(HERE, THERE, b"hello"))
    assert bench.wire.deliver() is None
    assert bench.arrived(THERE) == packet(HERE, THERE, b"hello")
    assert not bench.arrived(HERE)


def test_a_packet_waits_for_half_the_round_trip_of_both_hosts(bench: Bench) -> None:
    bench.plugs[HERE].one_way_s, bench.plugs[THERE].one_way_s = 0.25, 0.5
    bench.wire.take(packet(HERE, THERE))
    assert bench.wire.deliver() == 0.75
    bench.clock.now_s = 0.5
    assert bench.wire.deliver() == 0.25
    assert not bench.arrived(THERE)
    bench.clock.now_s = 0.75
    assert bench.wire.deliver() is None
    assert bench.arrived(THERE)


def test_packets_arrive_in_the_order_in_which_they_left(bench: Bench) -> None:
    bench.plugs[THERE].one_way_s = 1.0
    sent = [packet(HERE, THERE, bytes([number])) for number in (3, 1, 2)]
    for each in sent:
        bench.wire.take(each)
    bench.clock.now_s = 1.0
    bench.wire.deliver()
    assert bench.arrived(THERE) == b"".join(sent)


@pytest.mark.parametrize("address", [HERE, THERE], ids=["from it", "to it"])
def test_where_a_host_is_cut_off_nothing_gets_through(bench: Bench, address: bytes) -> None:
    bench.plugs[address].is_cut = True
    bench.wire.take(packet(HERE, THERE))
    assert bench.wire.deliver() is None
    assert not bench.arrived(THERE)


def test_what_is_under_way_when_a_host_is_cut_off_is_lost(bench: Bench) -> None:
    bench.plugs[THERE].one_way_s = 1.0
    bench.wire.take(packet(HERE, THERE))
    bench.plugs[THERE].is_cut = True
    bench.clock.now_s = 1.0
    bench.wire.deliver()
    assert not bench.arrived(THERE)


@pytest.mark.parametrize(
    "stray", [packet(HERE, socket.inet_aton("8.8.8.8")), b"\x60" + bytes(39)], ids=["to a stranger", "IPv6"]
)
def test_what_is_for_nobody_is_dropped(bench: Bench, stray: bytes) -> None:
    bench.wire.take(stray)
    assert bench.wire.deliver() is None
    assert not bench.arrived(THERE)
