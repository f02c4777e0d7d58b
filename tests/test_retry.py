"""When to try again, and how long to wait: decisions only."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from requests.structures import CaseInsensitiveDict

from chatstream._retry import MAX_DELAY, RetryBudget, RetryInfo, backoff, is_retryable, retry_after
from chatstream.errors import Attempt

NOW = 1_795_382_653.0  # a Sunday in 2026
DATE = formatdate(NOW, usegmt=True)


def headers(**fields: str) -> CaseInsensitiveDict[str]:
    return CaseInsensitiveDict({name.replace("_", "-"): value for name, value in fields.items()})


# ── whether ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 520, 529, 599])
def test_what_may_pass_is_tried_again(status):
    assert is_retryable(status, {})


@pytest.mark.parametrize(
    "status", [201, 204, 301, 302, 307, 400, 401, 402, 403, 404, 405, 410, 413, 418, 422, 425, 426, 428, 431, 451]
)
def test_what_will_not_pass_is_not(status):
    assert not is_retryable(status, {})


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(("word", "obeyed"), [("true", True), ("false", False), (" TRUE ", True), ("False", False)])
def test_the_server_is_obeyed_when_it_says_whether(status, word, obeyed):
    assert is_retryable(status, headers(X_Should_Retry=word)) == obeyed


@pytest.mark.parametrize("word", ["", "yes", "1", "truefalse"])
def test_a_word_that_is_neither_is_no_word(word):
    assert is_retryable(500, headers(x_should_retry=word))
    assert not is_retryable(400, headers(x_should_retry=word))


# ── how long ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_backoff_begins_at_200_ms_and_doubles_up_to_its_cap():
    assert [backoff(number, 1.0) for number in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_DELAY, MAX_DELAY]
    assert MAX_DELAY == 10.0
    assert backoff(10**9, 1.0) == MAX_DELAY


def test_the_backoff_is_within_a_tenth_either_way():
    assert backoff(1, 0.9) == pytest.approx(0.18)
    assert backoff(1, 1.1) == pytest.approx(0.22)
    drawn = [backoff(2) for _ in range(500)]
    assert all(0.36 <= delay < 0.44 + 1e-9 for delay in drawn)
    assert max(drawn) > 0.41
    assert min(drawn) < 0.39


def test_the_cap_holds_for_the_jitter_too():
    assert backoff(20, 1.1) == MAX_DELAY


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("1", 1.0), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), (" 3 ", 3.0), ("120", 120.0), ("0001", 1.0)],
)
def test_retry_after_in_seconds_and_decimals(value, seconds):
    assert retry_after(headers(Retry_After=value), NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        formatdate(NOW + 90, usegmt=True),
        formatdate(NOW + 90, usegmt=False),  # with -0000
        time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(NOW + 90)),  # asctime
        time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 90)),  # RFC 850
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_retry_after_as_a_date_in_every_form_of_http_wherever_the_caller_lives(value, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(headers(Retry_After=value), NOW) == 90.0
        assert retry_after(headers(Retry_After=value, Date=DATE), 0.0) == 90.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("clock", [0.0, NOW - 86_400, NOW, NOW + 86_400, 4e9])
def test_a_wall_clock_that_is_wrong_has_no_effect_when_the_answer_has_a_date(clock):
    fields = headers(Retry_After=formatdate(NOW + 5, usegmt=True), Date=DATE)
    assert retry_after(fields, clock) == 5.0


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 00:00:00 GMT"])
def test_a_date_that_is_none_leaves_the_wall_clock(date):
    assert retry_after(headers(Retry_After=formatdate(NOW + 5, usegmt=True), Date=date), NOW) == 5.0


@pytest.mark.parametrize(
    "value",
    [
        "-5",
        "-0",
        "+5",
        "nan",
        "NaN",
        "abc",
        "٣",
        "",
        " ",
        "1e3",
        "0x10",
        "1_000",
        "5 s",
        "5, 6",
        "1.5.5",
        "Sun",
        "60s",
        "⑤",
    ],
)
def test_nonsense_is_ignored(value):
    assert retry_after(headers(Retry_After=value), NOW) is None
    assert retry_after(headers(Retry_After_Ms=value), NOW) is None


@pytest.mark.parametrize("ago", [0, 1, 86_400, NOW])
def test_a_date_that_is_past_is_ignored(ago):
    assert retry_after(headers(Retry_After=formatdate(NOW - ago, usegmt=True)), NOW) is None
    assert retry_after(headers(Retry_After=formatdate(NOW - ago, usegmt=True), Date=DATE), 0.0) is None


@pytest.mark.parametrize(
    "value", ["inf", "Infinity", "9" * 400, "Sun, 06 Nov 99999 08:49:37 GMT", "Fri, 31 Dec 12345 23:59:59 GMT"]
)
def test_a_wait_without_end_is_told_as_one(value):
    assert retry_after(headers(Retry_After=value), NOW) == math.inf
    assert retry_after(headers(Retry_After=value, Date=DATE), NOW) == math.inf


def test_a_date_in_the_far_future_is_told_as_it_is():
    wait = retry_after(headers(Retry_After="Fri, 06 Nov 2099 08:49:37 GMT", Date=DATE), NOW)
    assert wait is not None
    assert 70 * 365 * 86_400 < wait < 75 * 366 * 86_400


def test_nothing_asked_is_none():
    assert retry_after({}, NOW) is None
    assert retry_after(headers(Date=DATE), NOW) is None


@pytest.mark.parametrize(("value", "seconds"), [("50", 0.05), ("1500", 1.5), ("0.5", 0.0005), (" 20 ", 0.02)])
def test_retry_after_in_milliseconds_goes_before_seconds(value, seconds):
    assert retry_after(headers(Retry_After_Ms=value, Retry_After="30"), NOW) == seconds
    assert retry_after(headers(Retry_After_Ms=value), NOW) == seconds


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "soon", ""])
def test_azure_sends_0_milliseconds_beside_the_seconds_that_count(value):
    assert retry_after(headers(Retry_After_Ms=value, Retry_After="30"), NOW) == 30.0


# ── how often in all ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_burst_is_retried_freely_and_then_no_more():
    budget = RetryBudget()
    assert [budget.take() for _ in range(21)] == [True] * 20 + [False]
    assert not budget.take()


def test_every_fourth_call_brings_a_retry():
    budget = RetryBudget()
    while budget.take():
        pass
    taken = []
    for _ in range(8):
        budget.deposit()
        taken.append(budget.take())
    assert taken == [False, False, False, True, False, False, False, True]


def test_what_is_saved_up_has_a_limit():
    budget = RetryBudget()
    for _ in range(1000):
        budget.deposit()
    assert sum(budget.take() for _ in range(1000)) == 20


def test_a_hundred_failures_over_ten_threads_make_at_most_half_as_many_requests_again():
    budget = RetryBudget()

    def call(_: int) -> int:
        """One call to a server that is down: how many requests it makes with 4 retries at most."""
        budget.deposit()
        requests = 1
        while requests <= 4 and budget.take():
            requests += 1
        return requests

    with ThreadPoolExecutor(10) as pool:
        requests = sum(pool.map(call, range(100)))
    assert 100 < requests <= 150


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retry_is_told_in_one_line():
    info = RetryInfo(1, 5, 0.2084, "unexpected status 503: overloaded", 503)
    assert str(info) == "stream error: unexpected status 503: overloaded; retrying 1/5 in 208ms"


def test_an_attempt_holds_what_was_seen_of_it():
    assert Attempt(1) == Attempt(1, None, None, None, 0.0)
