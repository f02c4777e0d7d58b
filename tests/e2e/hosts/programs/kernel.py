"""Runs cells in a kernel of IPython, and prints what it sends to the notebook as JSON, an object in each line.

    python kernel.py URL  ──▶  "updates": Markdown and time of each update, "value", "error", …

The cell reads a stream of the server at URL. When its first text is shown, the kernel is interrupted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from jupyter_client.manager import start_new_kernel

CELL = """
import chatstream
provider = chatstream.Provider("test", "{}", api_key="key", model="m1")
turn = chatstream.stream("Hi", provider=provider).show()
"""
AFTERWARDS = "print(repr((turn.text, turn.status, turn.timing.total is not None)))"
SECONDS = 30


def main(url: str) -> None:
    manager, client = start_new_kernel()
    updates: list[tuple[float, str]] = []

    def on_message(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("display_data", "update_display_data"):
            updates.append((time.monotonic(), message["content"]["data"]["text/markdown"]))
            if len(updates) > 1 and "three" in updates[-1][1] and "<small>" not in updates[-1][1]:
                manager.interrupt_kernel()

    try:
        reply = client.execute_interactive(CELL.format(url), output_hook=on_message, timeout=SECONDS)
        printed: list[str] = []
        client.execute_interactive(
            AFTERWARDS, output_hook=lambda message: printed.append(message["content"].get("text", "")), timeout=SECONDS
        )
        print(json.dumps({"status": reply["content"]["status"], "updates": updates, "printed": "".join(printed)}))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(sys.argv[1])
