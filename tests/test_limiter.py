"""`Limiter`: calls at the pace that a server allows, in a simulation, in threads and in processes."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limited_clients import settled
from limited_server import Bucket, LimitedAnswers, SlidingWindow, Window, speed
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


SERVERS = {
    "bucket of 10": lambda rate: Bucket(rate, 10),
    "bucket of a second": lambda rate: Bucket(rate, rate),
    "bucket of a minute": lambda rate: Bucket(rate, 60 * rate),
    "sliding window of ten seconds": lambda rate: SlidingWindow(rate, 10),
    "window of a second": lambda rate: Window(rate, 1),
    "window of ten seconds": lambda rate: Window(rate, 10),
}


def assert_settled(found: list[tuple[float, float]]) -> None:
    """Within 15 % of the limit, with fewer than 3 % refused."""
    assert all(0.85 <= admitted <= 1.15 and refused < 0.03 for admitted, refused in found), found


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("says_when", [True, False], ids=["retry-after", "silent"])
@pytest.mark.parametrize("make_server", SERVERS.values(), ids=SERVERS)
def test_the_pace_settles_at_the_limit_of_a_server_and_follows_it_up_and_down(make_server, says_when, processes):
    assert_settled(settled(make_server, 20, processes, says_when=says_when))


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("limit", [0.5, 2, 5, 60])
def test_the_pace_settles_at_slow_and_at_fast_limits(limit, processes):
    assert_settled(settled(SERVERS["bucket of 10"], limit, processes))


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("kind", ["bucket of 10", "bucket of a second", "bucket of a minute", "window of ten seconds"])
def test_headers_that_say_what_is_left_keep_the_pace_at_the_limit(kind, processes):
    assert_settled(settled(SERVERS[kind], 20, processes, headers=True))


@pytest.mark.parametrize("limit", [0.5, 2, 5, 60])
def test_one_process_settles_at_a_limit_of_a_few_requests_that_headers_tell(limit):
    assert_settled(settled(lambda rate: Bucket(rate, 2), limit, 1, headers=True))


@pytest.mark.parametrize("burst", [1, 2])
def test_one_process_settles_at_a_limit_that_admits_hardly_any_burst(burst):
    assert_settled(settled(lambda rate: Bucket(rate, burst), 20, 1))


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("says_when", [True, False], ids=["retry-after", "silent"])
def test_a_window_of_a_minute_is_used_up_without_a_storm(says_when, processes):
    found = settled(lambda rate: Window(rate, 60), 20, processes, says_when=says_when)
    assert_settled([found[0], found[2]])
    admitted, refused = found[1]
    assert admitted > 0.75, "a limit that rises is followed in the windows after that"
    assert refused < 0.03


@pytest.mark.soak
@pytest.mark.parametrize("headers", [False, True], ids=["without-headers", "with-headers"])
@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("limit", [5, 60, 200])
@pytest.mark.parametrize("make_server", SERVERS.values(), ids=SERVERS)
def test_the_pace_settles_at_every_limit_of_every_kind_of_server(make_server, limit, processes, headers):
    if not headers:
        assert_settled(settled(make_server, limit, processes))
    for admitted, refused in settled(make_server, limit, processes, headers=headers, says_when=False):
        assert 0.75 <= admitted <= 1.15, "without a time, and with headers that say little, it is less exact"
        assert refused < 0.05


@pytest.mark.parametrize("says_when", [True, False], ids=["retry-after", "silent"])
@pytest.mark.parametrize("burst", [1, 2])
def test_processes_that_get_in_the_way_of_each_other_at_a_limit_without_a_burst_send_less(burst, says_when):
    for admitted, refused in settled(lambda rate: Bucket(rate, burst), 20, 4, says_when=says_when):
        assert admitted < 1
        assert refused < 0.15, "an even pace of one is refused because of another's, whatever it is; there is no storm"


# ── the pace ────────────────────────────────────────────────────────────────────────────────────────────────────


def refused_once(rate: int = 10, seconds: int = 2) -> Pace:
    """A pace after so many seconds with so many answers each, a refusal, and an answer at 3.0."""
    pace = Pace()
    for number in range(rate * seconds):
        pace.admitted(number / rate)
    pace.rejected(2.9)
    pace.admitted(3.0)
    return pace


def test_without_a_refusal_and_without_a_ceiling_there_is_no_interval():
    pace = Pace()
    for second in range(100):
        pace.admitted(second)
    assert pace.interval == 0


def test_the_first_refusal_sets_the_pace_to_what_was_admitted_in_the_time_until_the_server_admits_again():
    pace = Pace()
    for number in range(600):
        pace.admitted(1000 + number / 600)
    pace.rejected(1001.0)
    assert pace.rate < 1, "until then, one request finds out whether it does"
    for _ in range(600):
        pace.admitted(1001.1, late=True)
    pace.admitted(1060.0)
    assert pace.rate == pytest.approx(1200 / 60, rel=0.01)


def test_the_first_average_leaves_out_what_is_long_ago():
    pace = Pace()
    pace.admitted(0.0)
    for number in range(1000):
        pace.admitted(3600 + number / 10)
    pace.rejected(3700.0)
    pace.admitted(3700.1)
    assert pace.rate == pytest.approx(10, rel=0.1)


def test_a_server_that_refuses_the_first_request_is_asked_slowly_at_first():
    pace = Pace()
    pace.rejected(5.0)
    pace.admitted(7.0)
    assert pace.rate == 2, "four requests that count, in two seconds"


def test_refusals_that_follow_each_other_lower_the_pace_once():
    pace = refused_once()
    before = pace.rate
    pace.rejected(6.0)
    assert pace.rate == pytest.approx(0.8 * before)
    pace.rejected(6.2)
    pace.rejected(20.0)
    assert pace.rate == pytest.approx(0.8 * before), "nothing was admitted: the server is closed, and not too slow"


def test_a_server_that_was_closed_for_long_sets_the_pace_to_its_average():
    pace = refused_once()
    for number in range(100):
        pace.admitted(3 + number / 10)
    pace.rejected(13.0)
    pace.admitted(33.0)
    assert pace.rate == pytest.approx(0.8 * 125 / (33 + 4 / 8))


def test_a_pace_returns_to_where_it_was_refused_and_leaves_it_the_faster_the_longer_there_is_no_refusal():
    pace = refused_once()
    limit = pace.rate
    pace.rejected(3.1)
    paces = []
    for number in range(600):
        pace.held()
        pace.admitted(3.2 + number / 10)
        paces.append(pace.rate / limit)
    assert paces[0] == pytest.approx(0.8)
    assert paces[20] == pytest.approx(1, abs=0.01), "the first return takes one second, the next one two"
    assert paces[10] - paces[0] > paces[20] - paces[10] < paces[40] - paces[30] < paces[60] - paces[50]


def test_a_pace_that_nobody_waits_for_is_not_raised():
    pace = refused_once()
    before = pace.rate
    for second in range(4, 100):
        pace.admitted(second)
    assert pace.rate == before
    for second in range(100, 110):
        pace.held()
        pace.admitted(second)
    assert pace.rate > before


def test_ceilings_hold_before_anything_is_learned():
    assert Pace(requests=120).interval == pytest.approx(0.5)
    pace = Pace(tokens=60 * USUAL_TOKENS)
    assert pace.interval == pytest.approx(1)
    pace.used(4000)
    assert pace.interval == pytest.approx(4)
    assert Pace(requests=6, tokens=60 * USUAL_TOKENS).interval == pytest.approx(10)


def test_a_call_counts_as_the_mean_of_the_counts_reported_so_far_and_later_of_the_latest_ones():
    pace = Pace(tokens=60_000)
    for tokens in (100, 200, 600):
        pace.used(tokens)
    assert pace.interval == pytest.approx(0.3)
    for _ in range(100):
        pace.used(2000)
    assert pace.interval == pytest.approx(2, rel=0.01)


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
        ("100", "0", "50s", 0.5),
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
    assert limiter.requests_per_second == pytest.approx(1e6 / tokens)


def test_tokens_are_counted_once_for_a_client_and_its_limiter():
    limiter = Limiter(tokens_per_minute=60_000)
    call = Call("Hi", "m", {}, CancelScope(), Provider("test", "http://127.0.0.1:9/v1"), limiter=limiter)
    call.add_tokens(TokenUsage(total_tokens=11_000))
    assert call.total.usage.tokens.total_tokens == 11_000
    assert limiter.requests_per_second == pytest.approx(1 / 11)


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


@pytest.mark.timing
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
def test_two_processes_are_hardly_refused_by_a_server_after_five_seconds():
    log = log_of_processes(2, 20, 40, 20)
    admitted, refused = speed(log, 5, 20)
    assert 0.5 * 40 <= admitted <= 1.15 * 40, "they may still settle, for which the tests above give them a minute"
    assert refused < 0.03
