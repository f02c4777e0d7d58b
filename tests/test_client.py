"""`Client`: which server and model it calls, what its calls share, and how it is copied and pickled."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support import KEY, within

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
)
from chatstream.client import shared_client
from chatstream.providers import local
from chatstream.testing import delta, done, end, finish, head, stall, status, text_answer

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
    "fields", [{"n": -1}, {"n": "2"}, {"heartbeat": 0}, {"heartbeat": "1"}, {"deadline": 0}], ids=repr
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
    with pytest.raises(ConfigError, match="no ready-made provider"):
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
    monkeypatch.setattr(local, "local_provider", lambda: Provider("local", next(addresses), model="m1"))
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
