"""A program that asks for prompts p0, p1, … and writes their results to a file: ``driver.py URL OUT COUNT``."""

from __future__ import annotations

import sys

from chatstream import Client, Provider, map_prompts

if __name__ == "__main__":
    url, out, count = sys.argv[1:]
    provider = Provider("test", url, retry_budget=None)
    with Client(provider, model="m1") as client:
        for _ in map_prompts(client, (f"p{number}" for number in range(int(count))), out=out, concurrency=4):
            pass
