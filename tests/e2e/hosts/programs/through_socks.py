"""One stream through the SOCKS proxy of the environment: ``through_socks.py SCENARIO URL``. Prints how it ended."""

import json
import sys
import threading
import time

from chatstream import ChatStreamError, Client, Provider

scenario, url = sys.argv[1:]
OPTIONS = {"idle": {"stream_idle_timeout": 1}, "connect": {"connect_timeout": 1}}
provider = Provider("test", url, request_max_retries=0, stream_max_retries=0, **OPTIONS.get(scenario, {}))
client = Client(provider, model="any", deadline=1 if scenario == "deadline" else 20)
began = [time.monotonic()]


def cancel():
    began.append(time.monotonic())
    client.cancel()


if scenario == "cancel":
    threading.Timer(1, cancel).start()
found = {"text": None, "error": None, "message": None}
try:
    stream = client.stream("Hi")
    found["text"] = stream.collect().text
except ChatStreamError as error:
    found |= {"error": type(error).__name__, "message": str(error)}
    found["text"] = error.partial.text if error.partial else None
print(json.dumps(found | {"seconds": time.monotonic() - began[-1]}))
