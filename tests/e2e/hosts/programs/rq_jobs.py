"""An RQ job with a timeout, run by a worker that forks: ``rq_jobs.py PORT``. Prints what the job reports."""

import json
import os
import sys
import time

from models import client_of
from redis import Redis
from rq import Queue, Worker
from rq.timeouts import JobTimeoutException

REDIS = os.environ["REDIS"]


def limited(port):
    started, stream = time.monotonic(), None
    try:
        stream = client_of(port).stream("Hi")
        for _ in stream:
            pass
    except JobTimeoutException:
        text = stream.turn.text if stream is not None else None
        return "JobTimeoutException", text, time.monotonic() - started
    except BaseException as error:
        return type(error).__name__, str(error), time.monotonic() - started
    return "completed", stream.turn.text, time.monotonic() - started


if __name__ == "__main__":
    from rq_jobs import limited as task  # under the name by which the worker imports it

    connection = Redis.from_url(REDIS)
    queue = Queue(connection=connection)
    job = queue.enqueue(task, sys.argv[1], job_timeout=1)
    Worker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    print(json.dumps({"ended": job.return_value(refresh=True), "status": str(job.get_status())}))
