"""Uses the chat of the page docs/howto/gradio.md as a browser does: ``gradio_page.py URL QUESTION…``.

It asks one question after the other, and prints the values that the page shows for each, and the error if there is one.
After the first value for the question ``stop`` it cancels the rest.
"""

import json
import sys

from gradio_client import Client

SECONDS = 20


def ask(client, question):
    job = client.submit(question, api_name="/answer")
    shown, error = [], None
    try:
        for value in job:
            if value not in shown:
                shown.append(value)
            if question == "stop":
                job.cancel()
                return {"values": shown, "error": None}
        job.result(timeout=SECONDS)
    except Exception as failure:
        error = str(failure)
    return {"values": shown, "error": error}


url, *questions = sys.argv[1:]
client = Client(url, verbose=False)
print(json.dumps({"shown": [ask(client, question) for question in questions]}))
