"""Rate limits: what a client with many threads does when a server refuses requests because there are too many."""

from __future__ import annotations

import os
import threading
import time
from bisect import insort
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from support import KEY, within

from chatstream import (
    Cancelled,
    ChatStreamError,
    Client,
    DeadlineExceeded,
    Provider,
    ProviderError,
    QuotaExceeded,
    RetryInfo,
    RetryLimit,
    UnexpectedStatus,
)
from chatstream._calls import backoff
from chatstream._http.cancel_scope import CancelScope
from chatstream._retries import rate_limit
from chatstream._retries.rate_limit import FIRST_INTERVAL, LONGEST_INTERVAL, RateLimit
from chatstream.testing import Wire, delta, end, event, head, status, text_answer

OK = text_answer("fine")
QUOTA = {"error": {"message": "Pay.", "code": "insufficient_quota"}}
BUSY = {"error": {"message": "Too many requests.", "code": "rate_limit_exceeded"}}


class LimitedRate:
    """A step that answers at most ``calls`` requests in any window of ``seconds`` and refuses all others.

    ``served`` and ``refused`` are the times of the requests, of the monotonic clock.
    """

    def __init__(
        self, calls: int, seconds: float, body: Any = BUSY, headers: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        self.served: list[float] = []
        self.refused: list[float] = []
        self._calls, self._seconds, self._body, self._headers = calls, seconds, body, headers
        self._lock = threading.Lock()

    def __call__(self, wire: Wire) -> None:
        with self._lock:
            now = time.monotonic()
            admitted = sum(now - each < self._seconds for each in self.served[-self._calls :]) < self._calls
            (self.served if admitted else self.refused).append(now)
        for step in OK if admitted else status(429, self._body, self._headers()):
            step(wire)


class Requests:
    """A step that notes when a request arrives. ``times`` are of the monotonic clock."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, wire: Wire) -> None:
        self.times.append(time.monotonic())


def limited(wait: float, **headers: str) -> Any:
    """A refusal because of a rate limit that lasts ``wait`` seconds."""
    return status(429, BUSY, {"Retry-After": f"{wait:g}", **headers})


def error_of_sending(client: Any, **fields: Any) -> Any:
    with pytest.raises(ChatStreamError) as caught:
        client.stream("Hi", **fields)
    return caught.value


def attempts_of_calls(client: Client, threads: int, prompts: int) -> list[int]:
    """Stream ``prompts`` answers with ``threads`` threads; returns how many attempts each took."""

    def call(_: int) -> int:
        stream = client.stream("Hi")
        assert stream.collect().text == "fine"
        return len(stream.attempts)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(prompts)))


@pytest.fixture
def default_client(serve: Any) -> Any:
    """A function that makes a client of a server with the given scripts and the default settings."""
    clients: list[Client] = []

    def make_client(*scripts: Any, tls: Any = None, **options: Any) -> Client:
        client_options = {name: options.pop(name) for name in ("on_retry", "deadline") if name in options}
        server = serve(*scripts, tls=tls)
        clients.append(Client(Provider("test", server.url, api_key=KEY, **options), model="m1", **client_options))
        return clients[-1]

    yield make_client
    for client in clients:
        client.close()


# ── many calls ──────────────────────────────────────────────────────────────────────────────────────────────────

WAITS = {
    "seconds": (BUSY, lambda: {"Retry-After": "0.1"}),
    "milliseconds": (BUSY, lambda: {"retry-after-ms": "100"}),
    "zero": (BUSY, lambda: {"Retry-After": "0"}),
    "sentence": ({"error": {"message": "Limit reached. Please try again in 100ms."}}, dict),
    "nothing": (BUSY, dict),
}


@pytest.mark.parametrize(("body", "headers"), WAITS.values(), ids=WAITS)
def test_every_call_of_eight_threads_is_answered_by_a_server_with_a_rate_limit(default_client, body, headers):
    rate = LimitedRate(20, 0.25, body, headers)
    with within(5.0):
        attempts = attempts_of_calls(default_client([rate]), 8, 60)
    assert len(rate.served) == 60
    assert 1 <= len(rate.refused) <= 30
    assert max(attempts) <= 10


@pytest.mark.usefixtures("trusted")
def test_every_call_over_tls_is_answered_by_a_server_with_a_rate_limit(default_client, tls):
    rate = LimitedRate(20, 0.25, headers=lambda: {"Retry-After": "0.1"})
    with within(5.0):
        attempts_of_calls(default_client([rate], tls=tls), 8, 40)
    assert len(rate.served) == 40


def test_a_rate_limit_may_be_a_date_of_a_server_whose_clock_is_wrong(default_client):
    rate = LimitedRate(
        10, 0.9, headers=lambda: {"Retry-After": formatdate(1e9 + 1, usegmt=True), "Date": formatdate(1e9, usegmt=True)}
    )
    with within(4.0, least=1.0):
        attempts_of_calls(default_client([rate]), 8, 16)


def test_a_hundred_threads_are_refused_together_once_and_then_one_by_one(default_client):
    rate = LimitedRate(40, 0.25, headers=lambda: {"Retry-After": "0.1"})
    with within(6.0):
        attempts_of_calls(default_client([rate]), 100, 100)
    assert len(rate.served) == 100
    assert len(rate.refused) <= 60 + 30


def test_a_single_thread_waits_as_long_as_the_server_wants_and_no_longer(default_client):
    requests = Requests()
    client = default_client([requests, *limited(0.2)], [requests, *OK])
    with within(0.5, least=0.2):
        assert attempts_of_calls(client, 1, 2) == [2, 1]
    assert requests.times[1] - requests.times[0] >= 0.2


def test_several_clients_of_one_server_share_its_rate_limit_without_an_error(default_client):
    rate = LimitedRate(20, 0.25, headers=lambda: {"Retry-After": "0.1"})
    first = default_client([rate])
    second = Client(first.provider, model="m1")
    with within(5.0), second, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda client: attempts_of_calls(client, 4, 30), [first, second]))
    assert len(rate.served) == 60


# ── one pause for all calls ─────────────────────────────────────────────────────────────────────────────────────


def test_a_rate_limit_holds_back_calls_that_have_not_been_sent(default_client):
    requests = Requests()
    client = default_client([requests, *limited(0.4)], [requests, *OK])
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(client.stream, "Hi")
        while not requests.times:
            time.sleep(0.005)
        time.sleep(0.1)
        streams = [first, *(pool.submit(client.stream, "Hi") for _ in range(19))]
        assert [stream.result().collect().text for stream in streams] == ["fine"] * 20
    assert len(requests.times) == 21
    assert requests.times[1] - requests.times[0] >= 0.4
    gaps = [later - earlier for earlier, later in zip(requests.times[1:], requests.times[2:], strict=False)]
    assert sum(gaps[:5]) > 2 * FIRST_INTERVAL, "the calls go out one by one after the pause"


def test_a_rate_limit_that_is_met_while_the_key_of_another_call_is_fetched_holds_that_call_back(serve, connect):
    asked, refused = threading.Event(), threading.Event()

    def key() -> str:
        if threading.current_thread() is not threading.main_thread():
            asked.set()
            assert refused.wait(5)
        return KEY

    arrived: list[float] = []

    def script(wire: Wire) -> None:
        arrived.append(time.monotonic())
        is_first = len(arrived) == 1
        for step in status(429, "slow down", {"Retry-After": "0.5"}) if is_first else text_answer("fine"):
            step(wire)

    client = connect(serve([script]), api_key=key, on_retry=lambda _: refused.set())
    with within(3.0), ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: client.stream("Hi").collect())
        assert asked.wait(5)
        client.stream("Hi").collect()
        other.result()
    assert len(arrived) == 3
    assert arrived[1] - arrived[0] >= 0.45


def test_a_wait_for_a_rate_limit_between_two_requests_of_a_call_does_not_count_as_waiting_for_an_event(serve, connect):
    keys: list[str] = []

    def key() -> str:
        keys.append(KEY)
        if len(keys) == 2:  # now another call of the client meets a rate limit
            client._sender.backoff._rate_limit.pause(0.7, time.monotonic())
        return KEY

    server = serve(status(400, "unknown field stream_options"), text_answer("fine"))
    client = connect(server, api_key=key, first_event_timeout=0.3)
    with within(3.0, least=0.7):
        assert client.stream("Hi").collect().text == "fine"
    assert len(keys) == 3  # the key may have expired during the wait
    assert len(server.requests) == 2


def test_the_call_that_began_first_is_sent_first_after_a_pause(default_client):
    order: list[str] = []

    def note(wire: Wire) -> None:
        order.append(wire.request.json["messages"][0]["content"])  # type: ignore[union-attr]

    client = default_client([note, *limited(0.3)], [note, *OK])

    def begin(prompt: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: client.stream(prompt).collect())
        thread.start()
        time.sleep(0.04)
        return thread

    for thread in [begin(prompt) for prompt in "abcde"]:
        thread.join()
    assert order == ["a", *"abcde"]


def test_a_later_refusal_makes_the_pause_longer_and_an_earlier_one_never_shortens_it():
    limit, scope = RateLimit(), CancelScope()
    limit.pause(0.2, scope.started)
    limit.pause(0.05, scope.started)
    with within(0.4):
        assert limit.wait(scope, 9.0) > 0.1
    assert scope.elapsed >= 0.2


def test_refusals_of_requests_that_were_under_way_are_one_event():
    limit, sent = RateLimit(), time.monotonic()
    assert not limit.paused_since(sent)
    for _ in range(5):
        limit.pause(5.0, sent)
        assert limit.paused_since(sent)
    limit.admitted(sent)
    assert limit._interval == FIRST_INTERVAL
    for _ in range(20):
        limit.pause(5.0, time.monotonic())
    assert limit._interval == LONGEST_INTERVAL
    limit.pause(0.5, time.monotonic())
    assert limit._interval == 0.5


def test_nothing_is_held_back_any_more_after_enough_answers():
    limit = RateLimit()
    limit.pause(0.0, time.monotonic())
    for _ in range(80):
        limit.admitted(time.monotonic())
    assert limit._interval == 0.0
    with within(0.1):
        assert [limit.wait(CancelScope(), 9.0) for _ in range(1000)] == [0.0] * 1000


def test_a_refusal_that_comes_late_still_holds_calls_back(monkeypatch):
    """Its request was sent before the last pause, and the answers since then have ended the spacing."""
    limit, scope = RateLimit(), CancelScope()
    limit.pause(0.0, time.monotonic())
    for _ in range(80):
        limit.admitted(time.monotonic())
    limit.pause(0.1, scope.started)
    with within(0.3):
        assert limit.wait(scope, 9.0) > 0.05


def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent(monkeypatch):
    limit = RateLimit()
    limit.pause(0.05, time.monotonic())
    limit._waiting = [0.0] * 1000  # calls of threads that exist in the parent only
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with within(0.3, least=0.05):
        limit.wait(CancelScope(), 9.0)
    assert limit._waiting == []


@pytest.mark.parametrize("before", [False, True])
def test_an_interrupted_call_leaves_no_place_among_those_that_wait(monkeypatch, before):
    def interrupted(waiting: list[float], began: float) -> None:
        if not before:
            insort(waiting, began)
        raise KeyboardInterrupt

    limit = RateLimit()
    limit.pause(5.0, time.monotonic())
    monkeypatch.setattr(rate_limit, "insort", interrupted)
    with pytest.raises(KeyboardInterrupt):
        limit.wait(CancelScope(), 9.0)
    assert limit._waiting == []


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (status(429, "no", {"Retry-After": "61"}), UnexpectedStatus),
        (status(429, "no", {"Retry-After": "5", "x-should-retry": "false"}), UnexpectedStatus),
        (
            status(429, QUOTA, {"Retry-After": "5"}),
            QuotaExceeded,
        ),
    ],
    ids=["above-the-limit", "not-to-be-retried", "quota"],
)
def test_a_refusal_that_is_raised_at_once_holds_back_no_other_call(default_client, refusal, kind):
    client = default_client(refusal, OK)
    error = error_of_sending(client)
    assert (type(error), len(error.attempts)) == (kind, 1)
    with within(0.3):
        assert client.stream("Hi").collect().text == "fine"


def test_an_overloaded_server_delays_its_own_call_only(default_client):
    requests = Requests()
    client = default_client([requests, *status(503, "busy", {"Retry-After": "1"})], [requests, *OK])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.stream, "Hi")
        while not requests.times:
            time.sleep(0.005)
        with within(0.4):
            assert client.stream("Hi").collect().text == "fine"
        assert first.result().collect().text == "fine"


def test_a_pause_holds_back_only_the_client_that_was_refused(default_client):
    client = default_client(limited(5), OK)
    with Client(client.provider, model="m1", deadline=1.0) as other:
        assert type(error_of_sending(client, deadline=1.0)) is DeadlineExceeded
        with within(0.3):
            assert other.stream("Hi").collect().text == "fine"


# ── how waiting ends ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rate_limit_longer_than_the_deadline_raises_at_once_in_every_call(default_client):
    client = default_client(limited(5), deadline=1.0)
    with within(0.4):
        refused, held_back = error_of_sending(client), error_of_sending(client)
    assert (type(refused), len(refused.attempts)) == (DeadlineExceeded, 1)
    assert isinstance(refused.__cause__, UnexpectedStatus)
    assert (type(held_back), held_back.attempts) == (DeadlineExceeded, ())
    assert "the deadline would pass before the end of the server's rate limit, due in " in str(held_back)


def test_cancel_ends_the_wait_of_the_refused_call_and_of_those_held_back(default_client):
    requests = Requests()
    client = default_client([requests, *limited(5)])
    with ThreadPoolExecutor(9) as pool:
        calls = [pool.submit(error_of_sending, client)]
        while not requests.times:
            time.sleep(0.005)
        time.sleep(0.1)
        calls += [pool.submit(error_of_sending, client) for _ in range(8)]
        time.sleep(0.1)
        with within(0.2):
            client.cancel()
            errors = [call.result() for call in calls]
    assert [type(error) for error in errors] == [Cancelled] * 9
    assert [len(error.attempts) for error in errors] == [1] + [0] * 8


def test_the_deadline_ends_the_wait_for_calls_that_began_earlier():
    limit, scope = RateLimit(), CancelScope(0.1)
    limit.pause(0.0, time.monotonic())
    limit._waiting, limit._interval = [0.0], LONGEST_INTERVAL
    with within(0.3, least=0.1), pytest.raises(DeadlineExceeded):
        limit.wait(scope, 9.0)
    assert limit._waiting == [0.0]


def test_a_rate_limit_that_lasts_for_ever_ends_in_a_retry_limit_that_says_so(default_client):
    client = default_client(limited(0.05), rate_limit_timeout=0.4)
    with within(1.0, least=0.2):  # the wait that would exceed the limit is not begun
        error = error_of_sending(client)
    made = len(error.attempts)
    assert (type(error), error.status, error.retry_after, error.retryable) == (RetryLimit, 429, 0.05, True)
    assert 3 <= made <= 9
    assert str(error).startswith(
        f"the rate limit lasts longer than rate_limit_timeout after {made} attempts, last status 429: Too many"
    )


def test_no_thread_waits_longer_than_rate_limit_timeout_for_a_server_that_refuses_all(default_client):
    client = default_client(limited(0.05), rate_limit_timeout=0.5)
    with within(2.0), ThreadPoolExecutor(20) as pool:
        errors = list(pool.map(lambda _: error_of_sending(client), range(20)))
    assert {type(error) for error in errors} == {RetryLimit}


@pytest.mark.usefixtures("short_waits")
def test_a_server_that_refuses_for_ever_with_tiny_waits_is_asked_25_times(default_client, monkeypatch):
    monkeypatch.setattr(backoff, "LONGEST_INTERVAL", 0.01)
    error = error_of_sending(default_client(limited(0.001)))
    assert (type(error), len(error.attempts)) == (RetryLimit, 25)
    assert "the call was rate-limited 25 times after 25 attempts" in str(error)


@pytest.mark.usefixtures("short_waits")
def test_a_rate_limit_without_a_time_counts_as_a_retry_but_refusals_together_take_one_token(serve, connect):
    server = serve(status(429, BUSY))
    client = connect(server, request_max_retries=2, retry_budget=1)
    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(lambda _: error_of_sending(client), range(24)))
    assert {type(error) for error in errors} == {RetryLimit}
    assert {len(error.attempts) for error in errors} <= {1, 2, 3}
    assert 24 < len(server.requests) <= 24 * 1.5


# ── what counts, and what callers see ───────────────────────────────────────────────────────────────────────────


def test_a_rate_limit_with_a_time_takes_no_retry_and_nothing_from_the_budget(default_client):
    scripts = [limited(0.001)] * 6
    client = default_client(*scripts, OK, request_max_retries=1, retry_budget=0)
    stream = client.stream("Hi")
    assert stream.collect().text == "fine"
    assert [attempt.status for attempt in stream.attempts] == [429] * 6 + [200]


def test_request_max_retries_of_zero_means_one_request_after_a_rate_limit_too(default_client):
    error = error_of_sending(default_client(limited(0.01), request_max_retries=0))
    assert (type(error), len(error.attempts)) == (RetryLimit, 1)
    assert str(error).startswith("retries exhausted after 1 attempt, last status 429: ")


def test_only_the_refused_call_is_reported_to_on_retry_and_the_others_are_logged(default_client, caplog):
    caplog.set_level("INFO", "chatstream")
    retries: list[RetryInfo] = []
    client = default_client(limited(0.3), OK, on_retry=retries.append)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.stream, "Hi")
        while not retries:
            time.sleep(0.005)
        assert client.stream("Hi").collect().text == "fine"
        assert first.result().collect().text == "fine"
    (info,) = retries
    assert (info.number, info.limit, info.delay, info.status) == (1, None, 0.3, 429)
    assert str(info).endswith("(retry after 0.3 s); retrying in 300ms")
    waits = [record.levelname for record in caplog.records if "the end of the server's rate limit" in record.message]
    assert waits == ["INFO"] * 2


# ── inside a stream ─────────────────────────────────────────────────────────────────────────────────────────────

IN_A_STREAM = {"error": {"message": "Rate limit reached, try again in 60ms.", "code": "rate_limit_exceeded"}}


def test_a_rate_limit_reported_before_the_first_event_of_a_stream_is_waited_for(serve, connect):
    refused = [head(), event(IN_A_STREAM), end()]
    server = serve(refused, refused, refused, OK)
    stream = connect(server, stream_max_retries=1, retry_budget=0).stream("Hi")
    with within(1.0, least=0.18):
        assert stream.collect().text == "fine"
    assert len(stream.attempts) == 4


def test_a_rate_limit_reported_in_a_stream_holds_back_other_calls(serve, connect):
    client = connect(serve([head(), event(IN_A_STREAM), end()], OK))
    first = client.stream("Hi")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(first.collect)
        time.sleep(0.03)
        with within(0.5, least=0.02):
            assert client.stream("Hi").collect().text == "fine"
        assert answer.result().text == "fine"


def test_a_rate_limit_reported_after_the_first_event_of_a_stream_is_raised(serve, connect):
    stream = connect(serve([head(), delta("one "), event(IN_A_STREAM), end()], OK)).stream("Hi")
    with pytest.raises(ProviderError) as caught:
        list(stream)
    assert (caught.value.retry_after, caught.value.partial.text) == (0.06, "one ")


def test_a_rate_limit_in_a_stream_above_max_retry_after_is_raised_at_once(serve, connect):
    error = {"message": "Try again in 2m.", "code": "rate_limit_exceeded"}
    stream = connect(serve([head(), event({"error": error}), end()], OK)).stream("Hi")
    with within(0.5), pytest.raises(ProviderError):
        stream.collect()
    assert len(stream.attempts) == 1
