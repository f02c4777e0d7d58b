"""Routes from a client to a server: through one proxy program, or through squid and stunnel together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from proxy_programs import Proxy, ProxyStarter
from relay import Relay

from chatstream import Client
from chatstream.providers.local import LocalServer
from chatstream.testing import FaultServer

HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'  # nginx sends HTTP/1.0 requests by default
UNBUFFERED = "proxy_buffering off;"
REVERSE_PROXIES = {
    "nginx": ("nginx", ""),
    "nginx-unbuffered": ("nginx", UNBUFFERED),
    "nginx-http1.1": ("nginx", HTTP_1_1),
    "nginx-http1.1-unbuffered": ("nginx", HTTP_1_1 + UNBUFFERED),
    "haproxy": ("haproxy", "option http-no-delay"),
}
ROUTES = [*REVERSE_PROXIES, "squid", "stunnel", "squid-stunnel"]
ROUTES_WITHOUT_VARIANTS = ["nginx", "haproxy", "squid", "stunnel", "squid-stunnel"]  # nginx in one configuration only
SINGLE_PROGRAMS = ["nginx", "haproxy", "squid", "stunnel"]


class Route:
    """Makes clients that reach a server by one of the `ROUTES`.

    ``proxy`` is the first program on the route; ``relay`` stands before it where a client is ``relayed``.
    """

    proxy: Proxy
    relay: Relay

    def __init__(
        self,
        name: str,
        start_proxy: ProxyStarter,
        connect: Callable[..., Client],
        set_variable: Callable[[str, str], None],
        enter: Callable[[AbstractContextManager[Relay]], Relay],
    ) -> None:
        self.name = name
        self._start_proxy = start_proxy
        self._connect = connect
        self._set_variable = set_variable
        self._enter = enter

    def __call__(
        self, to: int | FaultServer | LocalServer, *, timeout: int = 60, relayed: bool = False, **options: object
    ) -> Client:
        """A client of ``to``, a server or its port. With ``relayed`` a `Relay` counts its connections."""
        if isinstance(to, LocalServer):
            options = {"api_key": to.provider.key(), **options}
        port = to if isinstance(to, int) else urlsplit(to.url if isinstance(to, FaultServer) else to.base_url).port
        assert port is not None
        if self.name in REVERSE_PROXIES:
            program, more = REVERSE_PROXIES[self.name]
            self.proxy = self._start_proxy(program, port, more=more, timeout=timeout)
            return self._connect(f"http://{self._first_address(relayed)}/v1", **options)
        scheme, address = "http", f"127.0.0.1:{port}"
        if "stunnel" in self.name:
            self.proxy = self._start_proxy("stunnel", port, timeout=timeout)
            scheme, address = "https", self._first_address(relayed and self.name == "stunnel")
        if "squid" in self.name:
            self.proxy = self._start_proxy("squid", timeout=timeout)
            self._set_variable(f"{scheme.upper()}_PROXY", f"http://{self._first_address(relayed)}")
        return self._connect(f"{scheme}://{address}/v1", **options)

    def _first_address(self, relayed: bool) -> str:
        if not relayed:
            return self.proxy.address
        self.relay = self._enter(Relay(self.proxy.url))
        return self.relay.url.removeprefix("http://").removesuffix("/v1")
