"""Whether a request is retried, after which delay, and how many retries all calls of a client share."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from requests.structures import CaseInsensitiveDict

from chatstream._retries.retry import (
    MAX_DELAY,
    RetryBudget,
    RetryInfo,
    backoff,
    is_retryable,
    names_rate_limit,
    retry_after,
)
from chatstream.errors import Attempt

NOW = 1_795_382_653.0  # a Sunday in 2026
DATE = formatdate(NOW, usegmt=True)


def headers(**fields: str) -> CaseInsensitiveDict[str]:
    return CaseInsensitiveDict({name.replace("_", "-"): value for name, value in fields.items()})


# ── whether to retry ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 520, 529, 599])
def test_a_status_that_may_be_temporary_is_retryable(status):
    assert is_retryable(status, {})


@pytest.mark.parametrize(
    "status", [201, 204, 301, 302, 307, 400, 401, 402, 403, 404, 405, 410, 413, 418, 422, 425, 426, 428, 431, 451]
)
def test_a_permanent_status_is_not_retryable(status):
    assert not is_retryable(status, {})


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(("value", "retryable"), [("true", True), ("false", False), (" TRUE ", True), ("False", False)])
def test_x_should_retry_overrides_the_status(status, value, retryable):
    assert is_retryable(status, headers(X_Should_Retry=value)) == retryable


@pytest.mark.parametrize("value", ["", "yes", "1", "truefalse"])
def test_x_should_retry_is_ignored_unless_it_is_true_or_false(value):
    assert is_retryable(500, headers(x_should_retry=value))
    assert not is_retryable(400, headers(x_should_retry=value))


@pytest.mark.parametrize(
    "codes",
    [(429, None), (200, "429"), (503, "rate_limit_exceeded"), (None, "RateLimitError"), ("x", "too_many_requests")],
)
def test_a_rate_limit_is_known_by_its_status_code_or_type(codes):
    assert names_rate_limit(*codes)


@pytest.mark.parametrize("codes", [(), (None, None), (503, "overloaded"), (4290, "server_error"), (500, 1429)])
def test_other_codes_name_no_rate_limit(codes):
    assert not names_rate_limit(*codes)


# ── how long to wait ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_backoff_starts_at_200_ms_and_doubles_up_to_its_maximum():
    assert [backoff(number, 1.0) for number in range(1, 9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_DELAY, MAX_DELAY]
    assert MAX_DELAY == 10.0
    assert backoff(10**9, 1.0) == MAX_DELAY


def test_the_jitter_changes_the_backoff_by_at_most_ten_percent():
    assert backoff(1, 0.9) == pytest.approx(0.18)
    assert backoff(1, 1.1) == pytest.approx(0.22)
    delays = [backoff(2) for _ in range(500)]
    assert all(0.36 <= delay < 0.44 + 1e-9 for delay in delays)
    assert max(delays) > 0.41
    assert min(delays) < 0.39


def test_the_backoff_with_jitter_never_exceeds_its_maximum():
    assert backoff(20, 1.1) == MAX_DELAY


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("1", 1.0), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), (" 3 ", 3.0), ("120", 120.0), ("0001", 1.0)],
)
def test_retry_after_may_be_whole_or_decimal_seconds(value, seconds):
    assert retry_after(headers(Retry_After=value), NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        formatdate(NOW + 90, usegmt=True),
        formatdate(NOW + 90, usegmt=False),
        time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(NOW + 90)),
        time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 90)),
    ],
    ids=["imf-fixdate", "minus-0000", "asctime", "rfc-850"],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_retry_after_may_be_a_date_in_any_http_format_whatever_the_local_time_zone_is(value, zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after(headers(Retry_After=value), NOW) == 90.0
        assert retry_after(headers(Retry_After=value, Date=DATE), 0.0) == 90.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("clock", [0.0, NOW - 86_400, NOW, NOW + 86_400, 4e9])
def test_a_wrong_wall_clock_has_no_effect_when_the_response_has_a_date_header(clock):
    fields = headers(Retry_After=formatdate(NOW + 5, usegmt=True), Date=DATE)
    assert retry_after(fields, clock) == 5.0


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 00:00:00 GMT"])
def test_the_wall_clock_is_used_when_the_date_header_is_invalid(date):
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
def test_an_invalid_retry_after_or_retry_after_ms_is_ignored(value):
    assert retry_after(headers(Retry_After=value), NOW) is None
    assert retry_after(headers(Retry_After_Ms=value), NOW) is None


@pytest.mark.parametrize("age", [0, 1, 86_400, NOW])
def test_a_retry_after_date_in_the_past_is_ignored(age):
    assert retry_after(headers(Retry_After=formatdate(NOW - age, usegmt=True)), NOW) is None
    assert retry_after(headers(Retry_After=formatdate(NOW - age, usegmt=True), Date=DATE), 0.0) is None


@pytest.mark.parametrize(
    "value",
    ["inf", "Infinity", "9" * 400, "Sun, 06 Nov 99999 08:49:37 GMT", "Fri, 31 Dec 12345 23:59:59 GMT"],
    ids=["inf", "Infinity", "400-digits", "year-99999", "year-12345"],
)
def test_a_retry_after_that_never_comes_is_infinite(value):
    assert retry_after(headers(Retry_After=value), NOW) == math.inf
    assert retry_after(headers(Retry_After=value, Date=DATE), NOW) == math.inf


def test_a_retry_after_date_decades_ahead_is_returned_unchanged():
    wait = retry_after(headers(Retry_After="Fri, 06 Nov 2099 08:49:37 GMT", Date=DATE), NOW)
    assert wait is not None
    assert 70 * 365 * 86_400 < wait < 75 * 366 * 86_400


def test_a_response_without_retry_after_sets_no_delay():
    assert retry_after({}, NOW) is None
    assert retry_after(headers(Date=DATE), NOW) is None


@pytest.mark.parametrize(("value", "seconds"), [("50", 0.05), ("1500", 1.5), ("0.5", 0.0005), (" 20 ", 0.02)])
def test_retry_after_ms_takes_precedence_over_retry_after(value, seconds):
    assert retry_after(headers(Retry_After_Ms=value, Retry_After="30"), NOW) == seconds
    assert retry_after(headers(Retry_After_Ms=value), NOW) == seconds


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "soon", ""])
def test_a_retry_after_ms_that_is_zero_or_invalid_yields_to_retry_after(value):
    # Azure sends 0 milliseconds beside the seconds that it means.
    assert retry_after(headers(Retry_After_Ms=value, Retry_After="30"), NOW) == 30.0


# ── the retry budget ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_budget_allows_twenty_retries_at_once_and_then_no_more():
    budget = RetryBudget()
    assert [budget.take() for _ in range(21)] == [True] * 20 + [False]
    assert not budget.take()


def test_every_fourth_call_adds_one_retry_to_the_budget():
    budget = RetryBudget()
    while budget.take():
        pass
    taken = []
    for _ in range(8):
        budget.deposit()
        taken.append(budget.take())
    assert taken == [False, False, False, True, False, False, False, True]


def test_the_budget_never_holds_more_than_twenty_retries():
    budget = RetryBudget()
    for _ in range(1000):
        budget.deposit()
    assert sum(budget.take() for _ in range(1000)) == 20


@pytest.mark.parametrize(("capacity", "allowed"), [(0, 0), (3, 3), (None, 1000)])
def test_the_capacity_of_a_budget_is_a_setting_and_none_is_no_bound(capacity, allowed):
    budget = RetryBudget(capacity)
    budget.deposit()
    assert sum(budget.take() for _ in range(1000)) == allowed


def test_a_hundred_failing_calls_in_ten_threads_make_at_most_fifty_retries():
    budget = RetryBudget()

    def call(_: int) -> int:
        """The requests that one call with up to four retries sends to a server that is down."""
        budget.deposit()
        requests = 1
        while requests <= 4 and budget.take():
            requests += 1
        return requests

    with ThreadPoolExecutor(10) as pool:
        requests = sum(pool.map(call, range(100)))
    assert 100 < requests <= 150


# ── what callers see ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_retry_info_prints_as_one_line():
    info = RetryInfo(1, 5, 0.2084, "unexpected status 503: overloaded", 503)
    assert str(info) == "stream error: unexpected status 503: overloaded; retrying 1/5 in 208ms"


def test_a_retry_that_does_not_count_prints_no_number():
    info = RetryInfo(3, None, 0.5, "unexpected status 429: slow down", 429)
    assert str(info) == "stream error: unexpected status 429: slow down; retrying in 500ms"


def test_an_attempt_has_no_status_error_or_duration_by_default():
    assert Attempt(1) == Attempt(1, None, None, None, 0.0)
