"""Secrets of a call: they are in no error, log line, repr, pickle or frame, whatever a server does with them.

A server repeats what it got, in many spellings; a user gives a key in the place of a name. What can be seen of it is
collected by `seen`.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import reprlib
import ssl
import string
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from support import REST, THREE, computing_at_most

import chatstream
from chatstream import (
    ChatStreamError,
    Client,
    ConfigError,
    ProtocolViolation,
    Provider,
    ProviderError,
    RetryInfo,
    UnexpectedStatus,
    doctor,
)
from chatstream._http import descriptions
from chatstream._redaction import Secrets
from chatstream._secrets import Hidden, is_secret, looks_like_key
from chatstream.cli.main import main
from chatstream.testing import end, event, head, send, status, text_answer

KEY = "sk-Zq7/the+key-0123456789abcdef"
HEADER = "tok_8f3Kd92mQx71Lp"
QUERY = "q7Wm2xR9v/K4=tZ"
PASSWORD = "hunter2-battery"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
SECRETS = (KEY, HEADER, QUERY, PASSWORD, BASIC)

Script = list[Any]


class Shallow(reprlib.Repr):
    """Long reprs, of objects that are not complete yet too."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = self.maxstring = self.maxother = 100_000


def frames(error: BaseException | None) -> Iterator[str]:
    """The locals of the library's frames behind an error, and behind those that it came from, as tools print them."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "chatstream" in str(frame.f_globals.get("__package__")) or frame.f_code.co_filename == "<string>":
                yield f"{frame.f_code.co_name}: {Shallow().repr(frame.f_locals)}"
        yield f"{error!r} {error} {vars(error)}"
        error = error.__cause__ or error.__context__


def seen(error: BaseException) -> str:
    """Everything that an error shows, unescaped as far as Python's own escapes go."""
    attempts = getattr(error, "attempts", ())
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), repr(attempts), *frames(error)]
    parts += traceback.TracebackException.from_exception(error).format()
    return "\n".join(parts) + pickle.dumps(error).decode("latin-1")


