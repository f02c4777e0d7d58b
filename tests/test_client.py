"""`Client`: which server and model it calls, what its calls share, and how it is copied and pickled."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import KEY, wait_for, within

import chatstream
from chatstream import (
    Cancelled,
    Client,
    ConfigError,
    DeadlineExceeded,
    Limits,
    Message,
    MissingEnvVar,
    OutputTextDelta,
    Prompt,
    Provider,
    RetryInfo,
    StreamTooLarge,
    UnexpectedStatus,
    _shared,
)
from chatstream._calls.attempt import OpenAttempt
from chatstream._calls.reader import CallReader
from chatstream._calls.sender import Call, Sender
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.transport import Transport
from chatstream._shared import shared_client
from chatstream.providers import local
from chatstream.testing import FaultServer, delta, done, end, finish, head, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
OK = text_answer("fine")


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_may_be_a_str_a_list_of_messages_or_a_prompt(serve, connect):
    server = serve(OK)
    client = connect(server)
    for prompt in ("Hi", [{"role": "user", "content": "Hi"}], Prompt(input=[Message("user", "Hi")])):
        assert client.stream(prompt).collect().text == "fine"
    assert {str(request.json["messages"]) for request in server.requests} == {str([{"role": "user", "content": "Hi"}])}


def test_the_model_is_that_of_the_call_else_of_the_client_else_of_the_provider(serve, connect):
    server = serve(OK)
    connect(server, model=None).stream("Hi", model="of the call").collect()
    connect(server, model="of the client").stream("Hi", model="of the call").collect()
    connect(server, model="of the client").stream("Hi").collect()
    Client(Provider("test", server.url, model="of the provider")).stream("Hi").collect()
    assert [request.json["model"] for request in server.requests] == [
        "of the call",
        "of the call",
        "of the client",
        "of the provider",
    ]


def test_n_requests_several_choices(serve, connect):
    server = serve([head(), delta("a"), delta("b", choice=1), finish(), finish(choice=1), done(), end()])
    turn = connect(server).stream("Hi", n=2).collect()
    assert [choice.text for choice in turn.choices] == ["a", "b"]
    assert server.requests[0].json["n"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"n": -1},
        {"n": "2"},
        {"heartbeat": 0},
        {"heartbeat": "1"},
        {"deadline": 0},
        {"deadline": True},
        {"heartbeat": True},
    ],
    ids=repr,
)
def test_an_invalid_argument_raises_config_error_before_anything_is_sent(serve, connect, fields):
    server = serve(OK)
    with pytest.raises(ConfigError, match=next(iter(fields))):
        connect(server).stream("Hi", **fields)
    assert server.connections == 0


def test_an_invalid_deadline_of_a_client_raises_config_error(serve, connect):
    with pytest.raises(ConfigError, match="deadline"):
        connect("http://127.0.0.1/v1", deadline=-1)


@pytest.mark.parametrize(("of_client", "of_call"), [(0.1, None), (9.0, 0.1)], ids=["of the client", "of the call"])
def test_the_deadline_of_the_call_replaces_that_of_the_client(serve, connect, of_client, of_call):
    client = connect(serve([head(), stall()]), deadline=of_client)
    with within(0.2), pytest.raises(DeadlineExceeded):
        client.stream("Hi", deadline=of_call).collect()


def test_the_limits_of_a_client_apply_to_its_streams(serve, connect):
    client = connect(serve([head(), delta("x" * 2000), finish(), done(), end()]), limits=Limits(event_bytes=1000))
    with pytest.raises(StreamTooLarge):
        client.stream("Hi").collect()


def test_stream_options_that_a_server_refused_are_left_out_of_all_later_calls_of_a_client(serve, connect):
    server = serve(status(400, "stream_options?"), OK)
    client = connect(server)
    for _ in range(2):
        client.stream("Hi").collect()
    assert ["stream_options" in request.json for request in server.requests] == [True, False, False]


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_share_a_connection_until_the_client_is_closed_and_later_calls_open_another(serve, connect):
    server = serve(OK)
    with connect(server) as client:
        for _ in range(3):
            client.stream("Hi").collect()
        assert server.connections == 1
    assert server.client_closed()
    assert client.stream("Hi").collect().text == "fine"
    assert server.connections == 2


def test_the_proxies_of_a_session_of_the_caller_are_used(serve):
    proxy = serve(OK)
    with requests.Session() as session:
        session.proxies = {"http": f"http://127.0.0.1:{proxy.port}"}
        client = Client(Provider("test", "http://api.invalid/v1"), model="m1", session=session)
        assert client.stream("Hi").collect().text == "fine"
    assert proxy.requests[0].path == "http://api.invalid/v1/chat/completions"


def test_a_custom_adapter_on_a_session_of_the_caller_is_used(serve):
    class CountingAdapter(HTTPAdapter):
        sent = 0

        def send(self, *args: Any, **options: Any) -> Any:
            CountingAdapter.sent += 1
            return super().send(*args, **options)

    with requests.Session() as session:
        session.mount("http://", CountingAdapter())
        client = Client(Provider("test", serve(OK).url), model="m1", session=session)
        assert client.stream("Hi", heartbeat=0.01).collect().text == "fine"
        client.close()
    assert CountingAdapter.sent == 1


# ── the provider ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_provider_of_a_client_may_be_given_by_its_name(monkeypatch):
    assert Client().provider == Provider.named("openai")
    assert Client("ollama").provider == Provider.named("ollama")
    with pytest.raises(ConfigError, match=r"^unknown built-in provider \("):
        Client("nobody")
    with pytest.raises(ConfigError, match="not dict"):
        Client({"base_url": "http://127.0.0.1"})  # type: ignore[arg-type]


def test_the_default_provider_is_openai_with_the_key_from_the_environment(serve, monkeypatch):
    server = serve(OK)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    with Client(model="m1") as client:
        with pytest.raises(MissingEnvVar, match="OPENAI_API_KEY"):
            client.stream("Hi")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert client.stream("Hi").collect().text == "fine"
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_each_call_to_the_local_server_uses_its_current_address(serve, monkeypatch):
    servers = [serve(OK), serve(OK)]
    addresses = iter([servers[0].url, servers[0].url, servers[1].url])
    monkeypatch.setattr(local, "local_provider", lambda sleep: Provider("local", next(addresses), model="m1"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client("local") as client:
        for _ in range(3):
            assert client.stream("Hi").collect().text == "fine"
    assert [len(server.requests) for server in servers] == [2, 1]


# ── chatstream.stream ───────────────────────────────────────────────────────────────────────────────────────────


def test_chatstream_stream_calls_the_given_provider_over_a_shared_connection(serve):
    server = serve(OK)
    provider = Provider("test", server.url)
    for _ in range(2):
        assert list(chatstream.stream("Hi", model="m1", provider=provider, temperature=0).text()) == ["fine"]
    assert server.connections == 1
    assert server.requests[0].json["temperature"] == 0
    shared_client(provider).close()


def test_chatstream_stream_calls_openai_if_no_provider_is_given(serve, monkeypatch):
    server = serve(OK)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert chatstream.stream("Hi", model="m1").collect().text == "fine"
    shared_client("openai").close()


# ── copies, pickles and reprs ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", ["base_url", "api_key", "session", "on_request", "on_retry", "on_turn", "on_wait"])
def test_an_option_that_is_set_on_a_client_afterwards_is_refused_because_it_would_change_nothing(
    serve, connect, option
):
    client = connect(serve(text_answer("fine")))
    with pytest.raises(AttributeError, match=rf"^{option} of a Client can't be changed: .* Client\(…, {option}=…\)$"):
        setattr(client, option, KEY)
    assert KEY not in repr(vars(client))
    assert client.stream("Hi").collect().text == "fine"


def test_a_subclass_of_client_may_have_attributes_with_the_names_of_options():
    class Tenant(Client):
        def __init__(self, url: str) -> None:
            super().__init__(url)
            self.base_url = url

    assert Tenant("http://127.0.0.1/v1").base_url == "http://127.0.0.1/v1"


def test_defaults_that_are_changed_later_are_checked_as_those_given_to_the_client(serve, connect):
    server = serve(text_answer("fine"))
    client = connect(server, defaults={"temperature": 0})
    client.defaults["api_key"] = "hunter2"
    with pytest.raises(ConfigError, match=r"^api_key=\*\*\* is not a request field: pass the key to a client"):
        client.stream("Hi")
    client.defaults = {"timeout": 5}
    with pytest.raises(ConfigError, match=r"^timeout=5 is not a request field"):
        client.stream("Hi")
    client.defaults = {"temperature": 1}
    assert client.stream("Hi").collect().text == "fine"
    assert [request.json["temperature"] for request in server.requests] == [1]


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
def test_a_copied_client_has_the_same_settings_and_session(serve, connect, make_copy):
    retries: list[RetryInfo] = []
    session = requests.Session()
    server = serve(status(503), OK)
    client = connect(server, deadline=9.0, on_retry=retries.append, session=session, limits=Limits(event_bytes=1000))
    with make_copy(client) as copied:
        assert copied.provider == client.provider
        assert (copied.model, copied.deadline, copied.limits) == (client.model, client.deadline, client.limits)
        assert copied.stream("Hi").collect().text == "fine"
        assert copied._session is session
    assert len(retries) == 1
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    session.close()


def test_a_pickled_client_keeps_its_settings_but_not_its_key(serve, connect):
    server = serve(OK)
    client = connect(server, deadline=9.0, limits=Limits(event_bytes=1000), session=requests.Session())
    pickled = pickle.dumps(client)
    assert KEY.encode() not in pickled
    with pickle.loads(pickled) as copied:
        assert (copied.provider.base_url, copied.provider.api_key) == (server.url, None)
        assert (copied.model, copied.deadline, copied.limits) == (client.model, client.deadline, client.limits)
        assert copied.stream("Hi").collect().text == "fine"
    assert server.requests[0].headers["Authorization"] is None


def test_a_client_can_be_copied_and_pickled_while_a_stream_is_open(serve, connect):
    client = connect(serve(OK))
    stream = client.stream("Hi")
    assert pickle.loads(pickle.dumps(client)).model == copy.copy(client).model == "m1"
    assert stream.collect().text == "fine"


def test_the_key_is_in_no_repr_of_a_client_and_in_no_pickled_error(serve, connect):
    client = connect(serve(status(401, "no")))
    assert KEY not in repr(client) + repr(vars(client)) + str(client.provider)
    assert repr(client).startswith("Client(Provider(name='test', base_url='http://127.0.0.1:")
    with pytest.raises(UnexpectedStatus) as caught:
        client.stream("Hi")
    assert KEY not in repr(pickle.dumps(caught.value))


def test_cancel_of_a_client_ends_a_call_that_waits_for_headers(serve, connect):
    client = connect(serve([stall()]))
    threading.Timer(0.05, client.cancel).start()
    with within(0.1), pytest.raises(Cancelled):
        client.stream("Hi")


def test_cancel_of_a_client_ends_a_stream_that_is_being_read(serve, connect):
    client = connect(serve([head(), delta("one "), stall()]))
    stream = client.stream("Hi")
    assert [next(stream), next(stream)][1] == OutputTextDelta("one ")
    threading.Timer(0.05, client.cancel).start()
    with pytest.raises(Cancelled) as caught:
        list(stream)
    assert caught.value.partial.text == "one "


# ── shared clients ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not list descriptors")
def test_300_providers_used_one_after_the_other_by_chatstream_stream_keep_few_descriptors_open():
    program = """
        import os, sys
        import chatstream

        for number in range(300):
            provider = chatstream.Provider(f"p{number}", sys.argv[1], api_key=f"key {number}".replace(" ", "-"))
            assert chatstream.stream("Hi", provider=provider, model="m1").collect().text == "fine"
            assert len(os.listdir("/proc/self/fd")) < 64, number
    """
    with FaultServer(OK) as server:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), server.url]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def no_shared_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`chatstream.stream` with clients of its own, which are closed at the end."""
    monkeypatch.setattr(_shared, "_shared", {})
    yield
    for each in _shared._shared.values():
        each.close()


