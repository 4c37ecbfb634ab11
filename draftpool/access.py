"""How a client gets in: what it shows an orchestrator, and how it knows the orchestrator."""

from __future__ import annotations

from dataclasses import dataclass, field

from draftpool.errors import BadParameter
from draftpool.rpc.addresses import is_local
from draftpool.rpc.channel import ChannelTls
from draftpool.settings import ClientSettings, TlsSettings


@dataclass(frozen=True)
class Access:
    """For one address.

    Attributes:
        api_key: sent with every call.
        tls: None speaks plain text.
    """

    api_key: str | None = field(default=None, repr=False)
    tls: ChannelTls | None = None

    @property
    def metadata(self) -> dict[str, str]:
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}


def access_to(address: str, *, api_key: str | None = None, tls: TlsSettings | None = None) -> Access:
    """What is given, and from the environment what is not (`DRAFTPOOL_API_KEY`, `DRAFTPOOL_TLS_CA_FILE`, ...).

    Raises:
        BadParameter: files that cannot be read, no key at all, or a key that others could read on its way.
    """
    settings = ClientSettings()
    key = settings.key() if api_key is None else api_key
    channel_tls = (TlsSettings() if tls is None else tls).for_channels()
    if key is None:
        return Access(tls=channel_tls)
    if not key or not (key.isascii() and key.isprintable()) or " " in key:
        raise BadParameter("the API key is empty, or holds characters that no key has")
    if channel_tls is None and not is_local(address) and not settings.client_insecure:
        raise BadParameter(
            f"the API key would go to {address} in plain text: name the authority of its certificate "
            "(DRAFTPOOL_TLS_CA_FILE, or DRAFTPOOL_TLS=true for public ones), or say DRAFTPOOL_CLIENT_INSECURE=true"
        )
    return Access(key, channel_tls)
