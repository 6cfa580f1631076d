"""Reads the address of a peer, in the forms of all faces: `ipv4:10.0.0.1:99`, `ipv6:%5B::1%5D:99`, `unix:…`, `10.0.0.1:`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote

_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-envoy-external-address", "via")


def _address(peer: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    """Returns the host of a peer, and its IP address if it has one."""
    host = unquote(peer).rpartition(":")[0].removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host, None
    return host, (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def network_of(peer: str) -> str:
    """Returns the network of a peer: its address without the port, or for IPv6 the /64 that one site has.

    Bad tokens from one network are counted together.
    """
    host, address = _address(peer)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or host)


def is_near(peer: str, headers: Iterable[str] = ()) -> bool:
    """Whether a request comes from this machine, and not through a proxy on it. Only such a caller may see paths."""
    if any(name.lower() in _PROXIED for name in headers):
        return False
    address = _address(peer)[1]
    return peer.startswith("unix:") or (address is not None and address.is_loopback)
