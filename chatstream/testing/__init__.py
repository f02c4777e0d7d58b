"""For the tests of programs that stream: servers that behave badly on purpose.

`FaultServer` plays scripts on a loopback socket; `chatstream.testing.fault_server` tells how to write them.
"""

from __future__ import annotations

from .fault_server import FaultServer
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