@pytest.mark.usefixtures("no_shared_clients")
def test_the_shared_clients_used_last_are_kept_and_those_of_other_providers_are_closed(serve):
    server = serve(OK)
    providers = [Provider(f"p{number}", server.url) for number in range(_shared.MOST_SHARED + 1)]

    def call(provider: Provider) -> None:
        assert chatstream.stream("Hi", model="m1", provider=provider).collect().text == "fine"

    for provider in [*providers[:-1], providers[0], providers[-1]]:  # the second one is used least
        call(provider)
    assert server.client_closed(2)
    assert server.connections == len(providers)
    for provider in (providers[0], providers[-1]):
        call(provider)
    assert server.connections == len(providers)
    call(providers[1])
    assert server.connections == len(providers) + 1


@pytest.mark.usefixtures("no_shared_clients")
def test_an_open_stream_of_a_shared_client_goes_on_when_the_client_is_dropped(serve):
    gate = threading.Event()
    first = serve([head(), delta("one "), wait_for(gate), delta("two"), finish(), done(), end()])
    stream = chatstream.stream("Hi", model="m1", provider=Provider("first", first.url))
    texts = stream.text()
    assert next(texts) == "one "
    others = serve(OK)
    for number in range(_shared.MOST_SHARED):
        chatstream.stream("Hi", model="m1", provider=Provider(f"p{number}", others.url)).collect()
    gate.set()
    assert list(texts) == ["two"]
    assert first.client_closed()


