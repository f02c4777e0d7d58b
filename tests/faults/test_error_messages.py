"""What errors say: plain sentences, what to do about them, and no names of classes of the libraries below."""

from __future__ import annotations

import datetime
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from proxy_server import ProxyServer, http_connect
from support import server_context

from chatstream import ChatStreamError, Client, Limits, Provider, UnexpectedStatus
from chatstream._calls.hints import hint_of
from chatstream._http.advice import advice
from chatstream._http.transport import Request
from chatstream.testing import (
    FaultServer,
    Script,
    Wire,
    chunk,
    cut,
    delta,
    drip,
    end,
    event,
    head,
    reset,
    send,
    stall,
    status,
    unread,
)

NAME = "model.invalid"  # a name that no resolver knows (RFC 2606)
PASSWORD = "Kq8-proxy-password"
# Names of exceptions and pools of other libraries and of Python, their reprs and numbers of errors.
FOREIGN = re.compile(
    r"\b[A-Z]\w*(?:Error|Exception|Timeout|Warning)\b|"
    r"\b[A-Z]\w*(?:Pool|Connection|Session|Adapter|Response|Read|Disconnected|StatusLine|Length|Protocol)\b\(?|"
    r"\b(?:urllib3|requests|http\.client|socks|ssl|zlib)\.\w|\w+\(\d+ bytes read|"
    r"\[Errno|\[SSL|_ssl\.c|<\w+ object| at 0x|"
    r"Max retries exceeded|Tunnel connection failed|\(b['\"]"
)


def page(text: str) -> bytes:
    return f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>".encode()


