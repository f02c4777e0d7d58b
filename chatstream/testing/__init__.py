"""Scripts → faults on a real socket, for tests of programs that use chatstream.

`FaultServer` is a server on loopback that answers each request with a script; `chatstream.testing.fault_server` has an
example. A script is a list of steps, such as `head`, `delta` and `cut`.
"""

from __future__ import annotations

from .fault_server import FaultServer
from .replay_server import ReplayServer
from .scripts import (
    Script,
    Step,
    chunk,
    cut,
    delta,
    done,
    drip,
    end,
    event,
    finish,
    forever,
    head,
    pause,
    redirect,
    reset,
    send,
    stall,
    status,
    text_answer,
    unread,
)
from .wire import ReceivedRequest, Wire

__all__ = [
    "FaultServer",
    "ReceivedRequest",
    "ReplayServer",
    "Script",
    "Step",
    "Wire",
    "chunk",
    "cut",
    "delta",
    "done",
    "drip",
    "end",
    "event",
    "finish",
    "forever",
    "head",
    "pause",
    "redirect",
    "reset",
    "send",
    "stall",
    "status",
    "text_answer",
    "unread",
]
