"""Settings that every service has. Each service adds its own beside its code.

A value comes from the command line, else from the environment (`DRAFTPOOL_SERVER_LISTEN`, ...), else from the
default written here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from draftpool.errors import BadParameter
from draftpool.rpc.channel import ChannelTls
from draftpool.rpc.identity_files import Identity, IdentityPaths
from draftpool.watched_files import WatchedFiles


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
    insecure: bool = Field(False, description="Listen to other machines even without TLS, or without asking who calls.")
    allowed_callers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names that callers' certificates may carry, DNS names or SPIFFE URIs; without them, whoever has a "
        "certificate of tls_ca_file.",
    )
    max_request_bytes: int | None = Field(
        None, ge=1024, description="Largest message that is taken; the service's own default without it."
    )
    max_connections: int = Field(1024, ge=1, description="Connections open at once; more are refused.")
    max_streams_per_connection: int = Field(
        1024, ge=1, description="Calls open at once on a connection; more wait in the caller."
    )
    max_connection_age_s: float = Field(
        3600.0,
        gt=0,
        description="After so long a caller has to connect anew, with a certificate that is valid then; its calls go "
        "on where they are.",
    )

    @field_validator("allowed_callers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Environment variables hold names with commas between them."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


class TlsSettings(BaseSettings):
    """Who this process is to others, and whom it believes; of services and clients alike. All files are PEM, and are
    read again when they change."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_", env_ignore_empty=True, frozen=True, extra="forbid")

    tls_cert_file: Path | None = Field(
        default=None, description="Own certificate, then those that lead to its authority."
    )
    tls_key_file: Path | None = Field(default=None, description="The certificate's private key, not encrypted.")
    tls_ca_file: Path | None = Field(
        default=None, description="Authorities that others' certificates must be signed by."
    )
    tls_server_name: str | None = Field(
        default=None,
        description="Name that a server's certificate must carry, where it is not the host of its address; replicas "
        "that are found by IP address share one.",
    )
    tls: bool = Field(
        default=False,
        description="Call servers over TLS even without a file of authorities: public ones are believed then.",
    )

    def identity(self) -> WatchedFiles[Identity] | None:
        """What the files hold; None without TLS.

        Raises:
            BadParameter: the files cannot be used.
        """
        paths = IdentityPaths(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
        if not self.tls and paths == IdentityPaths():
            return None
        return paths.watched()

    def for_channels(self, server_name: str | None = None) -> ChannelTls | None:
        """How servers are called; None in plain text. Raises as `identity` does.

        Args:
            server_name: of these servers, where it is not `tls_server_name`.
        """
        identity = self.identity()
        return None if identity is None else ChannelTls(identity, server_name or self.tls_server_name)


NO_TLS = TlsSettings.model_construct()


class ClientSettings(BaseSettings):
    """What a client of the public API has in its environment; the key itself is never taken from a command line."""

    model_config = SettingsConfigDict(env_prefix="DRAFTPOOL_", env_ignore_empty=True, frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(default=None, description="The key itself.")
    api_key_file: Path | None = Field(default=None, description="File with the key, instead.")
    client_insecure: bool = Field(default=False, description="Send the key in plain text, even to another machine.")

    def key(self) -> str | None:
        """The key, from the one or the other place.

        Raises:
            BadParameter: the file cannot be read.
        """
        if self.api_key is not None or self.api_key_file is None:
            return None if self.api_key is None else self.api_key.get_secret_value()
        try:
            return self.api_key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadParameter(f"cannot read an API key from {self.api_key_file}: {type(error).__name__}") from None
