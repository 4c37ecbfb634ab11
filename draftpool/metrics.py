"""Prometheus metrics: where they are served, and how they are named.

Each service defines its own beside the code that moves them: `draftpool_[<service>_]<what>[_<unit>][_total]`, for
example `draftpool_verifier_sessions` or `draftpool_drafter_draft_seconds`. Those of the RPC layer are in
`draftpool.rpc.interceptors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from draftpool.errors import BadParameter

SHORT_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)
"""Histogram buckets for one draft or one forward pass, in seconds."""


@contextmanager
def metrics_endpoint(listen: str | None) -> Iterator[None]:
    """Serve /metrics on `host:port` for as long as the context lasts; do nothing for None.

    Raises:
        BadParameter: that is no address, or it is taken.
    """
    if listen is None:
        yield
        return
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        raise BadParameter(f"metrics address must be host:port, got {listen!r}")
    try:
        server, thread = start_http_server(int(port), addr=host or "0.0.0.0")
    except (OSError, OverflowError) as error:
        raise BadParameter(f"cannot serve metrics on {listen}: {error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
