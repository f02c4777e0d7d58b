"""The official client of OpenAI asks the server at a URL: ``openai_client.py TASK URL``. Prints its findings."""

import json
import sys
import time

import openai

task, url = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key="sk-anything", max_retries=0, timeout=20)
MESSAGES = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def streamed(**more):
    """Text, reasoning, calls, finish reason and tokens of a streamed answer, and when its chunks with content came."""
    found = {"text": "", "reasoning": "", "calls": {}, "finish": None, "tokens": None, "times": []}
    began = time.monotonic()
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(
        model="m1", messages=MESSAGES, stream=True, stream_options=options, **more
    ):
        if chunk.usage:
            found["tokens"] = chunk.usage.total_tokens
        for choice in chunk.choices:
            found["text"] += choice.delta.content or ""
            found["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
            found["finish"] = choice.finish_reason or found["finish"]
            for call in choice.delta.tool_calls or ():
                name, arguments = found["calls"].setdefault(str(call.index), ["", ""])
                found["calls"][str(call.index)] = [
                    name + (call.function.name or ""),
                    arguments + (call.function.arguments or ""),
                ]
            if choice.delta.content:
                found["times"].append(time.monotonic() - began)
    return found


def failed(**more):
    """The class, the status and the text of the error of a call, and the text that came before it."""
    text = ""
    try:
        for chunk in client.chat.completions.create(model="m1", messages=MESSAGES, stream=True, **more):
            for choice in chunk.choices:
                text += choice.delta.content or ""
    except Exception as error:  # it depends on the version
        return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "text": text}
    return {"error": None, "text": text}


if task == "streamed":
    print(json.dumps(streamed(tools=TOOLS)))
elif task == "failed":
    print(json.dumps(failed()))
elif task == "whole":
    answer = client.chat.completions.create(model="m1", messages=MESSAGES)
    print(json.dumps({"text": answer.choices[0].message.content, "tokens": answer.usage.total_tokens}))
elif task == "models":
    print(json.dumps({"models": [model.id for model in client.models.list()]}))
