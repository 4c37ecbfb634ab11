"""Channels to other services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from draftpool.rpc.identity_files import Identity
from draftpool.rpc.rotating_channel import RotatingChannel
from draftpool.watched_files import WatchedFiles

MAX_MESSAGE_BYTES = 64 * 2**20
"""Of servers and channels alike. The tokenizer of a big target is tens of megabytes."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished without a word is noticed within 15 seconds, not at the kernel's leisure. Without the last
    # two it takes more than a minute: a ping has a time limit of its own, and a call that has long been quiet, as the
    # watch of a replica's health mostly is, is pinged once a minute.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Come back quickly to a replica that restarts; the default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


CLIENT_OPTIONS = (
    # A server may be several, behind one name (dns:///...) or told one by one (ipv4:10.0.0.1:50050,10.0.0.2:50050).
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    # A client that does not read lets 64 KiB through, HTTP/2's first window; with the probe on it grows to megabytes.
    ("grpc.http2.bdp_probe", 0),
)
"""Of channels to the public API."""


@dataclass(frozen=True)
class ChannelTls:
    """How a caller knows servers, and itself to them.

    Attributes:
        identity: the authorities that it believes, and its own certificate, where it has one.
        server_name: that servers' certificates must carry; None: the host of their address.
    """

    identity: WatchedFiles[Identity]
    server_name: str | None = None


def open_channel(
    address: str, extra_options: Sequence[tuple[str, str | int]] = (), *, tls: ChannelTls | None = None
) -> grpc.aio.Channel:
    """A channel to `host:port`; connects on first use and reconnects by itself. Close it when done.

    Without `tls` it speaks plain text. With it, calls made after the files have changed use what they hold then.
    """
    options = [*_OPTIONS, *extra_options]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if tls.server_name is not None:
        # What certificates are checked against, too. (grpc.ssl_target_name_override does the same, for tests only.)
        options.append(("grpc.default_authority", tls.server_name))
    return RotatingChannel(tls.identity, lambda held: grpc.aio.secure_channel(address, _credentials(held), options))


def _credentials(held: Identity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(held.authorities, held.private_key, held.certificate_chain)
