"""What people type first: each mistake, and the sentence that it gives.

A sentence names the thing, its value unless that may be secret, and the way out. Where the grammar of Python itself
refuses, its own sentence stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import KEY

import chatstream
from chatstream import Client, ConfigError, FunctionCall, InputImage, Message, Prompt, Provider, ResponseStream, Tool
from chatstream.testing import FaultServer, text_answer

USER = {"role": "user", "content": "Hi"}
Mistake = Callable[[Client], object]


def get_weather(city: str) -> str:
    """Get the weather."""
    return city


def with_image(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def one_line(**options: Any) -> ResponseStream:
    return chatstream.stream("Hi", **options)


# Refused before anything is sent: what is typed, and all of the sentence that matters.
REFUSED: dict[str, tuple[Mistake, str]] = {
    # the one-liner
    "a server for the one-liner": (
        lambda _: one_line(base_url="http://127.0.0.1:8000/v1", api_key=KEY, model="m1"),
        "base_url='http://127.0.0.1:8000/v1' is not a request field: create a client for your server, "
        'Client(base_url="https://…/v1", api_key="…")',
    ),
    "a key for the one-liner": (
        lambda _: one_line(api_key=KEY, model="m1"),
        'api_key=*** is not a request field: pass the key to a client, Client(api_key="…"), or put it into the '
        "environment variable of its provider",
    ),
    "no model": (
        lambda client: Client(client.provider).stream("Hi"),
        'name a model: stream(prompt, model="…"), Client(model="…"), or -m on the command line',
    ),
    # the client
    "a model in the place of the provider": (
        lambda _: Client("gpt-4.1-mini"),
        "unknown built-in provider (its name is not shown, because it may be a key). Known: openai, azure, openrouter, "
        "[...], vllm, local. For another server, pass its URL (http://… or https://…); a model as "
        'model="…"; a key as api_key="…".',
    ),
    "a typo in the id of a provider": (
        lambda _: Client("opneai"),
        "unknown built-in provider (its name is not shown, because it may be a key). Did you mean 'openai'? Known: "
        "openai, azure, [...]",
    ),
    "a key in the place of the provider": (
        lambda _: Client(KEY),
        'the name of the provider looks like a key: pass a key as api_key="…"',
    ),
    "a URL without its scheme": (
        lambda _: Client(base_url="127.0.0.1:8000/v1"),
        "base_url must be a URL like https://api.example.com/v1: http or https, a host, and no port above 65535",
    ),
    "two servers": (
        lambda _: Client("groq", base_url="http://127.0.0.1:8000/v1"),
        "provider and base_url were both given: pass only one of them; for a built-in provider at another URL, use "
        "dataclasses.replace(Provider.named(…), base_url=…)",
    ),
    "a timeout for the client": (
        lambda _: Client(timeout=30),  # type: ignore[arg-type]
        "timeout=30 is not an option of Client: deadline=… limits the whole call, stream_idle_timeout=… the time "
        "between two events (both in seconds)",
    ),
    "a field for the client": (
        lambda _: Client(temperature=0),  # type: ignore[arg-type]
        "temperature=0 is not an option of Client: it is a field of a call, Client(…, defaults={'temperature': …}) or "
        "client.stream(…, temperature=…)",
    ),
    # fields
    "a timeout for a call": (
        lambda client: client.stream("Hi", timeout=30),
        "timeout=30 is not a request field: deadline=… limits the whole call, stream_idle_timeout=… the time "
        "between two events (both in seconds)",
    ),
    "retries for a call": (
        lambda client: client.stream("Hi", max_retries=3),
        "max_retries=3 is not a request field: retries are settings of the provider, "
        "Client(Provider(…, request_max_retries=…, stream_max_retries=…))",
    ),
    "headers for a call": (
        lambda client: client.stream("Hi", headers={"Authorization": KEY}),
        "headers=<dict> is not a request field: headers of one call are extra_headers={…}, those of all calls "
        "Provider(…, http_headers={…})",
    ),
    "a system prompt for a call": (
        lambda client: client.stream("Hi", system="Be brief."),
        "system='Be brief.' is not a request field: instructions are part of the prompt, Prompt(instructions, input)",
    ),
    "images for a call": (
        lambda client: client.stream("Hi", images=["cat.png"]),
        "images=<list> is not a request field: images and files are parts of a message, "
        'Message("user", ["What is this?", InputImage(url)])',
    ),
    "callbacks": (
        lambda client: client.stream("Hi", callbacks=[print]),
        "callbacks=<list> is not a request field: there are no callbacks, so loop over the stream: for event in "
        "client.stream(…)",
    ),
    "a provider for a call": (
        lambda client: client.stream("Hi", provider="groq"),
        "provider='groq' is not a request field: it is an argument of Client(\"groq\") or of "
        'chatstream.stream(…, provider="groq")',
    ),
    "an option with a typo": (
        lambda client: client.stream("Hi", deadlin=3),
        "deadlin=3 is not a known request field: did you mean deadline? If so, it belongs to "
        "client.stream(…, deadline=…) or Client(…, deadline=…); if not, send it with extra_body={…}",
    ),
    "a count that is a text": (
        lambda client: client.stream("Hi", n="2"),
        "n must be an integer of at least 1, not '2'",
    ),
    "a deadline that is a text": (
        lambda client: client.stream("Hi", deadline="5"),
        "deadline must be a number of seconds above 0, not '5'",
    ),
    "an answer that is not streamed": (
        lambda client: client.stream("Hi", stream=False),
        "answers are always streamed: leave out stream, and use .collect() for the complete answer",
    ),
    "functions as OpenAI's first tools": (
        lambda client: client.stream("Hi", functions=[get_weather]),
        "functions accepts only dicts: use tools=[Tool.from_function(f)]",
    ),
    "tools in two places": (
        lambda client: client.stream(Prompt(None, "Hi", [Tool("f")]), tools=[Tool("g")]),
        "tools were passed twice: pass them either in the prompt or as tools=…",
    ),
    # prompts
    "no prompt": (
        lambda client: client.stream(),
        'the prompt is missing or None: stream("Why?", …), stream([…], …) or stream(messages=[…], …)',
    ),
    "two prompts": (
        lambda client: client.stream("Hi", messages=[USER]),
        "the prompt was passed twice: pass it either as the first argument or as messages=…",
    ),
    "an empty prompt": (
        lambda client: client.stream(""),
        'the prompt is empty: add a message to answer, such as stream("Why?") or Prompt(input="Why?")',
    ),
    "a question in the place of the instructions": (
        lambda client: client.stream(Prompt("Why?")),
        "the prompt has instructions, but no message: use Prompt(input='Why?') to send them as "
        'a question, or Prompt(instructions, "…") to add one',
    ),
    "a text in a list": (
        lambda client: client.stream(["Hi"]),  # type: ignore[list-item]
        "input[0] is str 'Hi': use Message(\"user\", 'Hi'), or pass only the text as the prompt",
    ),
    "bytes": (
        lambda client: client.stream(b"Hi"),  # type: ignore[arg-type]
        "a prompt must be a str, a list of messages or a Prompt, not bytes b'Hi'",
    ),
    "a number": (
        lambda client: client.stream(5),  # type: ignore[arg-type]
        "a prompt must be a str, a list of messages or a Prompt, not int 5",
    ),
    "an iterator": (
        lambda client: client.stream(iter([USER])),  # type: ignore[arg-type]
        "a prompt must be a str, a list of messages or a Prompt, not list_iterator [...]; use list(…)",
    ),
    "a whole request": (
        lambda client: client.stream({"model": "m1", "messages": [USER]}),
        'a prompt must be a str, a list of messages or a Prompt, not dict [...]; pass its "messages" as the '
        "prompt, and the other keys as keyword arguments",
    ),
    "an image beside its message": (
        lambda client: client.stream([USER, InputImage("https://a.example/b.png")]),  # type: ignore[list-item]
        'input[1] is InputImage [...]: a part belongs into a message, as in Message("user", ["What is this?", image])',
    ),
    "a list appended in the place of its items": (
        lambda client: client.stream([USER, [USER]]),  # type: ignore[list-item]
        "input[1] is list [...]: add its items with prompt.input += items, instead of the list itself",
    ),
    "a message as a tuple": (
        lambda client: client.stream([("user", "Hi")]),  # type: ignore[list-item]
        "input[0] is tuple [...]: use Message('user', 'Hi')",
    ),
    "a role that nobody knows": (
        lambda client: client.stream([{"role": "human", "content": "Hi"}]),
        "messages[0] has the role 'human'; the roles are system, developer, user, assistant, tool, function",
    ),
    "a path in the place of the URL of an image": (
        lambda client: client.stream(with_image("cat.png")),
        "the image_url 'cat.png' is neither a URL nor a data: URL: use https://…, or the image itself as "
        "data:image/png;base64,…",
    ),
    "a path among the parts of a message": (
        lambda client: client.stream([Message("user", ["What is this?", Path("cat.png")])]),  # type: ignore[list-item]
        "a part of a message can't be [...]Path('cat.png'): use InputImage.from_file(path) or "
        "InputImage.from_bytes(data), or those of InputAudio or InputFile",
    ),
    "bytes among the parts of a message": (
        lambda client: client.stream([Message("user", ["What is this?", b"GIF89a"])]),  # type: ignore[list-item]
        "a part of a message can't be b'GIF89a': use InputImage.from_file(path) or "
        "InputImage.from_bytes(data), or those of InputAudio or InputFile",
    ),
    "a key as another library calls it": (
        lambda client: client.stream("Hi", key=KEY),
        'key=*** is not a request field: pass the key to a client, Client(api_key="…"), or put it into the '
        "environment variable of its provider",
    ),
    "an option that is found nowhere here": (
        lambda client: client.stream("Hi", _strict_response_validation=True),
        "_strict_response_validation=True is not a request field: chatstream has no such option, so leave it out",
    ),
}

# What another library has in the place of a client, a stream, an event or a turn.
OTHER_HABITS: dict[str, tuple[Callable[[Any, Any], object], type[Exception], str]] = {
    "the resource of openai-python": (
        lambda client, _: client.chat.completions.create(),
        AttributeError,
        "'Client' object has no attribute 'chat': use client.stream(messages, model=…)",
    ),
    "a chunk of openai-python": (
        lambda _, stream: [chunk.choices[0].delta for chunk in stream],
        AttributeError,
        "'Created' object has no attribute 'choices': events are not chunks of openai-python: the text is event.delta "
        "of an OutputTextDelta, or use stream.text()",
    ),
    "the text of any event": (
        lambda _, stream: [event.delta for event in stream],
        AttributeError,
        "'Created' object has no attribute 'delta': not every event has it: check the class, as in "
        "isinstance(event, OutputTextDelta), or use stream.text() for text",
    ),
    "the answer of openai-python": (
        lambda _, stream: stream.collect().choices[0].message,
        AttributeError,
        "'Turn' object has no attribute 'message': use turn.text",
    ),
    "the calls of openai-python": (
        lambda _, stream: stream.collect().tool_calls,
        AttributeError,
        "'Turn' object has no attribute 'tool_calls': use turn.function_calls",
    ),
    "the function of a call of openai-python": (
        lambda *_: FunctionCall("f", "{}", "c").function,
        AttributeError,
        "'FunctionCall' object has no attribute 'function': use call.name and call.arguments",
    ),
    "the id of a call of openai-python": (
        lambda *_: FunctionCall("f", "{}", "c").id,
        AttributeError,
        "'FunctionCall' object has no attribute 'id': use call.call_id",
    ),
    "the parsed answer of openai-python": (
        lambda _, stream: stream.collect().output_parsed,
        AttributeError,
        "'Turn' object has no attribute 'output_parsed': use turn.parsed(type)",
    ),
    "the choices of a stream": (
        lambda _, stream: stream.choices,
        AttributeError,
        "'ResponseStream' object has no attribute 'choices': loop over stream.text(), or use stream.collect().text",
    ),
    "the text of Anthropic's stream": (
        lambda _, stream: list(stream.text_stream),
        AttributeError,
        "'ResponseStream' object has no attribute 'text_stream': loop over stream.text(), or use stream.collect().text",
    ),
    "the last message of another stream": (
        lambda _, stream: stream.get_final_message(),
        AttributeError,
        "'ResponseStream' object has no attribute 'get_final_message': use stream.collect()",
    ),
    "the finish reason of a stream": (
        lambda _, stream: stream.finish_reason,
        AttributeError,
        "'ResponseStream' object has no attribute 'finish_reason': use stream.turn.finish_reason",
    ),
    "the status of a response of requests": (
        lambda _, stream: stream.status_code,
        AttributeError,
        "'ResponseStream' object has no attribute 'status_code': use stream.status",
    ),
    "an attribute that nobody has": (
        lambda _, stream: next(stream).shape,
        AttributeError,
        "'Created' object has no attribute 'shape'",
    ),
    "a loop over the client": (lambda client, _: list(client), TypeError, "'Client' object is not iterable"),
    "a model after the prompt": (
        lambda client, _: client.stream("Hi", "m1"),
        TypeError,
        "Client.stream() takes from 1 to 2 positional arguments but 3 were given",
    ),
    "text without its parentheses": (lambda _, stream: list(stream.text), TypeError, "'method' object is not iterable"),
}


@pytest.fixture
def client(serve: Callable[..., FaultServer]) -> Any:
    server = serve(text_answer("fine"))
    with Client(server.url, model="m1") as client:
        client.server = server  # type: ignore[attr-defined]
        yield client


def assert_says(error: BaseException, sentence: str) -> None:
    """The message is the sentence; ``[...]`` in it stands for any text."""
    beginning, cut, ending = sentence.partition("[...]")
    assert str(error) == sentence if not cut else str(error).startswith(beginning)
    assert str(error).endswith(ending)
    assert KEY not in str(error)


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_people_type_first_is_refused_with_a_sentence_that_names_the_way_out(client, mistake):
    make, sentence = REFUSED[mistake]
    with pytest.raises(ConfigError) as caught:
        make(client)
    assert_says(caught.value, sentence)
    assert client.server.connections == 0


@pytest.mark.parametrize("mistake", OTHER_HABITS)
def test_the_names_of_another_library_raise_an_error_with_the_name_here(client, mistake):
    make, kind, sentence = OTHER_HABITS[mistake]
    with client.stream("Hi") as stream, pytest.raises(kind) as caught:
        make(client, stream)
    assert_says(caught.value, sentence)


def test_at_least_thirty_mistakes_are_listed():
    assert len(REFUSED) + len(OTHER_HABITS) >= 30


def test_a_stream_is_neither_awaited_nor_read_by_async_for(client):
    async def await_it() -> None:
        with client.stream("Hi") as stream:
            await stream

    async def loop_over_it() -> None:
        with client.stream("Hi") as stream:
            async for _ in stream:
                pass

    with pytest.raises(TypeError, match="ResponseStream"):
        asyncio.run(await_it())
    with pytest.raises(TypeError, match=r"'async for' .* ResponseStream"):
        asyncio.run(loop_over_it())


def test_what_looks_like_a_mistake_and_is_none_works(client):
    with client.stream("Hi", tools=None, stream=True, n=None) as stream:
        assert repr(stream).startswith(
            "<ResponseStream open, loop over it, or call text() or collect(); provider='127.0.0.1:"
        )
        assert "".join(stream.text()) == "fine"
    turn = client.stream(Message("user", "Hi"), tools=[]).collect()
    assert client.stream([USER, turn, USER]).collect().text == "fine"
    with Client(f"{client.provider.base_url}/chat/completions", model="m1") as other:
        assert other.stream(messages=USER).collect().text == "fine"
    assert Client(Provider.named("openai"), api_key=KEY).provider.key() == KEY