# ── objects that were never made ────────────────────────────────────────────────────────────────────────────────


def refuse(*_: object, **__: object) -> None:
    raise ConfigError("refused")


UNMADE = [
    Client,
    chatstream.ResponseStream,
    CallReader,
    OpenAttempt,
    Transport,
    CancelScope,
    Sender,
    Call,
    Provider,
    local.LocalServer,
    chatstream.Turn,
    chatstream.Completed,
    chatstream.Message,
    chatstream.FunctionCall,
    chatstream.Tool,
    Limits,
]


@pytest.mark.parametrize("kind", UNMADE, ids=lambda kind: kind.__name__)
def test_an_object_whose_init_raised_can_be_shown_and_forgotten(kind, monkeypatch):
    made = object.__new__(kind)
    assert kind.__name__ in repr(made)
    assert kind.__name__ in str(made)
    assert not hasattr(made, "__dict__") or repr(vars(made)) == "{}"
    monkeypatch.setattr(kind, "__init__", refuse)
    try:
        kind()
    except ConfigError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert "refused" in "".join(shown.format())
    del made
    gc.collect()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Client, {"provider": 7}),
        (Client, {"deadline": -1}),
        (Provider, {"name": "test", "base_url": "http://a", "api_key": f"{KEY}\n"}),
        (Provider, {"name": "test", "base_url": 7, "api_key": KEY}),
        (Provider, {"name": "test", "base_url": "http://a", "api_key": KEY, "http_headers": 7}),
        (Provider, {"name": "test", "base_url": "http://a", "query_params": [KEY]}),
        (local.LocalServer, {"model_path": "/nowhere.gguf"}),
        (chatstream.Message, {"role": 7, "content": 7}),
    ],
    ids=repr,
)
def test_the_locals_of_a_traceback_through_an_init_that_raised_show_no_key(kind, given):
    try:
        kind(**given)
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
        made = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, kind)]
        shown = "".join(repr(each) + str(each) for each in made)
    else:
        pytest.fail("nothing was refused")
    assert kind.__name__ in shown or not made
    assert KEY not in shown


def test_a_stream_whose_init_raised_is_forgotten_without_a_trace(serve, connect, monkeypatch):
    monkeypatch.setattr("chatstream._calls.reader.calling_line", refuse)
    with pytest.raises(ConfigError, match="refused"):
        connect(serve(OK)).stream("Hi")
    gc.collect()