def assert_hidden(text: str, *secrets: str) -> None:
    for secret in secrets or SECRETS:
        assert secret.lower() not in text.lower()


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any logger writes."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def gateway(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    """Starts a server; returns a client that sends it each kind of secret."""
    monkeypatch.setenv("GATEWAY_TOKEN", HEADER)

    def connected(*scripts: Script, **options: Any) -> Client:
        server = serve(*scripts, tls=options.pop("tls", None))
        fields = {"name": "gateway", "base_url": server.url, "api_key": KEY, "request_max_retries": 1}
        fields |= {"stream_max_retries": 1, "env_http_headers": {"X-Gateway": "GATEWAY_TOKEN"}}
        fields |= {"http_headers": {"X-Login": f"Basic {BASIC}", "X-Title": "My App"}}
        fields |= {"query_params": {"sig": QUERY, "api-version": "2024-10-21"}}
        return Client(Provider(**fields | options), model="m1", on_retry=retries.append)

    retries: list[RetryInfo] = []
    connected.retries = retries  # type: ignore[attr-defined]
    return connected


@pytest.fixture
def secure_server(tls: ssl.SSLContext, trusted: None, short_waits: None) -> ssl.SSLContext:
    """The context of a server that is trusted, while waits are short."""
    return tls


def error_of(client: Client) -> ChatStreamError:
    with pytest.raises(ChatStreamError) as caught:
        client.stream("Hi").collect()
    return caught.value


# ── what a server repeats ───────────────────────────────────────────────────────────────────────────────────────

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as sent": str,
    "upper case": str.upper,
    "escaped slash": lambda secret: secret.replace("/", "\\/"),
    "JSON escapes": lambda secret: "".join(f"\\u{ord(each):04x}" for each in secret),
    "JSON escapes of punctuation": lambda secret: secret.replace("-", "\\u002d").replace("/", "\\u002F"),
    "JSON in JSON": lambda secret: secret.replace("/", "\\\\/").replace("-", "\\\\u002d"),
    "JavaScript escapes": lambda secret: "".join(f"\\u{{{ord(each):x}}}" for each in secret),
    "Python escapes": lambda secret: "".join(f"\\x{ord(each):02x}" for each in secret),
    "URL": lambda secret: quote(secret, safe=""),
    "URL in URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "every byte for a URL": lambda secret: "".join(f"%{ord(each):02x}" for each in secret),
    "URL in JSON in URL": lambda secret: quote(quote(secret, safe="").replace("-", "\\u002d"), safe=""),
    "HTML": lambda secret: "".join(f"&#{ord(each)};" for each in secret),
    "HTML, hexadecimal": lambda secret: "".join(f"&#x{ord(each):X};" for each in secret),
    "HTML, named": lambda secret: secret.replace("/", "&sol;").replace("+", "&plus;"),
    "several lines": lambda secret: f"{secret[:6]}\n    {secret[6:]}",
    "several lines in JSON": lambda secret: f"{secret[:6]}\\r\\n{secret[6:]}",
    "line breaks of HTML": lambda secret: f"{secret[:6]}<br/>{secret[6:9]}<wbr>{secret[9:]}",
    "soft hyphens": "\u00ad".join,
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_in_every_spelling(spelling: Callable[[str], str], secret: str):
    text = f"before {spelling(secret)} after"
    assert Secrets([KEY, HEADER, QUERY, f"Basic {BASIC}"]).redact(text) == "before *** after"


@pytest.mark.parametrize("before", ["\\", "%", "\\n", "&", "%2", "="])
def test_what_stands_before_a_secret_does_not_hide_it(before: str):
    assert_hidden(Secrets(["n7Xq2abcd9"]).redact(f"{before}n7Xq2abcd9;"), "n7Xq2abcd9")


@pytest.mark.parametrize("secret", ["a\\nbcdef\\u002d9hij", "a%41bcdefg", "&amp;abcdefgh", "é7ß9üabcdef"])
def test_a_secret_that_looks_escaped_itself_is_found(secret: str):
    secrets = Secrets([secret])
    assert secrets.redact(f"<{secret}>") == "<***>"
    assert secrets.redact(f"<{json.dumps(secret)[1:-1]}>") == "<***>"
    assert secrets.redact(f"<{quote(secret, safe='')}>") == "<***>"


def test_escapes_inside_escapes_are_decoded_four_deep():
    text = KEY
    for _ in range(4):
        text = quote(text, safe="")
    assert Secrets([KEY]).redact(f"<{text}>") == "<***>"
    assert Secrets([KEY]).redact(quote(text, safe="")) == quote(text, safe="")


def test_the_beginning_of_a_secret_at_the_end_of_a_text_that_was_cut_off_is_replaced():
    secrets = Secrets([KEY])
    text = "x" * 600
    assert secrets.redact(f"{text}{KEY[:-1]}…") == f"{text}***…"
    assert secrets.redact(f"{text}{KEY[:9]}…' (cut) {KEY[:9]}…)") == f"{text}***…' (cut) ***…)"
    assert secrets.redact(f"{text}{json.dumps(KEY[:9])[1:-1]}…".replace("/", "\\/")) == f"{text}***…"
    assert secrets.redact(f"{text}{KEY[:8]}") == f"{text}***"
    assert secrets.redact(f"{text}{KEY[:7]}") == f"{text}{KEY[:7]}"
    assert secrets.redact(f"x{KEY[:-1]}") == f"x{KEY[:-1]}"


@pytest.mark.parametrize("name", ["JSON escapes", "JavaScript escapes", "URL in JSON in URL", "HTML", "HTML, named"])
def test_an_escaped_secret_is_replaced_wherever_the_text_was_cut_off(name):
    escaped = SPELLINGS[name](KEY)
    eight = next(length for length in range(len(escaped)) if Secrets([KEY[:8]]).redact(escaped[:length])[-3:] == "***")
    for length in range(eight, len(escaped)):
        assert Secrets([KEY]).redact(f"{'x' * 600}{escaped[:length]}…") == f"{'x' * 600}***…"


def test_only_the_beginning_of_a_secret_at_the_very_end_of_a_cut_text_is_replaced():
    text = f"{'x' * 600}{KEY[:8]}, {KEY[:8]} and much more"
    assert Secrets([KEY]).redact(f"{text}…") == f"{text}…"
    assert Secrets([KEY]).redact(f"{text}{KEY[:20]}…") == f"{text}***…"


def test_a_secret_of_fewer_than_eight_characters_is_not_searched_for():
    assert not Secrets(["secret7"])
    assert Secrets(["secret7"]).redact("secret7") == "secret7"
    assert Secrets(["secret78"]).redact("secret78") == "***"


def test_of_an_authorization_header_its_credentials_and_its_password_are_searched_for():
    secrets = Secrets([f"Basic {BASIC}", "Basic abcdefghi", "Bearer abcdefgh", "Cookie=a; id=9f8e7d6c5b"])
    text = f"Basic {BASIC}, user:{PASSWORD}, {PASSWORD}, Bearer abcdefgh, 9f8e7d6c5b"
    assert secrets.redact(text) == "Basic ***, ***, ***, Bearer ***, ***"


def test_many_secrets_in_a_long_text_are_replaced_in_linear_time():
    text = f"{KEY} " * 2000
    assert Secrets([KEY]).redact("".join(SPELLINGS["URL"](text))).count("***") == 2000


HOSTILE = {
    "escapes": "%2525",
    "entities": "&amp;amp;amp;",
    "blanks": "a b",
    "backslashes": "\\",
    "cut marks": "…",
    "beginnings that are cut off": f"{KEY[:20]}…",
    "beginnings of a periodic secret": "a" * 3999 + "b",
    "beginnings of a tag": "<br ",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_the_search_in_64_kib_takes_a_moment_whatever_the_text_and_the_secrets_are(unit):
    secrets = Secrets([KEY, "a" * 4000, *(f"cookie{number:02}-{'xY7' * 30}" for number in range(30))])
    with computing_at_most(0.6):
        secrets.redact((unit * 65536)[:65536])


@pytest.mark.parametrize("before", [[], THREE], ids=["first event", "after three events"])
@pytest.mark.parametrize("place", ["message", "code", "type"])
def test_the_error_of_an_event_of_megabytes_is_short_and_made_at_once(gateway, before, place):
    error = {"message": "bad", place: "hello %41 &amp; " * 300_000}
    client = gateway([head(), *before, event({"error": error}), end()], stream_max_retries=0)
    stream = client.stream("Hi")
    with computing_at_most(1.5), pytest.raises(ProviderError) as caught:
        stream.collect()
    assert len(getattr(caught.value, place)) == 16_385
    assert getattr(caught.value, place).endswith("…")


def test_of_a_request_id_of_60_kb_the_beginning_is_kept(gateway):
    error = error_of(gateway(status(400, "bad", {"X-Request-Id": "r" * 60_000})))
    assert error.request_id == error.attempts[0].request_id == "r" * 4096


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("api-version", "2024-10-21", False),
        ("api-version", "2025-01-01-preview", False),
        ("HTTP-Referer", "https://example.com/a1b2c3d4", False),
        ("X-Title", "My Application 2000", False),
        ("OpenAI-Beta", "assistants=v2", False),
        ("anthropic-beta", "prompt-caching-2024-07-31", False),
        ("User-Agent", "my-app/1.0 (+https://example.com)", False),
        ("X-Author", "somebody", False),
        ("X-Region", "europe-west4", False),
        ("api-key", "a", True),
        ("api-key", "", False),
        ("X-Auth", "letters", True),
        ("Proxy-Authorization", "letters", True),
        ("Cookie", "a=b", True),
        ("code", "letters", True),
        ("sig", "letters", True),
        ("X-Anything", "s3cr3t-value", True),
        ("X-Anything", "s3cr3t!", False),
        ("X-Anything", "sk-letters", True),
        ("X-Anything", "letters" * 4, True),
    ],
)
def test_a_name_or_a_value_that_is_no_ordinary_text_makes_a_header_or_parameter_secret(name, value, secret):
    assert is_secret(name, value) is secret


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "script",
    [
        lambda text: status(401, json.dumps({"error": {"message": f"bad {text}", "code": text, "type": text}})),
        lambda text: status(401, f"<html><title>{text}</title><p>{text}</p></html>"),
        lambda text: status(401, text),
        lambda text: status(401, "x" * 2030 + text),
        lambda text: status(401, {}, {"X-Request-Id": text, "X-Other": text}),
        lambda text: status(302, {}, {"Location": f"/login?{text}"}),
        lambda text: [head(), event({"error": {"message": text, "code": text, "type": text}}), end()],
        lambda text: [head(), event(f"nonsense {text}"), end()],
        lambda text: [head(), event("{" + "x" * 2025 + text), end()],
        lambda text: status(200, f"<html>{text}</html>"),
        lambda text: [head(), *THREE, event({"error": {"message": text, "code": text}}), end()],
        lambda text: [head(200, {"X-Request-Id": text}), *THREE, event(f"nonsense {text}"), end()],
    ],
    ids=[
        *("refusal", "page", "text", "cut text", "headers", "redirect", "error event", "undecodable event"),
        *("cut event", "page with 200", "error after three events", "undecodable after three events"),
    ],
)
def test_no_secret_that_a_server_repeats_is_in_the_error_in_its_frames_or_in_a_log(
    gateway, logs, secure_server, scheme, script
):
    text = f"{KEY} Bearer {KEY} {HEADER} Basic {BASIC} user:{PASSWORD} {QUERY} {quote(QUERY, safe='')}"
    client = gateway(*[script(text)] * 4, tls=secure_server if scheme == "https" else None)
    error = error_of(client)
    assert "***" in seen(error) + repr(error.request_id)
    assert_hidden(seen(error))
    assert_hidden(repr(gateway.retries) + "".join(map(str, gateway.retries)))
    written = "\n".join(record.getMessage() for record in logs.records if record.name != "urllib3.connectionpool")
    assert_hidden(written)
    lines = "\n".join(record.getMessage() for record in logs.records)
    assert_hidden(lines, KEY, HEADER, PASSWORD, BASIC)  # urllib3 writes the URL with its query


@pytest.mark.parametrize(
    "script",
    [
        [send(f"HTTP/1.1 {KEY}\r\n\r\n".encode())],
        [send(f"{KEY} {HEADER} {QUERY}\r\n\r\n".encode())],
        [head(200, {"Transfer-Encoding": HEADER}), end()],
        [head(), send(f"{HEADER}\r\n".encode())],
    ],
    ids=["status", "status line", "framing", "chunk size"],
)
def test_a_secret_in_broken_http_is_not_in_the_error(gateway, logs, short_waits, script):
    error = error_of(gateway(*[script] * 6))
    assert_hidden(seen(error))
    assert_hidden("".join(record.getMessage() for record in logs.records if record.name == "chatstream"))


def test_a_code_of_digits_that_is_a_key_is_replaced(gateway):
    client = gateway(
        [head(), event({"error": {"message": "bad", "code": 1234567890123456}}), end()] * 1,
        api_key="1234567890123456",
        stream_max_retries=0,
    )
    error = error_of(client)
    assert isinstance(error, ProviderError)
    assert (error.code, error.args[1]) == ("***", "***")
    assert_hidden(seen(error), "1234567890123456")


def test_an_ordinary_code_stays_a_number(gateway):
    error = error_of(gateway(status(418, {"error": {"message": "bad", "code": 418}})))
    assert isinstance(error, UnexpectedStatus)
    assert (error.code, error.status, error.retryable) == (418, 418, False)


def test_headers_and_request_id_of_an_answer_are_without_the_secrets_and_the_others_stay(gateway):
    headers = {
        "X-Request-Id": f"req-{KEY}",
        "X-Echo": f"a {HEADER} b",
        "X-Plain": "2024-10-21 My App",
        "Set-Cookie": QUERY,
    }
    client = gateway([head(200, headers), *THREE, *REST])
    with client.stream("Hi") as stream:
        turn = stream.collect()
        assert stream.request_id == "req-***"
        assert (stream.headers["x-echo"], stream.headers["X-PLAIN"]) == ("a *** b", "2024-10-21 My App")
        assert_hidden(repr((stream, stream.headers, stream.attempts, vars(stream), stream.request_id)))
    assert turn.text == "one two three "


def test_what_a_model_writes_and_what_is_no_secret_is_not_changed(gateway):
    text = f"{KEY} {HEADER}"
    turn = gateway(text_answer(text)).stream("Hi").collect()
    assert turn.text == text
    error = error_of(gateway(status(400, "My App may not use api-version 2024-10-21, user")))
    assert "My App may not use api-version 2024-10-21, user" in str(error)


def test_a_key_that_is_renewed_in_the_environment_is_found_in_the_next_answer(gateway, monkeypatch):
    client = gateway(*[status(401, f"{KEY} {KEY[::-1]}")] * 2, api_key=None, env_key="GATEWAY_KEY")
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    assert f": *** {KEY[::-1]}." in str(error_of(client))
    monkeypatch.setenv("GATEWAY_KEY", KEY[::-1])
    assert f": {KEY} ***." in str(error_of(client))


def test_a_secret_in_the_query_of_the_base_url_is_found_too(serve):
    server = serve(
        status(401, f"bad {QUERY} {quote(QUERY)}"),
        status(307, "", {"Location": f"/x?key={quote(QUERY)}"}),
        status(400, QUERY),
    )
    client = Client(Provider("acme", f"{server.url}?key={quote(QUERY, safe='')}&v=1"), model="m1")
    error = error_of(client)
    assert str(error) == "unexpected status 401: bad *** ***. The key came from the query of the URL."
    assert_hidden(seen(error) + repr(client) + repr(vars(client)))
    assert_hidden(seen(error_of(client)))


@pytest.mark.parametrize("auth", [("me", PASSWORD), requests.auth.HTTPBasicAuth("me", PASSWORD), None])
def test_secrets_of_the_callers_own_session_are_found_too(serve, auth):
    with requests.Session() as session:
        session.auth = auth
        session.headers.update({"X-Token": HEADER, "X-Bytes": b"b"})
        session.cookies.set("id", QUERY)
        session.cookies.set("theme", "darkmode2")
        basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        server = serve(status(401, f"{PASSWORD} {basic} {HEADER} {QUERY} id=darkmode2"))
        error = error_of(Client(Provider("acme", server.url), model="m1", session=session))
    assert_hidden(seen(error), HEADER, QUERY, "darkmode2", *((PASSWORD, basic) if auth else ()))


def test_cookies_for_other_hosts_do_not_slow_a_call_down(serve):
    with requests.Session() as session:
        for number in range(1000):
            letter = string.ascii_lowercase[number % 26]
            session.cookies.set("id", f"{letter}{number}{HEADER}", domain=f"{number}.example")
        server = serve(status(400, "sentences of a page " * 3000))
        client = Client(Provider("acme", server.url), model="m1", session=session)
        error_of(client)
        with computing_at_most(0.2):
            error_of(client)


def header_auth(request):
    request.headers["X-Api"] = HEADER
    return request


@pytest.mark.parametrize("before", [[], [head(), *THREE]], ids=["refusal", "after three events"])
@pytest.mark.parametrize(
    "change",
    [
        lambda session: setattr(session, "params", {"token": QUERY}),
        lambda session: setattr(session, "auth", header_auth),
        lambda session: setattr(session, "request", with_token(session.request)),
        lambda session: session.headers.update({"X-Token": HEADER.encode()}),
    ],
    ids=["parameters", "auth that sets a header", "request that adds a token", "header in bytes"],
)
def test_secrets_that_a_session_adds_to_a_request_are_found_too(serve, before, change):
    echo = f"{HEADER} {QUERY} {quote(QUERY, safe='')}"
    script = [*before, event({"error": {"message": echo}}), end()] if before else status(401, echo)
    with requests.Session() as session:
        change(session)
        error = error_of(Client(Provider("acme", serve(script).url), model="m1", session=session))
    assert "***" in str(error)
    secret = QUERY if session.params else HEADER
    assert_hidden(seen(error), secret, quote(secret, safe=""))


def with_token(request):
    """The method of a session that adds a token, as OAuth2Session does."""

    def with_header(*args, headers, **options):
        return request(*args, headers={**headers, "Authorization": f"Bearer {HEADER}"}, **options)

    return with_header


def test_a_response_of_a_mock_that_names_no_request_hides_the_secrets_of_the_provider(gateway):
    def nameless(response, **_):
        response.request = None

    with requests.Session() as session:
        session.hooks["response"].append(nameless)
        client = gateway(status(401, f"{HEADER} {QUERY} {KEY}"))
        error = error_of(Client(client.provider, model="m1", session=session))
    assert "***" in str(error)
    assert_hidden(seen(error))


def test_a_key_given_as_a_field_of_the_request_is_not_shown(serve):
    echo = {"detail": [{"loc": ["body", "api_key"], "msg": "Extra inputs", "input": KEY}]}
    server = serve(status(422, echo))
    fields = {"api_key": KEY, "max_tokens": 5, "user": "me"}
    with pytest.raises(UnexpectedStatus, match="Extra inputs") as caught:
        chatstream.stream("Hi", provider=Provider("acme", server.url), model="m1", extra_body=fields)
    assert_hidden(seen(caught.value))
    assert fields.items() <= server.requests[0].json.items()


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Interruption(BaseException):
    """What passes through the library's frames without being converted."""


