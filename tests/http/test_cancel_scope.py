"""The clock and the cancel switch, with plain sockets."""

from __future__ import annotations

import math
import socket
import threading
import time

import pytest
from support import within

from chatstream import Cancelled, ConfigError, DeadlineExceeded, IdleTimeout
from chatstream._http.cancel_scope import LONGEST_WAIT, Watch


@pytest.mark.parametrize("deadline", [0, -1, "1", math.nan])
def test_a_deadline_is_a_number_above_zero(deadline):
    with pytest.raises(ConfigError, match="deadline"):
        Watch(deadline)


def test_without_limits_there_is_time_enough():
    watch = Watch()
    assert watch.remaining() == LONGEST_WAIT
    assert watch.verdict is None
    assert 0 <= watch.elapsed < 1


def test_the_nearest_limit_counts():
    watch = Watch(deadline=10)
    assert 9 < watch.remaining() <= 10
    watch.allow(5, IdleTimeout)
    assert 4 < watch.remaining() <= 5
    watch.allow(20, IdleTimeout)
    assert 9 < watch.remaining() <= 10


def test_a_limit_that_is_over_makes_its_error_once():
    watch = Watch()
    watch.allow(0.001, IdleTimeout)
    time.sleep(0.002)
    with pytest.raises(IdleTimeout) as first:
        watch.remaining()
    with pytest.raises(IdleTimeout) as second:
        watch.check()
    assert first.value is second.value is watch.verdict


def test_a_verdict_is_found_without_waiting():
    watch = Watch(deadline=0.001)
    time.sleep(0.002)
    assert isinstance(watch.verdict, DeadlineExceeded)


def test_a_renewed_watch_forgets_the_limit_of_one_attempt_but_not_the_deadline():
    watch = Watch(deadline=0.3)
    watch.allow(0.001, IdleTimeout)
    time.sleep(0.002)
    assert isinstance(watch.verdict, IdleTimeout)
    watch.renew()
    assert watch.remaining() <= 0.3
    time.sleep(0.3)
    with pytest.raises(DeadlineExceeded):
        watch.remaining()


def test_a_cancelled_watch_stays_cancelled():
    watch = Watch()
    watch.cancel()
    watch.cancel()
    watch.renew()
    assert isinstance(watch.verdict, Cancelled)
    for ask in (watch.check, watch.remaining, lambda: watch.sleep(9), lambda: watch.check_time_for(0)):
        with pytest.raises(Cancelled):
            ask()


def test_the_first_verdict_is_kept():
    watch = Watch(deadline=0.001)
    watch.cancel()
    time.sleep(0.002)
    assert isinstance(watch.verdict, Cancelled)
    with pytest.raises(Cancelled):
        watch.remaining()


def test_a_wait_past_the_deadline_is_not_begun():
    Watch(deadline=10).check_time_for(9)
    with within(0.05), pytest.raises(DeadlineExceeded, match="in 11 s"):
        Watch(deadline=10).check_time_for(11)


def test_cancel_wakes_a_sleeper():
    watch = Watch()
    threading.Timer(0.03, watch.cancel).start()
    with within(0.08), pytest.raises(Cancelled):
        watch.sleep(9)


def test_sleeping_takes_its_time():
    with within(0.1, least=0.02):
        Watch().sleep(0.02)


def test_cancel_wakes_whoever_reads_from_the_socket():
    ours, theirs = socket.socketpair()
    watch = Watch()
    watch.attach(ours)
    threading.Timer(0.03, watch.cancel).start()
    with within(0.08):
        assert ours.recv(1) == b""
    ours.close()
    watch.cancel()  # a closed socket is no trouble
    theirs.close()


def test_an_owned_socket_is_closed_by_the_next_one_or_when_it_is_released():
    first, second = socket.socketpair()
    watch = Watch()
    watch.attach(first, owned=True)
    watch.attach(second, owned=True)
    assert first.fileno() == -1
    watch.release()
    assert second.fileno() == -1
    watch.release()


def test_a_socket_of_a_connection_stays_open():
    ours, theirs = socket.socketpair()
    watch = Watch()
    watch.attach(ours)
    watch.release()
    watch.attach(None)
    assert ours.fileno() != -1
    ours.close()
    theirs.close()


def test_a_socket_comes_too_late_for_a_cancelled_watch():
    ours, theirs = socket.socketpair()
    watch = Watch()
    watch.cancel()
    with pytest.raises(Cancelled):
        watch.attach(ours, owned=True)
    watch.release()
    theirs.close()
