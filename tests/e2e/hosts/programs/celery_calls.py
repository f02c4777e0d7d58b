"""Sends tasks to a Celery worker: ``celery_calls.py echo COUNT`` or ``celery_calls.py limited|unguarded PORT``."""

import json
import sys

from celery_tasks import echo, limited, unguarded

task, argument = sys.argv[1:]
if task == "echo":
    results = [echo.delay(f"question {number}") for number in range(int(argument))]
    print(json.dumps({"answers": [result.get(timeout=30) for result in results]}))
elif task == "limited":
    print(json.dumps({"ended": limited.delay(argument).get(timeout=30)}))
else:
    result = unguarded.delay(argument)
    result.get(timeout=30, propagate=False)
    print(json.dumps({"state": result.state, "error": type(result.result).__name__}))
