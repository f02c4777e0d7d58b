"""The plugin of pytest: the fixtures ``chat_server`` and ``chat_recording``. pytest finds it by its entry point.

It is loaded in every test run where chatstream is installed, so that what it needs is imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .modes import DEFAULT_MODE, MODES

if TYPE_CHECKING:
    from ..providers.provider import Provider
    from .chat_server import ChatServer
    from .recording_server import RecordingServer


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chatstream", "recordings of model servers (chatstream)")
    group.addoption(
        "--chat-record-mode",
        choices=MODES,
        help="when chat_recording sends requests to the real server: never (none), if there is no recording yet (once, "
        "the default), for requests that are not in the recording (new_episodes), or always (all, rewrite)",
    )
    group.addoption(
        "--chat-recording-dir",
        metavar="DIR",
        help="the folder of the recordings (default: chat_recordings beside each test file)",
    )


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A Chat Completions server on loopback with the answers of the test: see `chatstream.testing.ChatServer`."""
    from .chat_server import ChatServer

    with ChatServer() as server:
        yield server


@pytest.fixture
def chat_recording(request: pytest.FixtureRequest) -> Iterator[Callable[..., RecordingServer]]:
    """A function that starts a server which records the answers of a real server once and sends them again afterwards.

    ``chat_recording("openai").url`` is the base URL for a client. The argument is the id of a provider, a base
    URL, or a `Provider`; ``name`` tells several recordings of one test apart.
    """
    from contextlib import ExitStack

    from .recording_server import RecordingServer

    with ExitStack() as stack:
        servers: list[RecordingServer] = []
        request.node.stash[SERVERS] = servers

        def record(upstream: str | Provider = "openai", *, name: str = "", speed: float = 0) -> RecordingServer:
            mode, path = _mode_of(request.config), _path_of(request, name)
            servers.append(stack.enter_context(RecordingServer(upstream, path, mode=mode, speed=speed)))
            return servers[-1]

        yield record


SERVERS: pytest.StashKey[list[RecordingServer]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test with what has changed, whatever its program has made of the status 400."""
    try:
        return (yield)
    finally:
        differences = [each for server in pyfuncitem.stash.get(SERVERS, ()) for each in server.differences]
        if differences:
            pytest.fail("\n\n".join(differences), pytrace=False)


def _mode_of(config: pytest.Config) -> str:
    """The mode that the options name; ``--record-mode`` is an option of pytest-recording, and holds here as well."""
    mode = config.getoption("chat_record_mode") or config.getoption("record_mode", None) or DEFAULT_MODE
    return str(mode)


def _path_of(request: pytest.FixtureRequest, name: str) -> Path:
    """Where the recording of a test is: one file for each test."""
    import re

    node = request.node
    folder = request.config.getoption("--chat-recording-dir")
    parts = [part for part in (getattr(node.cls, "__name__", ""), node.name, name) if part]
    file = re.sub(r"[^\w.\-]+", "_", "-".join(parts)).strip("_")[:200] + ".sse"
    base = Path(folder) if folder else Path(node.path.parent, "chat_recordings")
    return Path(base, node.path.stem, file)
