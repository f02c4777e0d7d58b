"""`CancelScope`: the deadline, timeouts and cancel of a call."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import Any

import pytest
from support import within

from chatstream import Cancelled, ChatStreamError, ConfigError, DeadlineExceeded, IdleTimeout
from chatstream._http.cancel_scope import LONGEST_WAIT, CancelScope


@pytest.mark.parametrize("deadline", [0, -1, "1", math.nan])
def test_a_deadline_that_is_not_a_positive_number_raises_config_error(deadline):
    with pytest.raises(ConfigError, match="deadline"):
        CancelScope(deadline)


def test_without_deadline_and_timeout_the_remaining_time_is_the_longest_wait():
    scope = CancelScope()
    assert scope.remaining() == LONGEST_WAIT
    assert scope.error is None
    assert 0 <= scope.elapsed < 1


def test_remaining_is_the_time_until_the_deadline_or_the_timeout_whichever_is_nearer():
    scope = CancelScope(deadline=10)
    assert 9 < scope.remaining() <= 10
    scope.set_timeout(5, IdleTimeout)
    assert 4 < scope.remaining() <= 5
    scope.set_timeout(20, IdleTimeout)
    assert 9 < scope.remaining() <= 10


def test_an_expired_timeout_raises_the_same_error_each_time():
    scope = CancelScope()
    scope.set_timeout(0.001, IdleTimeout)
    time.sleep(0.002)
    with pytest.raises(IdleTimeout) as first:
        scope.remaining()
    with pytest.raises(IdleTimeout) as second:
        scope.check()
    assert first.value is second.value is scope.error


def test_the_error_of_an_expired_deadline_is_set_without_a_wait():
    scope = CancelScope(deadline=0.001)
    time.sleep(0.002)
    assert isinstance(scope.error, DeadlineExceeded)


def test_reset_clears_the_timeout_of_an_attempt_but_not_the_deadline():
    scope = CancelScope(deadline=0.3)
    scope.set_timeout(0.001, IdleTimeout)
    time.sleep(0.002)
    assert isinstance(scope.error, IdleTimeout)
    scope.reset()
    assert scope.remaining() <= 0.3
    time.sleep(0.3)
    with pytest.raises(DeadlineExceeded):
        scope.remaining()


def test_a_cancelled_scope_stays_cancelled():
    scope = CancelScope()
    scope.cancel()
    scope.cancel()
    scope.reset()
    assert isinstance(scope.error, Cancelled)
    for operation in (scope.check, scope.remaining, lambda: scope.sleep(9), lambda: scope.check_time_for(0)):
        with pytest.raises(Cancelled):
            operation()


def test_the_first_error_of_a_scope_is_kept():
    scope = CancelScope(deadline=0.001)
    scope.cancel()
    time.sleep(0.002)
    assert isinstance(scope.error, Cancelled)
    with pytest.raises(Cancelled):
        scope.remaining()


def test_a_delay_past_the_deadline_raises_deadline_exceeded_at_once():
    CancelScope(deadline=10).check_time_for(9)
    with within(0.05), pytest.raises(DeadlineExceeded, match="in 11 s"):
        CancelScope(deadline=10).check_time_for(11)


def test_cancel_ends_a_sleep():
    scope = CancelScope()
    threading.Timer(0.03, scope.cancel).start()
    with within(0.08), pytest.raises(Cancelled):
        scope.sleep(9)


def test_a_sleep_raises_also_if_its_thread_runs_in_the_middle_of_cancel(monkeypatch):
    stop = CancelScope._stop

    def stop_slowly(scope: CancelScope, error: ChatStreamError) -> ChatStreamError:
        time.sleep(0.05)
        return stop(scope, error)

    monkeypatch.setattr(CancelScope, "_stop", stop_slowly)
    scope = CancelScope()
    threading.Timer(0.01, scope.cancel).start()
    with pytest.raises(Cancelled):
        scope.sleep(9)


def test_sleep_lasts_as_long_as_requested():
    with within(0.1, least=0.02):
        CancelScope().sleep(0.02)


def test_cancel_ends_a_read_of_the_attached_socket():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.attach(ours)
    threading.Timer(0.03, scope.cancel).start()
    with within(0.08):
        assert ours.recv(1) == b""
    ours.close()
    scope.cancel()  # has no effect on a closed socket
    theirs.close()


def test_an_owned_socket_is_closed_when_another_is_attached_or_the_scope_is_released():
    first, second = socket.socketpair()
    scope = CancelScope()
    scope.attach(first, owned=True)
    scope.attach(second, owned=True)
    assert first.fileno() == -1
    scope.socket.release()
    assert second.fileno() == -1
    scope.socket.release()


def test_a_socket_that_the_scope_does_not_own_stays_open_after_release():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.attach(ours)
    scope.socket.release()
    scope.attach(None)
    assert ours.fileno() != -1
    ours.close()
    theirs.close()


def test_attaching_a_socket_to_a_cancelled_scope_raises_cancelled():
    ours, theirs = socket.socketpair()
    scope = CancelScope()
    scope.cancel()
    with pytest.raises(Cancelled):
        scope.attach(ours, owned=True)
    scope.socket.release()
    theirs.close()


def test_a_sleep_uses_the_locks_that_threading_has_then_which_gevent_may_have_replaced(monkeypatch):
    made: list[Any] = []
    lock = threading.Lock
    monkeypatch.setattr(threading, "Lock", lambda: made.append(lock()) or made[-1])
    scope = CancelScope()
    assert scope._waking in made
    with within(0.2, least=0.05):
        scope.sleep(0.05)
