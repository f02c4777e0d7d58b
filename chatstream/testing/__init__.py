"""Servers for tests of programs that use models: scripted answers, faults on a real socket, recordings.

- `ChatServer` takes each answer as one line of code; the pytest fixture ``chat_server`` is such a server.
- `ReplayServer` serves recordings. `RecordingServer`, behind the fixture ``chat_recording``, first records them.
- `FaultServer` answers each request with a script, a list of steps such as `head`, `delta` and `cut`;
  `chatstream.testing.fault_server` has an example.

Each name is imported when it is first used, because pytest loads this package in every run, for its plugin.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's constant, without importing typing

if TYPE_CHECKING:
    from .chat_server import ChatServer as ChatServer
    from .fault_server import FaultServer as FaultServer
    from .recording_server import RecordingServer as RecordingServer
    from .replay_server import ReplayServer as ReplayServer
    from .scripts import Script as Script
    from .scripts import Step as Step
    from .scripts import chunk as chunk
    from .scripts import cut as cut
    from .scripts import delta as delta
    from .scripts import done as done
    from .scripts import drip as drip
    from .scripts import end as end
    from .scripts import event as event
    from .scripts import finish as finish
    from .scripts import forever as forever
    from .scripts import head as head
    from .scripts import pause as pause
    from .scripts import redirect as redirect
    from .scripts import reset as reset
    from .scripts import send as send
    from .scripts import stall as stall
    from .scripts import status as status
    from .scripts import text_answer as text_answer
    from .scripts import unread as unread
    from .wire import ReceivedRequest as ReceivedRequest
    from .wire import Wire as Wire

else:
    from importlib import import_module

    from .._runtime.imports import imports as _importing

    _SCRIPTS = (
        *("Script", "Step", "chunk", "cut", "delta", "done", "drip", "end", "event", "finish", "forever", "head"),
        *("pause", "redirect", "reset", "send", "stall", "status", "text_answer", "unread"),
    )
    _MODULE_OF = {
        "ChatServer": "chat_server",
        "FaultServer": "fault_server",
        "RecordingServer": "recording_server",
        "ReplayServer": "replay_server",
        "ReceivedRequest": "wire",
        "Wire": "wire",
        **dict.fromkeys(_SCRIPTS, "scripts"),
    }
    __all__ = [*_MODULE_OF]  # noqa: PLE0604  # all are strings

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'chatstream.testing' has no attribute {name!r}")
        with _importing():
            value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
