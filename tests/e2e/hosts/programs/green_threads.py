"""Fifty green threads of gevent or eventlet: ``green_threads.py LIBRARY before|after '{"scenario": "url", …}'``.

The standard library is patched before or after the import of chatstream. Prints for each scenario how the streams ended
and the longest time that one took; for ``cancel`` the time since the cancellation.
"""

import faulthandler
import json
import sys
import time

library, order, urls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
THREADS = 50
faulthandler.dump_traceback_later(45, exit=True)


def patch():
    if library == "gevent":
        from gevent import Timeout, monkey

        monkey.patch_all()
    else:
        from eventlet import Timeout, monkey_patch

        monkey_patch()
    return Timeout


if order == "before":
    Timeout = patch()
import requests  # noqa: E402, F401

import chatstream._stream  # noqa: E402, F401  # the modules that a first call loads
from chatstream import ChatStreamError, Client, Provider  # noqa: E402

if order == "after":
    Timeout = patch()

import threading  # noqa: E402  # its threads are green now
from contextlib import nullcontext  # noqa: E402

OPTIONS = {
    "idle": {"stream_idle_timeout": 1},
    "heartbeats": {"stream_idle_timeout": 1},
    "first event": {"first_event_timeout": 1},
    "headers": {"first_event_timeout": 1},
    "deadline": {},
    "cancel": {},
    "retries": {"request_max_retries": 2},
    "timeout of the library": {},
    "answer": {},
}


def read(client, scenario, ended, streams):
    started = time.monotonic()
    try:
        deadline = 1 if scenario == "deadline" else 30
        with Timeout(1, TimeoutError("theirs")) if scenario == "timeout of the library" else nullcontext():
            stream = client.stream("Hi", deadline=deadline, heartbeat=0.2 if scenario == "heartbeats" else None)
            streams.append(stream)
            how = stream.collect().text
    except ChatStreamError as error:
        how = type(error).__name__
    except TimeoutError as error:
        how = str(error)
    ended.append((how, started, time.monotonic()))


def run(scenario, url):
    options = {"request_max_retries": 0, "stream_max_retries": 0} | OPTIONS[scenario]
    provider = Provider("test", url, **options)
    client = Client(provider, model="any")
    ended, streams = [], []
    threads = [threading.Thread(target=read, args=(client, scenario, ended, streams)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    cancelled = None
    if scenario == "cancel":
        time.sleep(1)
        cancelled = time.monotonic()
        for stream in list(streams):
            stream.cancel()
    for thread in threads:
        thread.join()
    longest = max(until - (cancelled or since) for _, since, until in ended)
    print(json.dumps({scenario: {"ends": sorted({how for how, *_ in ended}), "longest": longest}}), flush=True)


for scenario, url in urls.items():
    run(scenario, url)
