"""One package that replaces the network, the clock, or parts of a session: ``mocked.py PACKAGE URL``.

Prints the texts of the answers before, while and after it is active, or how the limits held.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import requests

from chatstream import ChatStreamError, Client, Provider

package, url = sys.argv[1:]
ENDPOINT = f"{url}/chat/completions"
MOCKED = b"".join(
    b"data: %b\n\n" % data
    for data in (
        b'{"id": "c1", "choices": [{"index": 0, "delta": {"content": "mocked"}}]}',
        b'{"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}',
        b"[DONE]",
    )
)
HEADERS = {"Content-Type": "text/event-stream"}
provider = Provider("test", url, api_key="sk-test-key-1234", request_max_retries=0, stream_max_retries=0)


def client(**options):
    return Client(provider, model="any", **options)


def text_of(asked):
    """The text of an answer, or the name of the error instead."""
    try:
        return asked.stream("Hi", deadline=10).collect().text
    except ChatStreamError as error:
        return f"{type(error).__name__}: {error}"


def around(context):
    """The texts of a client whose first call is inside the context, and of one whose first call is before it."""
    first_inside, first_before = client(), client()
    before = text_of(first_before)
    with context:
        inside = [text_of(first_inside), text_of(first_inside), text_of(first_before)]
    return {"before": before, "inside": inside, "after": [text_of(first_inside), text_of(first_before)]}


def vcr():
    import vcr

    cassette = Path(tempfile.mkdtemp()) / "cassette.yaml"
    recorder = vcr.VCR(record_mode="once", match_on=["method", "uri", "body"], filter_headers=["authorization"])
    recorded, replayed = client(), client()
    with recorder.use_cassette(str(cassette)):
        inside = text_of(recorded)  # the first call of this client, and of the process
    written = cassette.read_text() if cassette.exists() else ""
    with recorder.use_cassette(str(cassette)) as played:
        again = [text_of(replayed)]
        play_count = played.play_count
    with recorder.use_cassette(str(cassette)):
        again.append(text_of(recorded))
    return {
        "inside": inside,
        "again": again,
        "recorded": written.count("- request:"),
        "played": play_count,
        "key": "sk-test-key-1234" in written,
        "after": [text_of(recorded), text_of(replayed)],
    }


def responses():
    import responses

    mock = responses.RequestsMock(assert_all_requests_are_fired=False)
    mock.post(ENDPOINT, body=MOCKED, content_type="text/event-stream")
    return around(mock)


def requests_mock():
    import requests_mock

    mock = requests_mock.Mocker()
    mock.post(ENDPOINT, content=MOCKED, headers=HEADERS)
    return around(mock)


def pook():
    import pook

    class Active:
        def __enter__(self):
            pook.on()
            pook.post(ENDPOINT, reply=200, response_headers=HEADERS, response_body=MOCKED.decode(), persist=True)

        def __exit__(self, *error):
            pook.off()

    return around(Active())


def requests_mock_adapter():
    """An adapter that the owner mounted on a session of his own."""
    import requests_mock

    session, adapter = requests.Session(), requests_mock.Adapter()
    adapter.register_uri("POST", ENDPOINT, content=MOCKED, headers=HEADERS)
    session.mount("http://", adapter)
    asked = client(session=session)
    texts = [text_of(asked), text_of(asked)]
    return {"inside": texts, "kept": session.get_adapter(ENDPOINT) is adapter}


def requests_cache():
    import requests_cache

    session = requests_cache.CachedSession(backend="memory", allowable_methods=("GET", "POST"))
    adapters = dict(session.adapters)
    asked = client(session=session)
    texts = [text_of(asked), text_of(asked)]
    return {"inside": texts, "kept": dict(session.adapters) == adapters}


def requests_toolbelt():
    from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter
    from requests_toolbelt.adapters.source import SourceAddressAdapter

    texts, kept = [], []
    for adapter in (SourceAddressAdapter("127.0.0.1"), TCPKeepAliveAdapter(idle=30)):
        session = requests.Session()
        session.mount("http://", adapter)
        asked = client(session=session)
        texts += [text_of(asked), text_of(asked)]
        kept.append(session.get_adapter(ENDPOINT) is adapter)
    return {"inside": texts, "kept": all(kept)}


def limits_of_toolbelt():
    """The limits of a stream over an adapter of somebody else, which goes silent after three events."""
    from requests_toolbelt.adapters.source import SourceAddressAdapter

    session = requests.Session()
    session.mount("http://", SourceAddressAdapter("127.0.0.1"))
    return limits(session)


def limits(session=None):
    """How a stream ends that goes silent, by the idle limit and by the deadline, and after how many real seconds."""
    found = {}
    for name, idle, deadline in (("idle", 0.5, 20), ("deadline", 20, 0.5)):
        settings = {"request_max_retries": 0, "stream_max_retries": 0, "stream_idle_timeout": idle}
        asked = Client(Provider("test", url, **settings), model="any", session=session, deadline=deadline)
        started = real_time()
        try:
            asked.stream("Hi").collect()
        except ChatStreamError as error:
            found[name] = (type(error).__name__, real_time() - started)
    return found


def real_time():
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # neither package replaces it


def freezegun():
    import freezegun

    with freezegun.freeze_time("2020-01-01"):
        return limits()


def freezegun_ticks():
    import freezegun

    with freezegun.freeze_time("2020-01-01", auto_tick_seconds=30):
        return limits()


def freezegun_before_the_import():
    import freezegun

    for name in [name for name in sys.modules if name.partition(".")[0] == "chatstream"]:
        del sys.modules[name]
    with freezegun.freeze_time("2020-01-01"):
        import chatstream

        globals().update({name: getattr(chatstream, name) for name in ("ChatStreamError", "Client", "Provider")})
        return limits()


def time_machine():
    import time_machine

    with time_machine.travel("2020-01-01", tick=False):
        return limits()


def time_machine_jumps():
    import time_machine

    with time_machine.travel("2020-01-01", tick=True) as traveller:
        traveller.shift(3600)
        return limits()


print(json.dumps(globals()[package]()))
