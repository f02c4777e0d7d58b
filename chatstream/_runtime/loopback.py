"""A host name → whether it is this machine's own."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether the host is an address of the loopback network, or a name for one (RFC 6761, section 6.3).

    So are 0.0.0.0 and ::, which servers such as vLLM print as their own address: they lead to this machine.
    """
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
