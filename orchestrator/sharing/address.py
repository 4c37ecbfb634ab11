"""Where Redis is: the forms of URL that are understood. Pure.

    redis://[[user]:password@]host[:6379][/db]                        one server; rediss:// with TLS
    unix://[[user]:password@]/path/of/socket[?db=0]
    redis+sentinel://[[user]:password@]host[:26379],.../service[/db]  whom the sentinels call the service's master
    redis+cluster://[[user]:password@]host[:6379],...                 a cluster, found through any of its nodes

rediss+sentinel:// and rediss+cluster:// use TLS, towards sentinels, too. TLS options in the query: the files
`ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`; `ssl_check_hostname` (true or false); `ssl_cert_reqs` (required or
none). Sentinels with credentials of their own: `sentinel_username`, `sentinel_password`. Special characters are
percent-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from draftpool.errors import BadParameter

Kind = Literal["server", "socket", "sentinel", "cluster"]

_KINDS: Mapping[str, Kind] = {
    "redis": "server",
    "rediss": "server",
    "unix": "socket",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORTS: Mapping[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"}
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
_CHOICES = {"ssl_check_hostname": ("true", "false"), "ssl_cert_reqs": ("required", "none")}
_MAX_PORT = 65_535


@dataclass(frozen=True)
class RedisAddress:
    """A URL, taken apart. Its text form says everything but the passwords.

    Attributes:
        hosts: (host, port) of the server, of the sentinels, or of nodes of the cluster.
        path: of the socket.
        service: the name that sentinels know the master by.
        options: of the query, those of the kind only.
    """

    kind: Kind
    is_tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        scheme = next(name for name, kind in _KINDS.items() if kind == self.kind and name.startswith(self._start))
        user = f"{self.username or ''}:***@" if self.password is not None else ""
        if self.kind == "socket":
            return f"{scheme}://{user}{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        tail = {"server": f"/{self.db}", "sentinel": f"/{self.service}/{self.db}"}.get(self.kind, "")
        return f"{scheme}://{user}{hosts}{tail}"

    @property
    def _start(self) -> str:
        return "rediss" if self.is_tls else "unix" if self.kind == "socket" else "redis"

    @property
    def has_secrets(self) -> bool:
        """Whether there is a password in it."""
        return any(self._secrets)

    def redacted(self, text: str) -> str:
        """A message, which may quote what was sent, without the passwords."""
        for secret in filter(None, self._secrets):
            text = text.replace(secret, "***")
        return text

    @property
    def _secrets(self) -> tuple[str | None, ...]:
        return self.password, self.options.get("sentinel_password")


def parse_redis_url(url: str) -> RedisAddress:
    """Take a URL apart.

    Raises:
        BadParameter: it is none of the forms above. The message never quotes the URL.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _KINDS:
        raise BadParameter(f"a Redis URL begins with one of {', '.join(f'{name}://' for name in _KINDS)}")
    kind = _KINDS[scheme]
    try:
        parts = urlsplit(url)
        if parts.fragment:
            raise BadParameter("a Redis URL has no #fragment; in a password, # is written %23")
        username, password, hosts = _authority(parts, kind)
        service, db = _place(parts, kind)
        options = _options(parts, kind, is_tls=scheme.startswith("rediss"))
    except ValueError:  # urlsplit's words would quote the URL
        raise BadParameter(
            "the Redis URL cannot be read; a password's special characters are percent-encoded"
        ) from None
    return RedisAddress(
        kind=kind,
        is_tls=scheme.startswith("rediss"),
        hosts=hosts,
        path=unquote(parts.path) if kind == "socket" else "",
        service=service,
        db=_number(options.pop("db", db), "the database"),
        username=username,
        password=password,
        options=options,
    )


def _authority(parts: SplitResult, kind: Kind) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    credentials, at, places = parts.netloc.rpartition("@")
    username, colon, password = credentials.partition(":")
    if at and not colon:
        raise BadParameter("a Redis URL has :password@ or user:password@ before the host")
    hosts = tuple(_host(place, kind) for place in places.split(",")) if kind != "socket" else ()
    if kind == "socket" and (places or not parts.path.strip("/")):
        raise BadParameter("the URL of a socket is unix:///path, with three slashes")
    if kind == "server" and len(hosts) > 1:
        raise BadParameter("redis:// has one host; several are for redis+sentinel:// or redis+cluster://")
    return unquote(username) or None, unquote(password) if colon else None, hosts


def _host(place: str, kind: Kind) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        is_whole = bool(bracket) and (not rest or rest.startswith(":"))
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":")
        is_whole = ":" not in port
    if not host or not is_whole:
        raise BadParameter("a Redis URL needs host or host:port, IPv6 addresses in brackets")
    number = _number(port, "the port") if port else _PORTS[kind]
    if not 0 < number <= _MAX_PORT:
        raise BadParameter(f"a port is between 1 and {_MAX_PORT}")
    return host, number


def _place(parts: SplitResult, kind: Kind) -> tuple[str, str]:
    """The service and the database, from the path."""
    if kind == "socket":
        return "", "0"
    segments = [unquote(segment) for segment in parts.path.strip("/").split("/") if segment]
    service = ""
    if kind == "sentinel":
        if not segments:
            raise BadParameter("redis+sentinel:// needs the service's name: host:26379,host:26379/service")
        service = segments.pop(0)
    if len(segments) > (0 if kind == "cluster" else 1):
        raise BadParameter("a cluster has no databases" if kind == "cluster" else "the Redis URL's path is too long")
    return service, segments[0] if segments else "0"


def _options(parts: SplitResult, kind: Kind, *, is_tls: bool) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    allowed = (_TLS_OPTIONS if is_tls else set()) | (_SENTINEL_OPTIONS if kind == "sentinel" else set())
    allowed |= {"db"} if kind == "socket" else set()
    for name, value in options.items():
        if name not in allowed:
            takes = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none"
            raise BadParameter(f"this kind of Redis URL has no option {name!r}; {takes}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise BadParameter(f"{name} is {' or '.join(_CHOICES[name])}")
    return options


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise BadParameter(f"{what} in the Redis URL must be a number")
    return int(text)
