"""Why a server could not be reached, in a person's words, out of what gRPC says."""

from __future__ import annotations


def why_unreachable(details: str) -> str:
    """What came in between; empty where nothing listens at all.

    Args:
        details: of an UNAVAILABLE that the transport made up.
    """
    said = details.rpartition("last error: ")[2]
    if "Hostname Verification" in said:
        return "its certificate carries neither the name of its address nor tls_server_name"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return f"its certificate is not believed, {said.partition('CERTIFICATE_VERIFY_FAILED: ')[2]}"
    if "WRONG_VERSION_NUMBER" in said:
        return "it does not speak TLS"
    if "andshake" in said:
        return said
    if "Socket closed" in said or "reset by peer" in said:
        return "it hangs up at once; it may want TLS, or another certificate than this one"
    return ""
