"""`fallback`: which client answers, what both of them hear of it, and what is never sent."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from support import REST, THREE, WORDS, wait_for, within

from chatstream import (
    CallInfo,
    Cancelled,
    ChatStreamError,
    Client,
    Completed,
    ConfigError,
    ConnectionFailed,
    DeadlineExceeded,
    Fallback,
    Heartbeat,
    IdleTimeout,
    MissingEnvVar,
    Prompt,
    Provider,
    QuotaExceeded,
    RetryLimit,
    StreamClosed,
    StreamTruncated,
    Turn,
    UnexpectedStatus,
    fallback,
    replay,
    run_tools,
)
from chatstream._http.reply import Reply
from chatstream.testing import Script, chunk, cut, delta, done, end, event, finish, head, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")

USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
BROKEN: Script = [head(), delta("It"), cut()]
FINE = text_answer("Fine.")


def error_event(**error: Any) -> Script:
    """An answer whose first event is an error."""
    return [head(), event({"error": error}), end()]


@pytest.fixture
def pair(serve, connect):
    """Makes two servers from their scripts, and a `Fallback` of a client for each, whose providers are ``a`` and ``b``;
    ``options`` are those of both clients."""

    def made(*scripts: Any, **options: Any) -> tuple[Any, Any, Fallback]:
        servers = [serve(*(each if isinstance(each, tuple) else (each,))) for each in scripts]
        clients = [connect(server, name=name, **options) for server, name in zip(servers, "ab", strict=True)]
        return servers[0], servers[1], fallback(clients)

    return made


# ── who answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_client_answers_as_long_as_it_can(pair):
    first, second, both = pair(FINE, FINE)
    stream = both.stream("Hi")
    assert stream.provider == "a"
    assert stream.collect().provider == "a"
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_the_next_client_is_asked_after_the_retries_of_a_provider_that_refuses(pair, caplog):
    first, second, both = pair(status(503, "busy"), FINE)
    with caplog.at_level(logging.WARNING, "chatstream"):
        stream = both.stream("Hi")
    turn = stream.collect()
    assert (stream.provider, turn.provider, turn.text) == ("b", "b", "Fine.")
    assert Turn.from_dict(turn.to_dict()) == turn
    assert [(each.number, each.provider, each.status) for each in stream.attempts] == [
        (1, "a", 503),
        (2, "a", 503),
        (3, "b", 200),
    ]
    assert turn.timing.retries == 2
    assert (len(first.requests), len(second.requests)) == (2, 1)
    assert caplog.messages[-1].startswith("a: retries exhausted after 2 attempts, last status 503: busy")
    assert caplog.messages[-1].endswith("; trying b next")


def test_the_fields_and_the_prompt_reach_each_client_and_each_takes_its_own_model(serve, connect):
    servers = serve(status(404, "no such model")), serve(FINE)
    both = fallback([connect(server, model=model) for server, model in zip(servers, ("large", "small"), strict=True)])
    both.stream(messages=[{"role": "user", "content": "Hi"}], temperature=0, extra_headers={"X-Run": "7"}).collect()
    for server, model in zip(servers, ("large", "small"), strict=True):
        (request,) = server.requests
        assert (request.json["model"], request.json["temperature"]) == (model, 0)
        assert request.json["messages"] == [{"role": "user", "content": "Hi"}]
        assert request.headers["X-Run"] == "7"


@pytest.mark.parametrize("code", [402, 404, 408, 409, 410, 429, 500, 502, 529])
def test_a_status_that_says_that_the_provider_can_not_leads_to_the_next(pair, code):
    _, _, both = pair(status(code, "no"), FINE, request_max_retries=0)
    assert both.stream("Hi").collect().provider == "b"


@pytest.mark.parametrize("code", [400, 401, 403, 405, 413, 422])
def test_a_status_that_the_request_or_the_key_is_to_blame_for_is_raised_at_once(pair, code):
    _, second, both = pair(status(code, "no"), FINE)
    with pytest.raises(UnexpectedStatus) as caught:
        both.stream("Hi")
    assert caught.value.status == code
    assert second.requests == []


def test_a_quota_that_is_used_up_leads_to_the_next_client(pair):
    quota = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    first, _, both = pair(status(429, quota), FINE)
    assert both.stream("Hi").collect().provider == "b"
    assert len(first.requests) == 1


def test_a_server_that_does_not_listen_and_one_without_a_trusted_certificate_lead_to_the_next_client(
    serve, connect, refused_port, tls
):
    nobody = connect(f"http://127.0.0.1:{refused_port}/v1", name="a")
    unknown = connect(serve(FINE, tls=tls), name="b")
    stream = fallback([nobody, unknown, connect(serve(FINE), name="c")]).stream("Hi")
    assert stream.collect().provider == "c"
    assert [each.provider for each in stream.attempts] == ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    "script",
    [
        error_event(message="overloaded", code="overloaded_error"),
        error_event(message="no money", type="insufficient_quota"),
        error_event(message="what model?", code="model_not_found"),
        error_event(message="bad gateway", code=502),
        error_event(message="gone", code="404"),
        [head(), chunk(b"<html>hello</html>"), end()],
        [head(), cut()],
        [head(), end()],
        [head(), stall()],
        [stall()],
    ],
    ids=["overloaded", "quota", "model", "502", "404", "page", "cut", "empty", "silent", "no headers"],
)
def test_an_answer_that_fails_before_its_first_event_leads_to_the_next_client(pair, script):
    _, second, both = pair(script, text_answer(*WORDS), stream_idle_timeout=0.1, stream_max_retries=0)
    stream = both.stream("Hi")
    assert list(stream.text()) == WORDS
    assert (stream.provider, len(second.requests)) == ("b", 1)


@pytest.mark.parametrize("code", ["context_length_exceeded", 400, "invalid_api_key", None])
def test_an_error_inside_a_stream_that_the_request_is_to_blame_for_is_raised(pair, code):
    _, second, both = pair(error_event(message="no", code=code), FINE)
    with pytest.raises(ChatStreamError, match="no"):
        both.stream("Hi").collect()
    assert second.requests == []


@pytest.mark.parametrize("read", [lambda stream: stream.collect(), lambda stream: [*stream.aggregate()]])
@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
@pytest.mark.usefixtures("trusted")
def test_a_break_in_the_middle_leads_to_the_next_client_as_long_as_nothing_was_handed_over(
    serve, connect, tls, read, encrypted
):
    context = {"tls": tls} if encrypted else {}
    servers = serve(BROKEN, **context), serve(BROKEN, text_answer(*WORDS), **context)
    stream = fallback([connect(server, name=name) for server, name in zip(servers, "ab", strict=True)]).stream("Hi")
    read(stream)
    assert (stream.turn.text, stream.turn.provider) == ("".join(WORDS), "b")
    assert [(each.number, each.provider) for each in stream.attempts] == [(1, "a"), (2, "a"), (3, "b"), (4, "b")]
    assert [len(server.requests) for server in servers] == [2, 2]


def test_a_break_after_an_event_was_handed_over_is_raised_and_nobody_else_is_asked(pair):
    first, second, both = pair(BROKEN, FINE)
    stream = both.stream("Hi")
    with pytest.raises(StreamTruncated) as caught:
        list(stream.text())
    assert (caught.value.partial.text, caught.value.partial.provider) == ("It", "a")
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_when_replaces_the_choice_of_the_errors_that_lead_to_the_next_client(serve, connect):
    clients = [connect(serve(status(401, "who?")), name="a"), connect(serve(FINE), name="b")]
    assert (
        fallback(clients, when=lambda error: getattr(error, "status", 0) == 401).stream("Hi").collect().text == "Fine."
    )
    clients[0] = connect(serve(status(500, "no")), name="a")
    with pytest.raises(RetryLimit):
        fallback(clients, when=lambda error: False).stream("Hi")


# ── when nobody answers ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_error_has_the_attempts_of_all_providers_and_the_errors_before_as_causes(serve, connect, refused_port):
    clients = [
        connect(f"http://127.0.0.1:{refused_port}/v1", name="a", request_max_retries=0),
        connect(serve(status(503, "busy")), name="b"),
        connect(serve(status(402, "no money")), name="c"),
    ]
    with pytest.raises(UnexpectedStatus, match="402") as caught:
        fallback(clients).stream("Hi")
    error = caught.value
    assert [(each.number, each.provider, each.status) for each in error.attempts] == [
        (1, "a", None),
        (2, "b", 503),
        (3, "b", 503),
        (4, "c", 402),
    ]
    assert isinstance(error.__cause__, RetryLimit)
    assert isinstance(error.__cause__.__cause__, ConnectionFailed)
    assert [len(each.attempts) for each in (error.__cause__, error.__cause__.__cause__)] == [3, 1]


def test_the_last_error_after_a_break_has_all_attempts_too_and_the_part_received(pair):
    _, _, both = pair(BROKEN, status(503, "busy"), stream_max_retries=0)
    stream = both.stream("Hi")
    with pytest.raises(RetryLimit) as caught:
        stream.collect()
    assert [(each.number, each.provider) for each in caught.value.attempts] == [(1, "a"), (2, "b"), (3, "b")]
    assert stream.attempts == caught.value.attempts
    assert isinstance(caught.value.__cause__, StreamTruncated)
    assert caught.value.partial.text == "It"


def test_a_break_at_every_provider_raises_that_of_the_last(pair):
    _, _, both = pair(BROKEN, [head(), delta("Or"), cut()], stream_max_retries=0)
    with pytest.raises(StreamTruncated) as caught:
        both.stream("Hi").collect()
    assert (caught.value.partial.text, caught.value.partial.provider) == ("Or", "b")
    assert [each.provider for each in caught.value.attempts] == ["a", "b"]


def test_a_missing_key_is_raised_and_not_passed_over(serve, connect):
    clients = [connect(serve(FINE), name="a", api_key=None, env_key="NO_SUCH_KEY"), connect(serve(FINE), name="b")]
    with pytest.raises(MissingEnvVar):
        fallback(clients).stream("Hi")


# ── time, and other threads ─────────────────────────────────────────────────────────────────────────────────────


def test_the_deadline_is_that_of_the_whole_call_over_all_clients(pair):
    _, second, both = pair(status(503, "busy"), [stall()], request_max_retries=0)
    with within(1.0, least=0.3), pytest.raises(DeadlineExceeded):
        both.stream("Hi", deadline=0.3)
    assert len(second.requests) == 1


def test_a_deadline_that_passes_leads_to_nobody_else(pair):
    _, second, both = pair([stall()], FINE, deadline=0.2)
    with within(1.0), pytest.raises(DeadlineExceeded):
        both.stream("Hi")
    assert second.requests == []


def test_the_shortest_deadline_of_the_clients_holds_if_the_call_has_none(serve, connect):
    clients = [connect(serve(status(503), FINE), request_max_retries=0), connect(serve([stall()]), deadline=0.2)]
    with within(1.0), pytest.raises(DeadlineExceeded):
        fallback(clients).stream("Hi")


@pytest.mark.parametrize("cancel", ["stream", "fallback", "client"])
def test_a_call_that_waits_for_the_second_answer_is_cancelled_from_another_thread(pair, cancel):
    _, second, both = pair(BROKEN, [stall()], stream_max_retries=0)
    stream = both.stream("Hi")
    targets = {"stream": stream, "fallback": both, "client": both.clients[1]}

    def end_it() -> None:
        while not second.requests:
            time.sleep(0.002)
        targets[cancel].cancel()

    thread = threading.Thread(target=end_it)
    thread.start()
    with within(1.0), pytest.raises(Cancelled):
        stream.collect()
    thread.join()


def test_a_call_that_has_no_stream_yet_is_cancelled_from_another_thread(pair):
    _, second, both = pair([stall()], FINE)
    threading.Timer(0.1, both.cancel).start()
    with within(1.0), pytest.raises(Cancelled):
        both.stream("Hi")
    assert second.requests == []


def test_a_client_that_was_passed_over_cancels_the_call_no_more(pair):
    go = threading.Event()
    _, _, both = pair(status(404), [head(), *THREE, wait_for(go), *REST])
    stream = both.stream("Hi")
    both.clients[0].cancel()
    go.set()
    assert stream.collect().text == "".join(WORDS)


def test_a_stream_that_another_thread_closes_while_the_next_client_is_asked_gives_its_connection_up(pair):
    _, second, both = pair(BROKEN, [stall()], stream_max_retries=0)
    stream = both.stream("Hi")

    def end_it() -> None:
        while not second.requests:
            time.sleep(0.002)
        stream.close()

    thread = threading.Thread(target=end_it)
    thread.start()
    with within(1.0), pytest.raises(StreamClosed):
        stream.collect()
    thread.join()
    assert second.client_closed(1)


def test_a_stream_that_is_closed_just_as_the_next_client_has_answered_ends_the_call_of_that_client(serve, connect):
    infos: list[CallInfo] = []
    closing = connect(serve([head(), *THREE, stall()]), name="b", on_turn=infos.append)
    both = fallback([connect(serve(BROKEN), name="a", stream_max_retries=0), closing])
    stream = both.stream("Hi")
    answer = closing.stream

    def stream_and_close(*args: Any, **options: Any) -> Any:
        made = answer(*args, **options)
        stream.close()
        return made

    closing.stream = stream_and_close
    with pytest.raises(StreamClosed):
        stream.collect()
    assert [info.provider for info in infos] == ["b"]


def test_heartbeats_go_on_while_the_second_answer_is_awaited(pair):
    go = threading.Event()
    _, _, both = pair([head(), cut()], [head(), wait_for(go), *THREE, *REST], stream_max_retries=0)
    events = []
    for each in both.stream("Hi", heartbeat=0.02):
        events.append(each)
        if isinstance(each, Heartbeat):
            go.set()
    assert Heartbeat() in events
    assert isinstance(events[-1], Completed)


def test_on_wait_of_the_first_client_is_called_while_the_second_is_awaited_unless_that_has_its_own(serve, connect):
    def called(second_has_its_own: bool) -> set[str]:
        calls, go = set[str](), threading.Event()
        server = serve([wait_for(go), *FINE])

        def note(name: str) -> None:
            if server.requests:
                calls.add(name)
                go.set()

        first = connect(serve(status(404)), on_wait=lambda seconds: note("a"))
        own = (lambda seconds: note("b")) if second_has_its_own else None
        fallback([first, connect(server, on_wait=own)]).stream("Hi", heartbeat=0.05).collect()
        return calls

    assert (called(False), called(True)) == ({"a"}, {"b"})


def test_an_error_that_on_wait_raises_leads_to_nobody_else(serve, connect):
    def on_wait(seconds: float) -> None:
        raise ConnectionFailed("mine")

    second = serve(FINE)
    first = connect(serve([stall()]), on_wait=on_wait)
    with pytest.raises(ConnectionFailed, match="mine"):
        fallback([first, connect(second)]).stream("Hi", heartbeat=0.05)
    assert second.requests == []


# ── hooks and totals ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("broken", [True, False])
def test_each_client_hears_once_of_its_own_call(serve, connect, broken):
    infos: list[CallInfo] = []
    script = BROKEN if broken else status(503, "busy")
    options: dict[str, Any] = {"on_turn": infos.append, "request_max_retries": 0, "stream_max_retries": 0}
    both = fallback([connect(serve(script), name="a", **options), connect(serve(FINE), name="b", **options)])
    both.stream("Hi").collect()
    assert [(info.provider, len(info.attempts)) for info in infos] == [("a", 1), ("b", 1)]
    assert infos[1].error is None
    assert isinstance(infos[0].error, StreamTruncated if broken else RetryLimit)
    assert (infos[0].turn.text, infos[1].turn.text) == ("It" if broken else "", "Fine.")
    assert all(0 < info.timing.headers <= info.timing.total for info in infos[not broken :])
    assert infos[0].timing.total > 0


def test_a_stream_that_another_thread_closes_before_it_is_restarted_has_no_error_for_on_turn(
    serve, connect, monkeypatch
):
    infos: list[CallInfo] = []
    closing: list[threading.Thread] = []

    def close_slowly(_: Any) -> None:
        monkeypatch.setattr(Reply, "close", lambda _: time.sleep(0.2))
        closing.append(threading.Thread(target=stream.close))
        closing[0].start()

    client = connect(serve(BROKEN), on_turn=infos.append, on_retry=close_slowly)
    stream = fallback([client, connect(serve(FINE))]).stream("Hi")
    with pytest.raises(StreamClosed):
        stream.collect()
    closing[0].join()
    assert [info.error for info in infos] == [None]


@pytest.mark.parametrize("second", [FINE, status(503, "busy")], ids=["answers", "refuses"])
def test_the_tokens_of_a_broken_answer_count_once_for_its_own_client(pair, second):
    broken = [head(), delta("It"), event({"id": "c1", "choices": [], "usage": USAGE}), cut()]
    _, _, both = pair(broken, second, stream_max_retries=0)
    with suppress(RetryLimit):
        both.stream("Hi").collect()
    assert both.clients[0].usage.tokens.total_tokens == 6
    assert both.clients[1].usage.tokens.total_tokens is None


def test_a_loop_over_tools_takes_several_clients(serve, connect):
    def get_weather(city: str) -> str:
        return "18 °C"

    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    called = {"tool_calls": [{"index": 0, "id": "a", "function": function}]}
    calling = [head(), event({"choices": [{"index": 0, "delta": called}]}), finish("tool_calls"), done(), end()]
    clients = [
        connect(serve(calling, status(503)), name="a", request_max_retries=0),
        connect(serve(text_answer("It is warm.")), name="b"),
    ]
    loop = run_tools(fallback(clients), Prompt(input="Paris?"), [get_weather])
    assert "".join(loop.text()) == "It is warm."
    assert [turn.provider for turn in loop.turns] == ["a", "b"]


# ── misuse ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([], "fallback needs at least one client"),
        ("openai", "clients must be a list"),
        (["openai"], "fallback needs clients, not str"),
        ([Provider.named("local")], "fallback needs clients, not Provider"),
    ],
    ids=["none", "text", "name", "provider"],
)
def test_what_is_no_list_of_clients_is_a_config_error(clients, message):
    with pytest.raises(ConfigError, match=message):
        fallback(clients)


def test_an_option_in_a_wrong_place_is_a_config_error_before_anything_is_sent(pair):
    first, second, both = pair(FINE, FINE)
    for options in ({"timeout": 5}, {"deadline": -1}, {"heartbeat": 0}):
        with pytest.raises(ConfigError):
            both.stream("Hi", **options)
    assert first.requests == second.requests == []


def test_closing_closes_every_client_and_the_key_is_in_no_repr(pair):
    first, _, both = pair(FINE, FINE)
    with both:
        both.stream("Hi").collect()
    assert first.client_closed(1)
    assert repr(both).startswith("fallback([Client(")
    assert "sk-Zq7" not in repr(both)
    assert isinstance(both.clients[0], Client)
    assert not issubclass(QuotaExceeded, RetryLimit)
    assert issubclass(IdleTimeout, ChatStreamError)


def test_a_recording_of_a_fallback_keeps_the_call_of_each_client(pair, tmp_path):
    path = tmp_path / "run.sse"
    _, _, both = pair(BROKEN, FINE, stream_max_retries=0)
    assert both.stream("Hi", record=path).collect().text == "Fine."
    with pytest.raises(StreamTruncated):
        replay(path, call=0).collect()
    assert replay(path, call=1).collect().text == "Fine."
