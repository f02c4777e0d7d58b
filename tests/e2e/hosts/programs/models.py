"""The clients of all applications in this folder: one for each port, as a program has one for each model."""

from __future__ import annotations

import os
from functools import cache

from chatstream import Client, Provider

HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))


@cache
def client_of(port: str) -> Client:
    provider = Provider("model", f"http://127.0.0.1:{port}/v1", stream_max_retries=0)
    return Client(provider, model="any", deadline=10)
