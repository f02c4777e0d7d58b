"""The clock and the cancel switch, with plain sockets."""

from __future__ import annotations

import math
import socket
import threading
import time

import pytest
from support import within

from chatstream import Cancelled, ConfigError, DeadlineExceeded, IdleTimeout
from chatstream._http.cancel_scope import LONGEST_WAIT, CancelScope


@pytest.mark.parametrize("deadline", [0, -1, "1", math.nan])
def test_a_deadline_is_a_number_above_zero(deadline):
    with pytest.raises(ConfigError, match="deadline"):
        CancelScope(deadline)


def test_without_limits_there_is_time_enough():
    scope = CancelScope()
    assert scope.remaining() == LONGEST_WAIT
    assert scope.error is None
    assert 0 <= scope.elapsed < 1


def test_the_nearest_limit_counts():
    scope = CancelScope(deadline=10)
    assert 9 < scope.remaining() <= 10
    scope.set_timeout(5, IdleTimeout)
    assert 4 < scope.remaining() <= 5
    scope.set_timeout(20, IdleTimeout)
    assert 9 < scope.remaining() <= 10


def test_a_limit_that_is_over_makes_its_error_once():
    scope = CancelScope()
    scope.set_timeout(0.001, IdleTimeout)
    time.sleep(0.002)
    with pytest.raises(IdleTimeout) as first:
        scope.remaining()
    with pytest.raises(IdleTimeout) as second:
        scope.check()
    assert first.value is second.value is scope.error


def test_a_verdict_is_found_without_waiting():
    scope = CancelScope(deadline=0.001)
    time.sleep(0.002)
    assert isinstance(scope.error, DeadlineExceeded)


def test_a_renewed_watch_forgets_the_limit_of_one_attempt_but_not_the_deadline():
    scope = CancelScope(deadline=0.3)
    scope.set_timeout(0.001, IdleTimeout)
    time.sleep(0.002)
    assert isinstance(scope.error, IdleTimeout)
    scope.reset()
    assert scope.remaining() <= 0.3
    time.sleep(0.3)
    with pytest.raises(DeadlineExceeded):
        scope.remaining()


def test_a_cancelled_watch_stays_cancelled():
    scope = CancelScope()
    scope.cancel()
    scope.cancel()
    scope.reset()
    assert isinstance(scope.error, Cancelled)
    for ask in (scope.check, scope.remaining, lambda: scope.sleep(9), lambda: scope.check_time_for(0)):
        with pytest.raises(Cancelled):
            ask()


def test_the_first_verdict_is_kept():
    scope = CancelScope(deadline=0.001)
    scope.cancel()
    time.sleep(0.002)
    assert isinstance(scope.error, Cancelled)
    with pytest.raises(Cancelled):
        scope.remaining()


def test_a_wait_past_the_deadline_is_not_begun():
    CancelScope(deadline=10).check_time_for(9)
    with within(0.05), pytest.raises(DeadlineExceeded, match="in 11 s"):
        CancelScope(deadline=10).check_time_for(11)


def test_cancel_wakes_a_sleeper():
    scope = CancelScope()
    threading.Timer(0.03, scope.cancel).start()
    with within(0.08), pytest.raises(Cancelled):
        scope.sleep(9)


def test_sleeping_takes_its_time():
    with within(0.1, least=0.02):
        CancelScope().sleep(0.02)


def test_cancel_wakes_whoever_reads_from_the_socket():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.attach(ours)
    threading.Timer(0.03, scope.cancel).start()
    with within(0.08):
        assert ours.recv(1) == b""
    ours.close()
    scope.cancel()  # a closed socket is no trouble
    theirs.close()


def test_an_owned_socket_is_closed_by_the_next_one_or_when_it_is_released():
    first, second = socket.socketpair()
    scope = CancelScope()
    scope.attach(first, owned=True)
    scope.attach(second, owned=True)
    assert first.fileno() == -1
    scope.release()
    assert second.fileno() == -1
    scope.release()


def test_a_socket_of_a_connection_stays_open():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.attach(ours)
    scope.release()
    scope.attach(None)
    assert ours.fileno() != -1
    ours.close()
    theirs.close()


def test_a_socket_comes_too_late_for_a_cancelled_watch():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.cancel()
    with pytest.raises(Cancelled):
        scope.attach(ours, owned=True)
    scope.release()
    theirs.close()
