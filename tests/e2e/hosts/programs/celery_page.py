"""Calls the task of the page docs/howto/celery.md; prints what its state shows, and how it ends."""

import json
import time

from page import ask

result = ask.delay("Open?")
seen = []
until = time.monotonic() + 40
while not result.ready() and time.monotonic() < until:
    info = result.info
    if isinstance(info, dict) and info not in seen:
        seen.append(info)
    time.sleep(0.02)
print(
    json.dumps(
        {"seen": seen, "state": result.state, "result": str(result.result), "type": type(result.result).__name__}
    )
)
