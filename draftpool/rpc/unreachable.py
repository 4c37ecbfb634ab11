"""Why a server could not be reached, in a person's words, out of what gRPC says.

gRPC says it in English only, and differently each time: who hangs up while the other still writes is told of as a
closed socket, a reset connection or a broken pipe, as it comes. What is not known here is passed on as it is.
"""

from __future__ import annotations

import re

_NOBODY = re.compile(
    r"Connection refused|No such file|Connection timed out|connect\(\) timed out|No route|unreachable|[Rr]esol|lookup"
)
_HUNG_UP = re.compile(r"Socket closed|reset by peer|Broken pipe|Endpoint closing|Connection aborted")
_OF_TLS = re.compile(r"OPENSSL_internal:(\w+)(?:: (.+?))?(?:: OK)?$")


def why_unreachable(details: str) -> str:
    """What came in between; empty where nothing listens at all.

    Args:
        details: of an UNAVAILABLE that the transport made up.
    """
    _, is_connecting, said = details.rpartition("last error: ")
    if "Hostname Verification" in said:
        return "its certificate carries neither the name of its address nor tls_server_name"
    if failure := _OF_TLS.search(said):
        return _failure_of_tls(failure[1], failure[2] or "")
    if "http1.x" in said:
        return "it speaks HTTP/1 and no gRPC"
    if "SETTINGS" in said:
        return "it takes the connection and says nothing; it may want TLS, or be no gRPC server"
    if _HUNG_UP.search(said):
        return "it hangs up at once; it may want TLS, or another certificate than this one"
    return "" if not is_connecting or _NOBODY.search(said) else said


def _failure_of_tls(code: str, explanation: str) -> str:
    """OpenSSL's own explanation is of use where it is about a certificate."""
    if code == "CERTIFICATE_VERIFY_FAILED":
        return f"its certificate is not believed, {explanation}"
    return "it does not speak TLS" if code == "WRONG_VERSION_NUMBER" else f"TLS fails with {code}"
