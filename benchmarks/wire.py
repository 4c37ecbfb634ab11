"""The process between hosts: it makes their network namespaces, carries every packet, late or not at all.

Each host is a namespace with one TUN device, and this process is what all the devices are plugged into. A packet waits
for half the round trip of the host that it leaves and half that of the host that it goes to; where either is cut off,
it is dropped without a word, as networks do it. `tc netem` would do the same inside the kernel, but the kernels of
small virtual machines often lack it, while TUN is everywhere; the price is some 20 µs of a core a packet.

Nothing has a name or a file: when this process ends, however it does, devices and namespaces are gone with it.

It is started and told by `benchmarks.hosts`: addresses as arguments, the first one for the namespace it was started in;
on standard output the file descriptor of each new namespace; then lines of JSON on standard input, each answered by a
line when it holds; it ends when its input does.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C  # linux/sockios.h
_IFF_UP = 1
_MAX_PACKET_BYTES = 65_536
_NETMASK = "255.255.255.0"


@dataclass
class Plug:
    """Where a host is plugged in.

    Attributes:
        device: file descriptor of its TUN device.
        one_way_s: how long a packet is held on this host's half of its way, in seconds.
        is_cut: whether nothing gets through.
    """

    device: int
    one_way_s: float = 0.0
    is_cut: bool = False


class Wire:
    """Packets under way. IPv4 alone; what is for nobody is dropped.

    Args:
        plugs: by address, 4 bytes.
    """

    def __init__(self, plugs: dict[bytes, Plug], clock: Callable[[], float] = time.monotonic) -> None:
        self._plugs = plugs
        self._clock = clock
        self._under_way: list[tuple[float, int, Plug, bytes]] = []
        self._order = count()

    def take(self, packet: bytes) -> None:
        """A packet has left a host."""
        source, target = self._plugs.get(packet[12:16]), self._plugs.get(packet[16:20])
        if packet[0] >> 4 != 4 or source is None or target is None or source.is_cut:
            return
        due_s = self._clock() + source.one_way_s + target.one_way_s
        heapq.heappush(self._under_way, (due_s, next(self._order), target, packet))

    def deliver(self) -> float | None:
        """Hand over what has been under way for long enough; returns the seconds until more has."""
        while self._under_way:
            if (wait_s := self._under_way[0][0] - self._clock()) > 0:
                return wait_s
            _, _, target, packet = heapq.heappop(self._under_way)
            if not target.is_cut:
                os.write(target.device, packet)
        return None

    def run(self, commands: int, obey: Callable[[bytes], None]) -> None:
        """Carry packets until `commands`, a file descriptor, closes; each line of it is given to `obey`."""
        devices = [plug.device for plug in self._plugs.values()]
        unread, wait_s = b"", None
        while True:
            ready, _, _ = select.select([*devices, commands], [], [], wait_s)
            for descriptor in ready:
                if descriptor != commands:
                    self.take(os.read(descriptor, _MAX_PACKET_BYTES))
                elif not (read := os.read(descriptor, _MAX_PACKET_BYTES)):
                    return
                else:
                    *lines, unread = (unread + read).split(b"\n")
                    for line in lines:
                        obey(line)
            wait_s = self.deliver()


def open_device(address: str, name: str = "draftpool%d") -> int:
    """A TUN device with this address, in the namespace of the calling thread; gone when the descriptor closes."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    named = fcntl.ioctl(device, _TUNSETIFF, request)[:16]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for code, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, _NETMASK)):
            fcntl.ioctl(control, code, struct.pack("16sHH4s16x", named, socket.AF_INET, 0, socket.inet_aton(value)))
    _set_up(named)
    return device


def _set_up(name: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", name)))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))


def new_host(address: str) -> tuple[int, int]:
    """A namespace of its own for a host: file descriptors of the namespace and of the device in it."""
    made: list[tuple[int, int]] = []
    failures: list[OSError] = []

    def make() -> None:
        try:
            _leave_namespace()
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _set_up(b"lo")
            made.append((namespace, open_device(address)))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=make)  # a namespace is a thread's own; this process stays where it is
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return made[0]


def _leave_namespace() -> None:
    """Give the calling thread a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")


def main(addresses: Sequence[str]) -> None:
    plugs = {addresses[0]: Plug(open_device(addresses[0]))}
    namespaces = []
    for address in addresses[1:]:
        namespace, device = new_host(address)
        namespaces.append(namespace)
        plugs[address] = Plug(device)

    def obey(line: bytes) -> None:
        command = json.loads(line)
        plug = plugs[command["address"]]
        plug.one_way_s, plug.is_cut = command["round_trip_s"] / 2, command["is_cut"]
        print(flush=True)

    print(json.dumps(namespaces), flush=True)
    Wire({socket.inet_aton(address): plug for address, plug in plugs.items()}).run(sys.stdin.fileno(), obey)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error.filename or ''} {error.strerror}".strip())
