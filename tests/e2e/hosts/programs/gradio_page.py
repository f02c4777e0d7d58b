"""Asks the chat of the page docs/howto/gradio.md, as a browser does: ``gradio_page.py URL whole|leave``.

Prints the values that it shows, one after the other, and the error that it shows at the end. To leave is to take the
first value, and to cancel the rest.
"""

import json
import sys

from gradio_client import Client

url, how = sys.argv[1:]
client = Client(url, verbose=False)
job = client.submit("Open?", api_name="/chat")
shown = []
try:
    for value in job:
        if value not in shown:
            shown.append(value)
        if how == "leave":
            job.cancel()
            break
    job.result(timeout=20) if how == "whole" else None
    error = None
except Exception as failure:
    error = str(failure)
print(json.dumps({"shown": shown, "error": error}))