class Stage:
    """What a scenario uses: servers, clients, proxies and certificates, all closed at the end of a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self.monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        self.authority: trustme.CA = request.getfixturevalue("authority")
        self.serve: Callable[..., FaultServer] = request.getfixturevalue("serve")
        self.servers: list[FaultServer] = []
        self._proxies: list[ProxyServer] = []

    def fixture(self, name: str) -> Any:
        return self._request.getfixturevalue(name)

    def error(self, to: Any, **options: Any) -> ChatStreamError:
        """The error of a call that is tried twice."""
        options = {"retry_budget": None, **options}
        client: Client = self.fixture("connect")(to, **options)
        with pytest.raises(ChatStreamError) as caught:
            client.stream("Hi").collect()
        return caught.value

    def play(self, *steps: Any, tls: ssl.SSLContext | None = None, **options: Any) -> ChatStreamError:
        """The error of a call to a server that plays these steps each time."""
        self.servers.append(self.serve(list(steps), tls=tls))
        return self.error(self.servers[-1], **options)

    def resolve(self, *addresses: tuple[str, int]) -> None:
        """Let `NAME` have these addresses."""
        getaddrinfo = socket.getaddrinfo

        def look_up(host: str, port: Any, *settings: Any) -> Any:
            if host != NAME:
                return getaddrinfo(host, port, *settings)
            if not addresses or socket.AI_NUMERICHOST in settings:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [each for address in addresses for each in getaddrinfo(*address, *settings)]

        self.monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def proxy(self, negotiate: Any, scheme: str = "http", tls: ssl.SSLContext | None = None) -> ProxyServer:
        """A proxy with a user and a password, named by the environment."""
        self._proxies.append(ProxyServer(negotiate, tls))
        self.name_proxy(self._proxies[-1].port, scheme)
        return self._proxies[-1]

    def name_proxy(self, port: int, scheme: str = "http", variable: str = "ALL_PROXY") -> None:
        self.monkeypatch.setenv(variable, f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}")

    def close(self) -> None:
        for each in self._proxies:
            each.__exit__(None, None, None)


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request)
    yield stage
    stage.close()


def certificate(authority: trustme.CA, name: str, start: int, days: int) -> ssl.SSLContext:
    """The context of a server whose certificate begins ``start`` days from now and lasts ``days``."""
    begin = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=start)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    end_of_it = begin + datetime.timedelta(days=days)
    authority.issue_cert(name, not_before=begin, not_after=end_of_it).configure_cert(context)
    return context


def with_files(stage: Stage, **files: str | tuple[str, str]) -> ChatStreamError:
    """The error of a call whose session has these files of certificates, which are written before."""
    folder = stage.fixture("tmp_path")
    (folder / "no.pem").write_text("no certificate")
    for name in ("one", "other"):
        made = stage.authority.issue_cert(name)
        made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    stage.monkeypatch.chdir(folder)
    return stage.play(tls=stage.fixture("tls"), session=own_session(stage, **files))


def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """The context of a server whose certificate is its own authority."""
    authority = trustme.CA()
    chain = tmp_path / "self.pem"
    chain.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def wants_certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with TLS 1.3 the alert and the end of the connection race
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


def old_tls(authority: trustme.CA, request: Any) -> ssl.SSLContext:
    context = server_context(authority, "127.0.0.1")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")  # which Python's own contexts refuse
    return context


def replies(data: bytes) -> Callable[[socket.socket], tuple[str, int]]:
    """What a proxy does that answers a request with these bytes and closes."""

    def negotiate(sock: socket.socket) -> tuple[str, int]:
        sock.recv(65536)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        raise ConnectionError

    return negotiate


def https(server: FaultServer) -> str:
    return server.url.replace("http://", "https://")


def trusting(stage: Stage, *steps: Any, tls: ssl.SSLContext, **options: Any) -> ChatStreamError:
    stage.fixture("trusted")
    return stage.play(*steps, tls=tls, **options)


def own_session(stage: Stage, **attributes: Any) -> requests.Session:
    session = requests.Session()
    for name, value in attributes.items():
        setattr(session, name, value)
    stage._request.addfinalizer(session.close)
    return session


def raising(error: Exception) -> Any:
    """An adapter of somebody else, which raises this error."""

    class Foreign(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            raise error

    return Foreign()


def foreign(stage: Stage, error: Exception) -> ChatStreamError:
    session = own_session(stage)
    session.mount("http://", raising(error))
    return stage.error("http://127.0.0.1:9/v1", session=session)


def read_hello(wire: Wire) -> None:
    """A step that reads the first message of a TLS handshake."""
    wire._sock.recv(65536)


def gzipped(data: bytes) -> list[Any]:
    return [head(headers={"Content-Encoding": "gzip"}), chunk(data), end()]


SENDING: dict[str, Callable[[Stage], ChatStreamError]] = {
    "refused": lambda s: s.error(f"http://127.0.0.1:{s.fixture('refused_port')}/v1"),
    "refused over TLS": lambda s: s.error(f"https://localhost:{s.fixture('refused_port')}/v1"),
    "refused elsewhere": lambda s: (
        s.resolve(("127.0.0.1", s.fixture("refused_port"))),
        s.error(f"http://{NAME}:{s.fixture('refused_port')}/v1", api_key=None),
    )[1],
    "no such name": lambda s: (s.resolve(), s.error(f"https://{NAME}/v1"))[1],
    "connect timeout": lambda s: s.error(f"http://127.0.0.1:{s.fixture('unanswered_port')}/v1", connect_timeout=0.1),
    "closed before the answer": lambda s: s.play(cut()),
    "reset before the answer": lambda s: s.play(reset()),
    "closed before the request": lambda s: s.play(unread(), cut()),
    "reset before the request": lambda s: s.play(unread(), reset()),
    "closed during the upload": lambda s: s.error(s.serve([unread(), reset()]), connect_timeout=0.5),
    "closed in the headers": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\nContent-"), cut()),
    "reset in the headers": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\nContent-"), reset()),
    "garbage": lambda s: s.play(send(b"\x00\x01garbage\r\n\r\n"), cut()),
    "an SSH server": lambda s: s.play(unread(), send(b"SSH-2.0-OpenSSH_9.6\r\n"), cut()),
    "an HTTP/2 server": lambda s: s.play(unread(), send(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\n"), cut()),
    "half a status line": lambda s: s.play(send(b"HTTP/1."), cut()),
    "a long status line": lambda s: s.play(send(b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n"), cut()),
    "a long header": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n"), cut()),
    "a broken header": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"), cut()),
    "many headers": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), cut()),
    "two lengths": lambda s: s.play(send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), cut()),
    "only an interim answer": lambda s: s.play(send(b"HTTP/1.1 103 Early Hints\r\n\r\n"), cut()),
    "switching protocols": lambda s: s.play(send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), cut()),
    "no content": lambda s: s.play(send(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "a coding of the transfer": lambda s: s.play(head(headers={"Transfer-Encoding": "gzip, chunked"}), cut()),
    "no headers in time": lambda s: s.play(stall(), stream_idle_timeout=0.1),
    "no first event in time": lambda s: s.play(stall(), first_event_timeout=0.1),
    "a deadline": lambda s: s.play(stall(), deadline=0.1),
    "an upload that nobody reads": lambda s: s.play(
        unread(), stall(), connect_timeout=0.1, model="m" * 3_000_000, request_max_retries=0
    ),
    "no certificate bundle": lambda s: (
        s.monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem"),
        s.error("https://127.0.0.1:9/v1"),
    )[1],
    "an invalid proxy": lambda s: (s.monkeypatch.setenv("HTTP_PROXY", "http://"), s.error("http://127.0.0.1:9/v1"))[1],
    "an error of another adapter": lambda s: foreign(
        s, requests.ConnectionError(OSError("<a.B object at 0x7f>: [Errno 5] x"))
    ),
    "a timeout of another adapter": lambda s: foreign(s, requests.ConnectTimeout()),
    "an error without a text": lambda s: foreign(s, requests.ConnectionError()),
    "an invalid header": lambda s: foreign(s, requests.exceptions.InvalidHeader("Invalid leading whitespace")),
}
TLS: dict[str, Callable[[Stage], ChatStreamError]] = {
    "an HTTP answer to TLS": lambda s: s.error(
        https(s.serve([unread(), send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), cut()]))
    ),
    "closed during TLS": lambda s: s.error(https(s.serve([unread(), cut()]))),
    "reset during TLS": lambda s: s.error(https(s.serve([unread(), read_hello, reset()]))),
    "TLS never answered": lambda s: s.error(https(s.serve([unread(), stall()])), connect_timeout=0.1),
    "HTTP to a TLS port": lambda s: s.error(s.serve([], tls=s.fixture("tls")).url.replace("https://", "http://")),
    "HTTP to a TLS port, answered in HTTP": lambda s: s.play(
        *status(400, page("400 The plain HTTP request was sent to HTTPS port").decode(), {"Server": "nginx"})
    ),
    "HTTP to a TLS port of Go": lambda s: s.play(
        send(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"), cut()
    ),
    "HTTP to a TLS port that sends an alert": lambda s: s.play(send(b"\x15\x03\x03\x00\x02\x02\x28"), cut()),
    "an unknown authority": lambda s: s.play(tls=s.fixture("tls")),
    "a certificate that is its own authority": lambda s: s.play(tls=self_signed(s.fixture("tmp_path"))),
    "a certificate for another name": lambda s: trusting(s, tls=server_context(s.authority, "example.org")),
    "a certificate for another address": lambda s: trusting(s, tls=server_context(s.authority, "10.0.0.1")),
    "an expired certificate": lambda s: trusting(s, tls=certificate(s.authority, "127.0.0.1", -9, 5)),
    "a certificate of the future": lambda s: trusting(s, tls=certificate(s.authority, "127.0.0.1", 9, 5)),
    "a client's certificate is wanted": lambda s: trusting(s, tls=wants_certificate(s.authority)),
    "a bundle without certificates": lambda s: with_files(s, verify="no.pem"),
    "a client's certificate that is none": lambda s: with_files(s, cert="no.pem"),
    "a client's certificate without its key": lambda s: with_files(s, cert="one.pem"),
    "a client's certificate with another key": lambda s: with_files(s, cert=("one.pem", "other.key")),
    "no common cipher": lambda s: trusting(s, tls=old_tls(s.authority, s)),
}
PROXIES: dict[str, Callable[[Stage], ChatStreamError]] = {
    "a refused proxy": lambda s: (s.name_proxy(s.fixture("refused_port")), s.error(f"https://{NAME}/v1"))[1],
    "a refused proxy for http": lambda s: (
        s.name_proxy(s.fixture("refused_port")),
        s.error(f"http://{NAME}/v1", api_key=None),
    )[1],
    "a tunnel that wants a password": lambda s: (
        s.proxy(replies(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a proxy that wants a password": lambda s: (
        s.proxy(replies(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")),
        s.error(f"http://{NAME}/v1", api_key=None),
    )[1],
    "a tunnel that is forbidden": lambda s: (
        s.proxy(replies(b"HTTP/1.1 403 Forbidden\r\n\r\n")),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a tunnel that leads nowhere": lambda s: (
        s.proxy(replies(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a tunnel that is closed": lambda s: (s.proxy(replies(b"")), s.error(f"https://{NAME}/v1"))[1],
    "a proxy that speaks no HTTP": lambda s: (s.proxy(replies(b"nonsense\r\n")), s.error(f"https://{NAME}/v1"))[1],
    "a SOCKS proxy that is refused": lambda s: (
        s.name_proxy(s.fixture("refused_port"), "socks5h"),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a SOCKS proxy that wants a password": lambda s: (
        s.proxy(replies(b"\x05\xff"), "socks5h"),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a SOCKS proxy that is none": lambda s: (
        s.proxy(replies(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "socks5h"),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "a SOCKS proxy that closes": lambda s: (s.proxy(replies(b""), "socks5h"), s.error(f"https://{NAME}/v1"))[1],
    "a proxy whose certificate is unknown": lambda s: (
        s.proxy(http_connect, "https", tls=s.fixture("tls")),
        s.error(f"https://{NAME}/v1"),
    )[1],
    "TLS to a proxy that has none": lambda s: (
        s.proxy(replies(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "https"),
        s.error(f"https://{NAME}/v1"),
    )[1],
}


def refusing(code: int, **options: Any) -> Callable[[Stage], ChatStreamError]:
    return lambda stage: stage.play(*status(code, **options))


REFUSALS: dict[str, Callable[[Stage], ChatStreamError]] = {
    **{
        f"status {code}": refusing(code)
        for code in (300, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504, 529, 599)
    },
    **{
        f"a page with status {code}": refusing(
            code, body=page("Something").decode(), headers={"Server": "nginx/1.18.0"}
        )
        for code in (403, 404, 413, 502, 503, 504)
    },
}
STREAMS: dict[str, Script] = {
    "closed": [head(), delta("one"), cut()],
    "closed inside a chunk": [head(), delta("one"), send(b"ff\r\nhalf"), cut()],
    "closed before its first event": [head(), cut()],
    "reset": [head(), delta("one"), reset()],
    "reset at once": [head(), reset()],
    "short of its length": [head(framing=500), chunk(b"data: {}\n\n"), cut()],
    "a wrong chunk size": [head(), delta("one"), send(b"zz\r\n"), stall()],
    "a long chunk size": [head(), delta("one"), send(b"0" * 70_000 + b"\r\n"), stall()],
    "a chunk without its line end": [head(), delta("one"), send(b"3\r\nabcdef\r\n"), stall()],
    "gzip that is none": gzipped(b"data: plain text\n\n"),
    "gzip that is cut short": [head(headers={"Content-Encoding": "gzip"}), chunk(b"\x1f\x8b\x08\x00"), cut()],
    "idle": [head(), delta("one"), stall()],
    "idle at once": [head(), stall()],
    "dripping": [head(), delta("one"), drip(b"0" * 20, 0.05), stall()],
    "no JSON": [head(), event("{oops"), end()],
    "no object": [head(), event("17"), end()],
    "deep JSON": [head(), event("[" * 100_000), end()],
    "a page": [head(), chunk(page("Welcome")), end()],
    "a text": [head(), chunk(b"hello\n\n"), end()],
    "nothing": [head(), end()],
    "no finish reason": [head(), delta("one"), end()],
    "a reported error": [head(), event({"error": {"message": "The model crashed."}}), end()],
    "a long event": [head(), event("x" * 5000), end()],
}


def check_message(error: BaseException) -> None:
    """No message of the error, of its attempts and of the errors before it names a class of another library."""
    texts = [str(error), *(each.error for each in getattr(error, "attempts", ()) if each.error)]
    texts += [str(error.__cause__)] if error.__cause__ else []
    for text in texts:
        assert text
        assert FOREIGN.search(text) is None, text
        assert PASSWORD not in text


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("scenario", [*SENDING, *TLS, *PROXIES, *REFUSALS])
def test_no_message_of_a_call_that_gets_no_answer_names_a_class_of_another_library(stage, scenario):
    error = (SENDING | TLS | PROXIES | REFUSALS)[scenario](stage)
    check_message(error)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("scenario", STREAMS)
def test_no_message_of_a_stream_that_breaks_names_a_class_of_another_library(stage, scenario, secure):
    limits = {"limits": Limits(event_bytes=4000), "stream_idle_timeout": 0.2, "stream_max_retries": 1}
    tls = (stage.fixture("trusted"), stage.fixture("tls"))[1] if secure else None
    error = stage.play(*STREAMS[scenario], tls=tls, **limits)
    check_message(error)


# ── what to do about it ─────────────────────────────────────────────────────────────────────────────────────────

CASES: dict[str, tuple[str, ...]] = {
    "refused": ("is the server running", "11434 Ollama, 1234 LM Studio, 8080 llama.cpp, 8000 vLLM"),
    "refused over TLS": ("is the server running",),
    "refused elsewhere": ("the connection was refused; is ", "its port?"),
    "no such name": ("Name or service not known", "is the host of base_url right?"),
    "connect timeout": ("connect_timeout",),
    "an upload that nobody reads": ("connect_timeout",),
    "a deadline": ("0.1 s for all attempts",),
    "an HTTP/2 server": ("it supports only HTTP/2",),
    "an SSH server": ("begins with 'SSH-2.0-OpenSSH_9.6",),
    "an HTTP answer to TLS": ("write http:// in base_url",),
    "closed during TLS": ("write http:// in base_url",),
    "reset during TLS": ("write http:// in base_url",),
    "TLS never answered": ("write http:// in base_url", "connect_timeout"),
    "HTTP to a TLS port": ("write https:// in base_url",),
    "HTTP to a TLS port, answered in HTTP": ("write https:// in base_url",),
    "HTTP to a TLS port of Go": ("write https:// in base_url",),
    "HTTP to a TLS port that sends an alert": ("write https:// in base_url",),
    "an unknown authority": ("does not know the CA that signed it", "REQUESTS_CA_BUNDLE", "session.verify"),
    "a certificate that is its own authority": ("self-signed", "REQUESTS_CA_BUNDLE", "session.verify"),
    "a certificate for another name": ("issued for a different host name than 127.0.0.1",),
    "a certificate for another address": ("issued for a different host name than 127.0.0.1",),
    "an expired certificate": ("it has expired",),
    "a certificate of the future": ("not valid yet", "clock"),
    "a client's certificate is wanted": ("session.cert",),
    "no certificate bundle": ("REQUESTS_CA_BUNDLE", "session.verify"),
    "a bundle without certificates": ("TLS can't be set up: ", "REQUESTS_CA_BUNDLE", "session.verify"),
    "a client's certificate that is none": ("TLS can't be set up: ", "in PEM format", "session.cert"),
    "a client's certificate without its key": ("TLS can't be set up: ", "with its private key", "session.cert"),
    "a client's certificate with another key": ("TLS can't be set up: the private key is not", "session.cert"),
    "a refused proxy": ("the proxy for model.invalid failed: the connection was refused", "named by ALL_PROXY"),
    "a refused proxy for http": ("named by ALL_PROXY",),
    "a tunnel that wants a password": ("407", "user:password@", "named by ALL_PROXY"),
    "a proxy that wants a password": ("407", "user:password@", "named by ALL_PROXY"),
    "a tunnel that is forbidden": ("it answered 403 Forbidden", "named by ALL_PROXY"),
    "a tunnel that leads nowhere": ("it answered 503 Service Unavailable",),
    "a tunnel that is closed": ("it closed the connection without an answer",),
    "a proxy that speaks no HTTP": ("its answer begins with nonsense",),
    "a SOCKS proxy that is refused": ("the connection was refused", "socks5h://127.0.0.1"),
    "a SOCKS proxy that wants a password": ("user:password@", "socks5h://127.0.0.1"),
    "a proxy whose certificate is unknown": ("the proxy for", "REQUESTS_CA_BUNDLE", "https://127.0.0.1"),
    "TLS to a proxy that has none": ("write http:// in its URL",),
    "a page with status 502": ("nginx", "not from the API itself"),
    "a page with status 404": ("nginx", "/v1/chat/completions"),
    "status 401": ("The key was passed as api_key.",),
    "status 403": ("The key was passed as api_key.",),
    "status 404": ("/v1/chat/completions: does base_url end with the root of the API, often /v1?",),
    "status 405": ("does not accept POST requests",),
    "status 413": ("bytes: shorten the conversation",),
    "status 415": ("sent as application/json",),
    "status 429": ("does not say how long to wait",),
}


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("scenario", CASES)
def test_an_error_says_what_to_look_at(stage, scenario):
    error = (SENDING | TLS | PROXIES | REFUSALS)[scenario](stage)
    for words in CASES[scenario]:
        assert words in str(error)


@pytest.mark.parametrize("scenario", ["a refused proxy", "a tunnel that is closed", "a SOCKS proxy that is refused"])
def test_a_proxy_that_cannot_be_reached_is_tried_again(stage, scenario):
    assert len(PROXIES[scenario](stage).attempts) == 2


@pytest.mark.parametrize(
    "scenario",
    [
        "a tunnel that wants a password",
        "a proxy that wants a password",
        "a tunnel that is forbidden",
        "a SOCKS proxy that wants a password",
        "a proxy that speaks no HTTP",
        "a proxy whose certificate is unknown",
        "TLS to a proxy that has none",
    ],
)
def test_a_proxy_that_refuses_is_not_tried_again(stage, scenario):
    error = PROXIES[scenario](stage)
    assert (type(error).__name__, error.retryable, len(error.attempts)) == ("ConnectionFailed", False, 1)


def test_a_proxy_of_the_session_is_named_as_such(stage):
    proxies = {"https": f"http://user:{PASSWORD}@127.0.0.1:{stage.fixture('refused_port')}"}
    error = stage.error(f"https://{NAME}/v1", session=own_session(stage, proxies=proxies))
    assert "named by the session or the system" in str(error)
    check_message(error)


def test_a_proxy_without_a_scheme_is_named_as_http(stage):
    stage.monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{stage.fixture('refused_port')}")
    assert f"http://127.0.0.1:{stage.fixture('refused_port')}, named by HTTPS_PROXY" in str(
        stage.error(f"https://{NAME}/v1")
    )


def test_a_proxy_is_named_when_it_does_not_answer(stage):
    stage.name_proxy(stage.fixture("unanswered_port"))
    error = stage.error(f"https://{NAME}/v1", connect_timeout=0.1)
    assert "could not connect to the proxy 127.0.0.1 within 0.1 s (connect_timeout)" in str(error)
    assert "http://" not in str(error)


@pytest.mark.parametrize("port", [11434, 1234, 8080, 8000])
def test_the_usual_port_of_a_server_names_the_server(port):
    advised = advice(f"http://localhost:{port}/v1", [ConnectionRefusedError()], True)
    assert f"is the server running? {port} is the usual port of " in advised


@pytest.mark.parametrize(
    ("url", "error", "advised"),
    [
        ("http://127.0.0.1/v1", ConnectionRefusedError(), "is 80 its port?"),
        ("https://[::1]/v1", ConnectionRefusedError(), "is 443 its port?"),
        ("http://api.localhost:1/v1", ConnectionRefusedError(), "is the server running"),
        ("http://0.0.0.0:8000/v1", ConnectionRefusedError(), "is the server running? 8000 is the usual port of vLLM"),
        ("http://example.org/v1", ConnectionResetError(), ""),
        ("http://example.org:80/v1", ConnectionResetError(), ""),
        ("https://example.org/v1", ConnectionResetError(), ""),
        ("https://example.org:8443/v1", OSError(), ""),
    ],
)
def test_advice_fits_the_address(url, error, advised):
    found = advice(url, [error], True)
    assert advised in found if advised else not found


@pytest.mark.parametrize(
    ("base_url", "question"),
    [
        ("http://h:8000", "is /v1 missing in base_url, as in http://h:8000/v1?"),
        ("http://h:8000/openai/", "is /v1 missing in base_url, as in http://h:8000/openai/v1?"),
        ("http://h/v1", "does base_url end with the root of the API, often /v1?"),
        ("http://h/v1/v1", "contain the version, such as /v1, twice?"),
        ("http://h/v1/chat/completions?key=hidden-Key-7", "base_url ends in /chat/completions"),
        ("http://h/v1/responses", "base_url should not end in /responses, which belongs to another API"),
        ("http://h/v1/messages", "base_url should not end in /messages, which belongs to another API"),
    ],
)
def test_a_404_asks_about_the_end_of_the_base_url(base_url, question):
    provider = Provider("x", base_url)
    request = Request(provider.url("m"), {}, b"")
    hint = hint_of(UnexpectedStatus(404), request, provider, model="m", headers={}, session=None)
    assert hint.startswith(f"The request URL was {provider.url('m').partition('?')[0]}: ")
    assert question in hint
    assert "hidden" not in hint


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (404, {"error": {"message": "The model `m1` does not exist or you do not have access to it."}}),
        (404, {"error": {"message": 'model "m1" not found, try pulling it first'}}),
        (
            404,
            {
                "error": {
                    "message": "The API deployment for this resource does not exist.",
                    "code": "DeploymentNotFound",
                }
            },
        ),
        (400, {"error": {"message": "no", "code": "model_not_found"}}),
        (400, {"message": "Invalid model: m1"}),
        (404, {"detail": "m1"}),
    ],
)
def test_a_refusal_for_its_model_asks_whether_the_server_has_the_model(stage, code, body):
    error = stage.play(*status(code, body))
    assert "The server may not have the model 'm1'; client.models() lists its models." in str(error)
    assert "/v1" not in str(error)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (404, "Not Found"),
        (404, "m1x is gone"),
        (400, "m1 takes no temperature"),
        (400, "An invalid request for this model"),
    ],
)
def test_a_refusal_for_another_reason_asks_nothing_about_the_model(stage, code, text):
    assert "The server may not have the model" not in str(stage.play(*status(code, text)))


class TestKeys:
    """Which key was sent with a request that is refused."""

    def hint(self, stage: Stage, **options: Any) -> str:
        return str(stage.play(*status(401, "no."), **options)).partition("no. ")[2]

    def test_a_key_of_the_environment_is_named_by_its_variable(self, stage):
        stage.monkeypatch.setenv("ACME_KEY", "acme-secret-77")
        hint = self.hint(stage, api_key=None, env_key="ACME_KEY")
        assert hint == "The key came from the environment variable ACME_KEY."

    def test_a_key_in_a_header_of_the_environment_is_named_by_its_variable(self, stage):
        stage.monkeypatch.setenv("ACME_KEY", "acme-secret-77")
        hint = self.hint(stage, api_key=None, key_header="api-key", env_http_headers={"api-key": "ACME_KEY"})
        assert hint == "The key came from the environment variable ACME_KEY, in the header api-key."

    def test_a_header_whose_variable_is_unset_was_not_sent(self, stage):
        hint = self.hint(stage, api_key=None, env_http_headers={"Authorization": "NOT_SET"})
        assert hint.startswith("No key was sent: ")

    def test_a_key_in_a_literal_header_is_named(self, stage):
        hint = self.hint(stage, api_key=None, http_headers={"authorization": "Bearer acme-secret-77"})
        assert hint == "The key came from http_headers."

    def test_a_key_in_the_query_is_named(self, stage):
        hint = self.hint(stage, api_key=None, query_params={"key": "acme-secret-77"})
        assert hint == "The key came from the query of the URL."

    @pytest.mark.parametrize("attribute", [{"auth": ("me", "pass-word-7")}, {"headers": {"authorization": "x"}}])
    def test_a_key_of_the_session_is_named(self, stage, attribute):
        hint = self.hint(stage, api_key=None, session=own_session(stage, **attribute))
        assert hint == "The key came from the session."

    def test_a_request_without_a_key_is_named(self, stage):
        hint = self.hint(stage, api_key=None)
        assert hint == "No key was sent: pass it as api_key, or name its environment variable in env_key."


@pytest.mark.parametrize(
    ("code", "body", "server", "said"),
    [
        (502, page("502 Bad Gateway").decode(), "nginx/1.18.0", "nginx, a proxy or web server"),
        (403, page("Attention Required!").decode(), "cloudflare", "cloudflare, a proxy or web server"),
        (504, page("504").decode() + "<hr><center>openresty</center>", "", "openresty, a proxy"),
        (503, "upstream connect error or disconnect/reset before headers", "", "a proxy in front"),
        (503, "no healthy upstream", "envoy", "envoy, a proxy"),
        (502, "", "Caddy", "caddy, a proxy"),
        (502, "Bad Gateway", "", "a proxy in front"),
        (500, page("Server Error").decode(), "uvicorn", ""),
        (503, "loading the model", "nginx", ""),
        (502, "", "", ""),
    ],
)
@pytest.mark.usefixtures("short_waits")
def test_an_answer_of_a_proxy_is_told_from_one_of_the_api(stage, code, body, server, said):
    error = str(stage.play(*status(code, body, {"Server": server})))
    assert said in error
    assert ("not from the API itself" in error) is bool(said)


@pytest.mark.parametrize("setting", ["stream_idle_timeout", "first_event_timeout"])
def test_a_note_of_an_idle_timeout_names_the_setting(stage, setting):
    error = stage.play(stall(), **{setting: 0.1})
    assert str(error) == "stream disconnected before completion: idle timeout waiting for SSE"
    assert error.__notes__ == [f"nothing arrived for 0.1 s; the limit is {setting}"]


def test_a_note_of_an_idle_timeout_between_two_events_names_the_setting(stage):
    error = stage.play(head(), delta("one"), stall(), stream_idle_timeout=0.1)
    assert str(error) == "stream disconnected before completion: idle timeout waiting for SSE"
    assert error.__notes__ == ["nothing arrived for 0.1 s; the limit is stream_idle_timeout"]
