"""A Celery application. Its client makes a first call in the parent process, before the pool forks."""

import os
import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_init
from models import client_of

app = Celery("tasks", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.update(broker_connection_retry_on_startup=False, worker_prefetch_multiplier=1)


@worker_init.connect
def warm_up(**_):
    client_of(os.environ["WARM_PORT"]).stream("before the fork").collect()


@app.task
def echo(question):
    return os.getpid(), client_of(os.environ["WARM_PORT"]).stream(question).collect().text


@app.task(soft_time_limit=1, time_limit=20)
def limited(port):
    """How a stream ends that the soft time limit interrupts."""
    started, stream = time.monotonic(), None
    try:
        stream = client_of(port).stream("Hi")
        for _ in stream:
            pass
    except SoftTimeLimitExceeded:
        text = stream.turn.text if stream is not None else None
        return "SoftTimeLimitExceeded", text, time.monotonic() - started
    except BaseException as error:
        return type(error).__name__, str(error), time.monotonic() - started
    return "completed", stream.turn.text, time.monotonic() - started


@app.task(soft_time_limit=1, time_limit=20)
def unguarded(port):
    return client_of(port).stream("Hi").collect().text