class RequestingSession(requests.Session):
    """A session with a `request` of its own."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **options)


def interrupt(*_: Any, **__: Any) -> None:
    raise Interruption


@pytest.mark.parametrize(
    "place",
    [
        *("socket.getaddrinfo", "http.client.HTTPConnection.endheaders", "http.client.HTTPConnection.send"),
        *("http.client.HTTPConnection.getresponse", "requests.Session.send"),
    ],
)
def test_the_frames_of_a_foreign_exception_show_no_secret(gateway, monkeypatch, place):
    client = gateway(text_answer("Hi"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:9")
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupt)
        with pytest.raises(Interruption) as caught:
            client.stream("Hi")
    shown = "\n".join(frames(caught.value))
    assert "_attempt" in shown
    assert_hidden(shown)


@pytest.mark.parametrize("base", [requests.Session, RequestingSession])
def test_the_frames_of_a_foreign_exception_do_not_show_the_auth_of_a_session(serve, monkeypatch, base):
    monkeypatch.setattr(requests.Session, "send", interrupt)
    with base() as session:
        session.auth = ("me", PASSWORD)
        client = Client(Provider("acme", serve().url), model="m1", session=session)
        with pytest.raises(Interruption) as caught:
            client.stream("Hi")
    shown = "\n".join(frames(caught.value))
    assert "_call_session" in shown
    assert_hidden(shown)


def test_the_frames_behind_a_redirect_show_no_secret(gateway, monkeypatch):
    client = gateway(status(307, "", {"Location": f"/v2?sig={quote(QUERY, safe='')}"}))
    send = requests.Session.send

    def send_once(session: Any, request: Any, **options: Any) -> Any:
        return send(session, request, **options) if "/v2" not in request.url else interrupt()

    monkeypatch.setattr(requests.Session, "send", send_once)
    with pytest.raises(Interruption) as caught:
        client.stream("Hi")
    assert_hidden("\n".join(frames(caught.value)), QUERY, quote(QUERY, safe=""))


def test_a_warning_that_is_raised_as_an_error_shows_no_secret_in_its_frames(gateway):
    client = gateway(base_url="http://192.0.2.7/v1?key=" + HEADER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning) as caught:
            client.stream("Hi")
    shown = "\n".join(frames(caught.value))
    assert "warn_if_plain" in shown
    assert_hidden(shown)


def test_the_frames_of_a_request_that_cannot_be_written_show_no_secret(gateway):
    with pytest.raises(ConfigError) as caught:
        gateway().stream("Hi", temperature=object())
    assert_hidden(seen(caught.value))
    with pytest.raises(ConfigError) as caught:
        gateway(path="{model}/x").stream("Hi", model="\n")
    assert_hidden(seen(caught.value))


@pytest.mark.parametrize("value", [KEY, KEY * 5], ids=["short", "long"])
def test_a_text_with_a_hidden_repr_hides_its_parts_and_its_copies_too(value):
    hidden = Hidden(value)
    assert [hidden, f"{hidden}", hidden.encode().decode()] == [value] * 3
    for each in (hidden, hidden[:80], hidden[3], copy.copy(hidden), copy.deepcopy(hidden)):
        assert repr(each) == "***"
    assert copy.deepcopy({"a": hidden}) == {"a": value}
    assert pickle.loads(pickle.dumps(hidden)) is None


# ── a key in the wrong place ────────────────────────────────────────────────────────────────────────────────────

WRONG_KEYS = [
    "sk-Zq7-the-key",
    "sk_live_Zq7abc",
    "gsk_Zq7abcdefgh",
    "hf_" + "AbCdEfGhIj" * 3,
    "AIzaSyZq7-abc_def",
    "0123456789abcdef0123456789abcdef",
]


@pytest.mark.parametrize("key", [*WRONG_KEYS, "my-own-secret", "openai-Zq7", "Bearer sk-Zq7-the-key"])
@pytest.mark.parametrize(
    "use",
    [
        Client,
        Provider.named,
        lambda key: chatstream.stream("Hi", provider=key),
    ],
    ids=["client", "provider", "stream"],
)
def test_a_key_given_as_the_name_of_a_provider_is_not_shown(key, use, monkeypatch):
    monkeypatch.setenv("SOME_OTHER_KEY", key)
    with pytest.raises(
        ConfigError, match=r"^unknown built-in provider \(its name|^the name of the provider looks like a key"
    ) as caught:
        use(key)
    assert_hidden(seen(caught.value), key)


@pytest.mark.parametrize("key", WRONG_KEYS)
@pytest.mark.parametrize(
    "fields",
    [
        lambda key: {"name": key},
        lambda key: {"env_key": key},
        lambda key: {"base_url": key},
        lambda key: {"base_url": f"https://user:{key}@h/v1"},
        lambda key: {"http_headers": {f"Bearer {key}": "Authorization"}},
        lambda key: {"http_headers": {key: "X-Key\n"}},
        lambda key: {"http_headers": {"X-Key": f"{key}\n"}},
        lambda key: {"http_headers": {"X Key": key}},
        lambda key: {"http_headers": key},
        lambda key: {"query_params": [(key, key)]},
        lambda key: {"env_http_headers": {"X-Key": key}},
        lambda key: {"env_http_headers": {key: "X-Key"}},
        lambda key: {"api_key": key.encode()},
        lambda key: {"api_key": f"{key} "},
        lambda key: {"api_key": key, "path": "a b"},
        lambda key: {"api_key": key, "http_headers": {"X": key}, "query_params": {"key": key}, "connect_timeout": 0},
        lambda key: {"base_url": f"https://h/v1?key={key}", "think_tags": 1},
        lambda key: {"path": f"/?key={key}"},
    ],
)
def test_a_setting_that_is_refused_is_in_no_message_and_in_no_frame(key, fields):
    with pytest.raises(ConfigError) as caught:
        Provider(**{"name": "acme", "base_url": "https://h/v1"} | fields(key))
    assert_hidden(seen(caught.value), key)


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "K8S_SECRET", "hf_token", "my_service_api_key_v2", "AZURE4OPENAIKEYPROD2024X"]
)
def test_an_ordinary_variable_is_accepted_as_the_place_of_the_key(name):
    assert not looks_like_key(name)
    assert Provider("acme", "https://h/v1", env_key=name).env_key == name


@pytest.mark.parametrize("place", ["client", "call", "stream", "provider"])
def test_a_key_given_as_the_model_is_refused_before_it_is_sent(serve, place, monkeypatch):
    server = serve(text_answer("Hi"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    uses = {
        "client": lambda: Client(model=KEY).stream("Hi"),
        "call": lambda: Client().stream("Hi", model=KEY),
        "stream": lambda: chatstream.stream("Hi", model=KEY),
        "provider": lambda: Provider("acme", server.url, model=KEY),
    }
    with pytest.raises(ConfigError, match="model looks like a key: pass the key as api_key") as caught:
        uses[place]()
    assert_hidden(seen(caught.value))
    assert_hidden(repr(Client(model=KEY)) + pickle.dumps(Client(model=KEY)).decode("latin-1"))
    assert server.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "[model_providers.acme]\nbase_url = 'https://h/v1?key={key}'\napi_key = '{key} '",
        "[model_providers.acme]\nbase_url = 'https://h/v1'\n{key} = 1",
        "[model_providers.acme]\nbase_url = '{key}'",
        "[model_providers.acme]\napi_key = '{key}\nbase_url",
    ],
)
def test_a_file_with_wrong_settings_shows_no_secret(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text.format(key="sk-Zq7-the-key"))
    for id in ("acme", "sk-Zq7-the-key", None):
        with pytest.raises(ConfigError) as caught:
            Provider.from_toml(path, id)
        assert_hidden(seen(caught.value), "sk-Zq7-the-key")


def test_a_variable_with_a_wrong_value_is_shown_nowhere(gateway, monkeypatch):
    monkeypatch.setenv("GATEWAY_TOKEN", f"{HEADER}\n{HEADER}")
    with pytest.raises(ConfigError, match="GATEWAY_TOKEN") as caught:
        gateway().stream("Hi")
    assert_hidden(seen(caught.value))


# ── reprs and pickles ───────────────────────────────────────────────────────────────────────────────────────────


def test_reprs_and_attributes_of_a_provider_and_a_client_show_no_secret(gateway):
    client = gateway(base_url=f"https://h/v1?sig={quote(QUERY, safe='')}&v=1")
    provider = client.provider
    stream = gateway(text_answer("Hi")).stream("Hi")
    assert_hidden(repr((provider, client, stream, provider.http_headers, provider.query_params, provider.base_url)))
    assert_hidden(
        repr((provider.key(), provider.headers(), provider.auth_header(), provider.url("m"), provider.api_key))
    )
    assert_hidden(
        repr([getattr(provider, name) for name in type(provider).__slots__]) + repr(vars(client)) + str(provider)
    )
    assert_hidden(repr([vars(stream), vars(stream._reader), vars(stream._reader.call), vars(stream._reader.sender)]))
    stream.close()


def test_a_pickled_provider_loses_its_secrets_and_keeps_the_rest(gateway):
    provider = gateway(base_url=f"https://h/v1?sig={quote(QUERY, safe='')}&v=1").provider
    data = pickle.dumps(provider)
    assert_hidden(data.decode("latin-1"))
    loaded = pickle.loads(data)
    assert (loaded.http_headers, loaded.query_params) == ({"X-Title": "My App"}, {"api-version": "2024-10-21"})
    assert (loaded.base_url, loaded.api_key, loaded.env_http_headers) == (
        "https://h/v1?v=1",
        None,
        provider.env_http_headers,
    )


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_provider_keeps_its_secrets(gateway, copied):
    provider = gateway().provider
    assert copied(provider) == provider
    assert copied(provider).headers() == provider.headers()


# ── doctor and command line ─────────────────────────────────────────────────────────────────────────────────────


def test_the_report_of_doctor_shows_no_secret_and_has_one_line_for_each_finding(serve):
    text = f"bad\nlive  yes {KEY} {HEADER}"
    in_stream = [head(), event({"error": {"message": text}}), end()]
    scripts = [in_stream, *[status(401, text)] * 3, status(401, "x" * 80 + KEY)]
    report = doctor(f"{serve(*scripts).url}?key={HEADER}", api_key=KEY)
    assert "***" in str(report)
    assert_hidden(str(report) + repr(report), KEY[:12], HEADER)
    assert len(str(report).splitlines()) == len(report.findings) + 2


def test_an_error_of_doctor_shows_no_secret(serve):
    server = serve([send(f"{KEY} {HEADER}\r\n\r\n".encode())])
    with pytest.raises(ProtocolViolation) as caught:
        doctor(f"{server.url}?key={HEADER}", api_key=KEY)
    assert "***" in str(caught.value)
    assert_hidden(seen(caught.value))


@pytest.mark.parametrize(
    "arguments",
    [
        {"base_url": KEY},
        {"base_url": "http://127.0.0.1:9", "api_key": KEY + " "},
        {"base_url": "http://127.0.0.1:9/?key=" + HEADER, "model": KEY},
    ],
)
def test_wrong_arguments_of_doctor_are_shown_nowhere(arguments):
    with pytest.raises(ConfigError) as caught:
        doctor(**arguments)
    assert_hidden(seen(caught.value))


@pytest.mark.parametrize("options", [["-p", KEY], ["-m", KEY], ["-m", "m1"]], ids=["provider", "model", "refusal"])
def test_the_command_line_prints_no_secret(serve, monkeypatch, capsys, options):
    monkeypatch.setenv("OPENAI_BASE_URL", serve(status(401, {"error": {"message": f"bad {KEY}", "code": KEY}})).url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main(["Hi", *options]) == 1
    assert_hidden("".join(capsys.readouterr()))


def test_the_command_line_does_not_print_a_key_given_as_the_name_of_a_variable(capsys):
    assert main(["doctor", "http://127.0.0.1:9/v1", "--key-env", "sk-Zq7-the-key"]) == 1
    shown = capsys.readouterr().err
    assert "***" in shown
    assert_hidden(shown, "sk-Zq7-the-key")


# ── lines of a log ──────────────────────────────────────────────────────────────────────────────────────────────

FORGERIES = {
    "line feed": "\n",
    "carriage return": "\r",
    "both": "\r\n",
    "escape sequence": "\x1b[2J",
    "C1 control": "\x9b2J",
    "next line": "\x85",
    "vertical tab": "\v",
    "file separator": "\x1c",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "delete": "\x7f",
    "direction": "\u202e",
    "tag": "\U000e0041",
    "zero width": "\u200b",
}


@pytest.mark.parametrize("mark", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize(
    "script",
    [
        lambda text: status(503, {"error": {"message": text}}),
        lambda text: [
            head(503, {"X-Request-Id": text.encode().decode("latin-1").replace("\n", "").replace("\r", "")}),
            end(),
        ],
        lambda text: [head(), event({"error": {"message": text, "code": "server_error"}}), end()],
    ],
    ids=["refusal", "request id", "error event"],
)
def test_a_server_cannot_forge_a_line_of_the_log(gateway, logs, short_waits, mark, script):
    error = error_of(gateway(*[script(f"a{mark}2026-01-01 ERROR forged")] * 3))
    lines = [record.getMessage() for record in logs.records if record.name == "chatstream"]
    assert lines
    assert all(line.isprintable() and "forged" in line for line in lines)
    assert "forged" in str(error)


def test_a_text_that_needs_no_escape_is_logged_as_it_is(gateway, logs, short_waits):
    error_of(gateway(*[status(503, "zu groß: \U0001f680 日本")] * 2))
    lines = [record.getMessage() for record in logs.records if record.name == "chatstream"]
    assert "zu groß: \U0001f680 日本" in lines[0]


# ── exceptions of other libraries ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["http://me:{}@h:1", "http://me:a/{}@h", "https://me:a@{}@h/x y", "//{}@h"])
def test_no_password_of_a_url_is_in_the_text_of_an_exception(url):
    assert_hidden(descriptions.plain(OSError(f"no way to {url.format(PASSWORD)}, sorry")), PASSWORD)
