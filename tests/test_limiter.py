"""`Limiter`: calls at the pace that a server allows, in a simulation, in threads and in processes."""

from __future__ import annotations

import heapq
import json
import math
import pickle
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from limited_server import Bucket, LimitedAnswers, Window, speed
from support import within

from chatstream import Client, ConfigError, Limiter, TokenUsage, map_prompts
from chatstream._calls.call import Call
from chatstream._http.cancel_scope import CancelScope
from chatstream._retries.pace import USUAL_TOKENS, Pace, seconds_of
from chatstream._retries.rate_limit import RateLimit
from chatstream.providers.provider import Provider
from chatstream.testing import status, text_answer

HERE = Path(__file__).parent


# ── a simulation, in which hours take milliseconds ──────────────────────────────────────────────────────────────


class Process:
    """A process of a simulation: ``threads`` that ask again as soon as they are answered, at one pace."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.waiting = self.refusals = 0
        self.paused_at = self.paused_until = self.next_at = 0.0
        self.next_event = math.inf


class Simulation:
    """Processes that ask one server. Answers take 50 to 150 ms; ``log`` is as that of `LimitedAnswers`."""

    def __init__(self, server: Any, processes: int, *, says_when: bool = True, headers: Any = None) -> None:
        self.log: list[tuple[float, bool]] = []
        self._server, self._says_when, self._headers = server, says_when, headers
        self._random = random.Random(1)
        self._order = count()
        self._events: list[tuple[float, int, str, Process, Any]] = []
        for _ in range(processes):
            process = Process()
            for _ in range(32 // processes):
                self._at(self._random.random() / 100, "wants", process)

    def _at(self, when: float, what: str, process: Process, *more: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, process, more))

    def run(self, until: float) -> None:
        while self._events[0][0] < until:
            now, _, what, process, more = heapq.heappop(self._events)
            if what == "answered":
                self._answered(now, process, *more)
            process.waiting += what != "next"
            if what == "next":
                process.next_event = math.inf
            self._send(now, process)

    def _send(self, now: float, process: Process) -> None:
        while process.waiting:
            interval = process.pace.interval
            due = max(process.paused_until, process.next_at) if interval else 0.0
            if due > now + 1e-9:
                process.pace.held(now)
                if due < process.next_event:
                    process.next_event = due
                    self._at(due, "next", process)
                return
            process.waiting -= 1
            process.next_at = max(due, now - max(interval, 0.02)) + interval
            wait = self._server.ask(now)
            self.log.append((now, wait is None))
            self._at(now + 0.05 + self._random.random() / 10, "answered", process, now, wait)

    def _answered(self, now: float, process: Process, sent_at: float, wait: float | None) -> None:
        late = sent_at < process.paused_at
        if self._headers is not None:
            process.pace.observe(self._headers(self._server))
        if wait is None:
            process.pace.admitted(now, late)
            process.refusals = 0
            return
        pause = wait if self._says_when else 0.2 * 2 ** min(process.refusals, 5)
        if not late:
            process.refusals += 1
            process.paused_at = now
            process.pace.refused(now, pause)
        process.paused_until = max(process.paused_until, now + pause)


SERVERS = {
    "bucket": lambda: Bucket(20, 20),
    "bucket of a minute": lambda: Bucket(20, 1200),
    "window of a second": lambda: Window(20, 1),
    "window of ten seconds": lambda: Window(20, 10),
    "fast bucket": lambda: Bucket(200, 20),
}


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("says_when", [True, False], ids=["retry-after", "silent"])
@pytest.mark.parametrize("make_server", SERVERS.values(), ids=SERVERS)
def test_the_pace_settles_at_the_limit_of_a_server_within_a_minute_with_few_refusals(make_server, says_when, processes):
    server = make_server()
    simulation = Simulation(server, processes, says_when=says_when)
    simulation.run(150)
    admitted, refused = speed(simulation.log, 60, 150)
    assert 0.85 * server.rate <= admitted <= 1.15 * server.rate
    assert refused < 0.03


@pytest.mark.parametrize("processes", [1, 4])
def test_the_pace_follows_a_limit_that_rises_and_falls_within_a_minute(processes):
    server = Bucket(20, 20)
    simulation = Simulation(server, processes)
    for until, rate in ((100, 40), (200, 15), (300, 15)):
        simulation.run(until)
        admitted, refused = speed(simulation.log, until - 40, until)
        assert 0.85 * server.rate <= admitted <= 1.15 * server.rate
        assert refused < 0.03
        server.rate = rate


@pytest.mark.parametrize("processes", [1, 4])
def test_headers_that_say_what_is_left_keep_the_pace_at_the_limit_with_few_refusals(processes):
    def headers(bucket: Any) -> dict[str, str]:
        reset = (60 - bucket._level) / bucket.rate
        left = {"limit": 60, "remaining": int(bucket._level)}
        return {f"x-ratelimit-{name}-requests": str(value) for name, value in left.items()} | {
            "x-ratelimit-reset-requests": f"{reset:.3f}s"
        }

    simulation = Simulation(Bucket(20, 60), processes, headers=headers)
    simulation.run(120)
    admitted, refused = speed(simulation.log, 30, 120)
    assert 0.85 * 20 <= admitted <= 1.15 * 20
    assert refused < (0.001 if processes == 1 else 0.03)


# ── the pace ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_refusal_and_without_a_ceiling_there_is_no_interval():
    pace = Pace()
    for second in range(100):
        pace.admitted(second)
    assert pace.interval == 0


def test_the_first_refusal_sets_the_pace_to_what_was_admitted_in_the_time_until_the_server_admits_again():
    pace = Pace()
    for number in range(600):
        pace.admitted(1000 + number / 600)
    pace.refused(1001.0, 59.0)
    assert pace.rate == pytest.approx(10, rel=0.01)
    pace.admitted(1001.1, late=True)
    assert pace.rate == pytest.approx(601 / 60, rel=0.01)
    pace.admitted(1060.0)
    assert pace.rate == pytest.approx(602 / 60, rel=0.01)
    pace.admitted(1060.1, late=True)
    assert pace.rate == pytest.approx(602 / 60, rel=0.01)


def test_a_server_that_refuses_the_first_request_is_asked_once_a_second_at_first():
    pace = Pace()
    pace.refused(5.0, 0.1)
    assert pace.rate == 1


def test_refusals_that_follow_each_other_lower_the_pace_once():
    pace = Pace()
    pace.refused(0.0, 0.1)
    for number in range(40):
        pace.admitted(1 + number / 10)
    before = pace.rate
    pace.refused(6.0, 0.1)
    once = pace.rate
    assert before * 0.5 <= once < before
    pace.refused(6.2, 0.1)
    pace.refused(20.0, 0.1)
    assert pace.rate == once, "nothing was admitted: the server is closed, and not too slow"


def test_a_pace_that_nobody_waits_for_is_not_raised():
    pace = Pace()
    pace.refused(0.0, 0.1)
    pace.admitted(1.0)
    before = pace.rate
    for second in range(2, 100):
        pace.admitted(second)
    assert pace.rate == before
    for second in range(100, 110):
        pace.held(second)
        pace.admitted(second)
    assert pace.rate > before


def test_ceilings_hold_before_anything_is_learned():
    assert Pace(requests=120).interval == pytest.approx(0.5)
    pace = Pace(tokens=60 * USUAL_TOKENS)
    assert pace.interval == pytest.approx(1)
    for _ in range(200):
        pace.used(4000)
    assert pace.interval == pytest.approx(4)
    assert Pace(requests=6, tokens=60 * USUAL_TOKENS).interval == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400),
        (" 7.66 ", 7.66),
        ("", 0),
        ("1795731115", 0),
        ("2026-11-26T22:00:00Z", 0),
        ("soon", 0),
        ("٣", 0),
        ("-1", 0),
    ],
)
def test_the_time_until_a_limit_is_reset_is_read_in_all_its_forms(text, seconds):
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("limit", "left", "reset", "rate"),
    [
        ("100", "50", "30s", math.inf),  # enough is left
        ("100", "10", "45s", 2.0),
        ("100", "5", "47.5s", 1.0),  # the less is left, the slower
        ("100", "0", "50s", 0.2),
        ("3", "1", "40s", 0.05),
        ("1", "1", "1s", math.inf),  # all is left
        ("100", "", "50s", math.inf),
        ("100", "5", "", math.inf),
        ("", "5", "50s", math.inf),
        ("10", "50", "50s", math.inf),
    ],
)
def test_headers_count_where_little_is_left(limit, left, reset, rate):
    pace = Pace()
    for kind, factor in (("requests", 1), ("tokens", USUAL_TOKENS)):
        names = {"limit": limit, "remaining": left, "reset": reset}
        pace.observe({f"x-ratelimit-{name}-{kind}": value for name, value in names.items() if value})
        assert pace.rate * factor == pytest.approx(rate)
        pace.observe({})
        assert pace.rate == math.inf


# ── the limiter of a client ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [0, -1, "60", True, math.inf, math.nan])
def test_a_ceiling_that_is_no_number_above_zero_is_refused(wrong):
    with pytest.raises(ConfigError, match="requests_per_minute must be a number above 0"):
        Limiter(wrong)
    with pytest.raises(ConfigError, match="tokens_per_minute must be a number above 0"):
        Limiter(tokens_per_minute=wrong)


@pytest.mark.parametrize("make", [Client, lambda **options: map_prompts(Client("ollama"), [], **options)])
def test_a_limiter_that_is_something_else_is_refused(make):
    with pytest.raises(ConfigError, match="limiter must be a Limiter, not int"):
        make(limiter=60)


def test_a_limiter_shows_its_ceilings_and_takes_them_to_another_process(connect):
    limiter = Limiter(120, tokens_per_minute=5000)
    assert repr(limiter) == "Limiter(120, 5000)"
    assert limiter.requests_per_second == pytest.approx(5000 / 60 / USUAL_TOKENS)
    assert Limiter().requests_per_second is None
    client = pickle.loads(pickle.dumps(connect("http://127.0.0.1:9/v1", limiter=limiter)))
    assert (client.limiter.requests_per_minute, client.limiter.tokens_per_minute) == (120, 5000)
    assert pickle.loads(pickle.dumps(connect("http://127.0.0.1:9/v1"))).limiter is None


def test_calls_wait_for_their_turn_under_a_ceiling(serve, connect):
    client = connect(serve(text_answer("fine")), limiter=Limiter(1200))
    with within(10.0, least=0.9), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.stream("Hi").collect(), range(20)))


def test_clients_that_share_a_limiter_share_its_ceiling(serve, connect):
    server, limiter = serve(text_answer("fine")), Limiter(600)
    with within(10.0, least=0.8):
        for client in (connect(server, limiter=limiter), connect(server, limiter=limiter)):
            for _ in range(5):
                client.stream("Hi").collect()


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3000, "completion_tokens": 1000, "total_tokens": 4000}, 4000),
        ({"prompt_tokens": 3000, "completion_tokens": 1000}, 4000),
        ({"prompt_tokens": 3000}, 3000),
        ({"completion_tokens": 0}, USUAL_TOKENS),
        (None, USUAL_TOKENS),
    ],
)
def test_a_limiter_learns_how_many_tokens_a_call_takes(serve, connect, usage, tokens):
    limiter = Limiter(tokens_per_minute=60_000_000)
    connect(serve(text_answer("fine", usage=usage)), limiter=limiter).stream("Hi").collect()
    assert limiter.requests_per_second == pytest.approx(1e6 / (USUAL_TOKENS + (tokens - USUAL_TOKENS) / 10))


def test_tokens_are_counted_once_for_a_client_and_its_limiter():
    limiter = Limiter(tokens_per_minute=60_000)
    call = Call("Hi", "m", {}, CancelScope(), Provider("test", "http://127.0.0.1:9/v1"), limiter=limiter)
    call.add_tokens(TokenUsage(total_tokens=11_000))
    assert call.total.usage.tokens.total_tokens == 11_000
    assert limiter.requests_per_second == pytest.approx(0.5)


def test_a_limiter_reads_the_headers_of_answers_and_of_refusals(serve, connect):
    limiter = Limiter()
    low = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "10"}
    low["x-ratelimit-reset-requests"] = "1800ms"
    client = connect(serve(status(400, "No.", low)), limiter=limiter)
    with pytest.raises(Exception, match="No"):
        client.stream("Hi")
    assert limiter.requests_per_second == pytest.approx(50)


def test_with_a_limiter_a_rate_limit_without_a_time_takes_no_retry(serve, connect, short_waits):
    refusals = [status(429, {"error": {"code": "rate_limit_exceeded"}})] * 4
    client = connect(serve(*refusals, text_answer("fine")), limiter=Limiter(), request_max_retries=1)
    stream = client.stream("Hi")
    assert stream.collect().text == "fine"
    assert [each.status for each in stream.attempts] == [429] * 4 + [200]


def test_without_a_limiter_the_pauses_of_a_client_are_as_before():
    limit, sent = RateLimit(), time.monotonic()
    limit.pause(0.3, sent)
    assert limit._interval == 0.05
    limit.admitted(time.monotonic())
    assert limit._interval == pytest.approx(0.0475)


def test_a_run_learns_what_the_server_allows_without_being_told_to(serve, connect):
    answers = LimitedAnswers(Bucket(40, 10), seconds=0.01)
    client = connect(serve([answers]))
    results = list(map_prompts(client, map(str, range(150)), concurrency=16))
    assert all(result.turn is not None for result in results)
    assert client.limiter is None
    admitted, _ = speed(answers.log, 1.0, answers.log[-1][0])
    assert 20 <= admitted <= 46


# ── a server in a process of its own ────────────────────────────────────────────────────────────────────────────

CLIENT = """
import sys, time
from chatstream import Client, Provider, map_prompts
client = Client(Provider("test", f"http://127.0.0.1:{sys.argv[1]}/v1"), model="m1")
end = time.monotonic() + float(sys.argv[2])
prompts = iter(lambda: "done" if time.monotonic() > end else "p", "done")
results = list(map_prompts(client, prompts, concurrency=int(sys.argv[3])))
assert all(result.turn for result in results), next(result.error for result in results if result.error)
"""


def log_of_processes(processes: int, seconds: float, *arguments: float) -> list[tuple[float, bool]]:
    """What a server logs that these processes ask for so many seconds; ``arguments`` are those of the server."""
    command = [sys.executable, str(HERE / "limited_server.py"), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        asking = [sys.executable, "-c", CLIENT, port, str(seconds), str(32 // processes)]
        clients = [subprocess.Popen(asking) for _ in range(processes)]
        assert [client.wait() for client in clients] == [0] * processes
        log, _ = server.communicate()
        return [(at, admitted) for at, admitted in json.loads(log)]


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 4])
def test_processes_settle_on_the_limit_of_a_server_and_follow_it_up_and_down(processes):
    changes = (60.0, 60.0, 140.0, 20.0)
    log = log_of_processes(processes, 200, 30, 30, *changes)
    for begin, end, rate in ((30, 60, 30), (105, 140, 60), (165, 200, 20)):
        admitted, refused = speed(log, begin, end)
        assert 0.85 * rate <= admitted <= 1.15 * rate, (begin, admitted)
        assert refused < 0.03, (begin, refused)


@pytest.mark.timing
def test_two_processes_stay_at_the_limit_of_a_server():
    log = log_of_processes(2, 10, 40, 20)
    admitted, refused = speed(log, 5, 10)
    assert 0.8 * 40 <= admitted <= 1.2 * 40
    assert refused < 0.2, "they may still settle; the simulation and the long test are strict"
