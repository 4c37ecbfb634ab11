"""Settings that every service has. Each service adds its own beside its code.

A value comes from the command line, else from the environment (`DRAFTPOOL_SERVER_LISTEN`, ...), else from the
default written here.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    """How a service listens, reports and stops."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_SERVER_", frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:0", description="Address to listen on; port 0 takes a free one.")
    metrics_listen: str | None = Field(
        None, description="Address of the Prometheus endpoint (HTTP, /metrics); none without it."
    )
    address_file: Path | None = Field(
        None, description="File to write the bound address to once requests are answered."
    )
    drain_grace_s: float = Field(
        30.0, ge=0, description="After SIGTERM, how long running requests may go on, in seconds."
    )
    exit_with_parent: bool = Field(
        False, description="Stop when standard input closes, so that a starter that dies leaves no orphan."
    )
