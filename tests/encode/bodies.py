"""Helpers for tests of request bodies: prompts → bodies, and the messages that tests expect in them."""

from __future__ import annotations

import json

from chatstream._encode.body import encode_json, request_body

PNG = "data:image/png;base64,iVBORw0KGgo="


def body(prompt, *, model="m", fields=None, **settings):
    """The body of a request; ``settings`` are those of a provider."""
    found = request_body(prompt, model=model, fields=fields or {}, **settings)
    assert json.loads(encode_json(found)) == found
    return found


def messages(*items, **settings):
    return body(list(items), **settings)["messages"]


def call(call_id, name="f", arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def answer(call_id, content="42"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}
