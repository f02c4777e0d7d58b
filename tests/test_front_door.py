"""What people write first: fields, options, prompts, URLs and keys, at the two places that take them."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import socket
import traceback
import warnings
from dataclasses import fields as fields_of
from typing import Any, TypedDict

import pytest
import requests
from support import KEY, id_of, within

import chatstream
from chatstream import (
    Client,
    ConfigError,
    DeadlineExceeded,
    FunctionCall,
    FunctionCallOutput,
    IdleTimeout,
    InputText,
    Message,
    Prompt,
    Provider,
    Reasoning,
    Turn,
    UnexpectedStatus,
)
from chatstream._field_names import KNOWN, PLACE_OF, typo_of
from chatstream._shared import shared_client
from chatstream.client import PLACES
from chatstream.testing import delta, done, end, finish, head, pause, stall, status, text_answer

pytestmark = pytest.mark.usefixtures("short_waits")
OK = text_answer("fine")
HI = [{"role": "user", "content": "Hi"}]
PER_CALL = {"deadline", "stream_idle_timeout", "first_event_timeout", "model"}
SETTINGS = sorted({each.name for each in fields_of(Provider)} | {*PLACES.client_options} - {"provider"})


def sent(server: Any) -> Any:
    return server.requests[-1].json


def locals_of(error: BaseException) -> str:
    """The locals of the library's frames, as tools print them with a traceback."""
    found = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [frame for frame in found if frame.f_globals.get("__name__", "").startswith("chatstream")]
    assert found or type(error) is not ConfigError
    return "".join(f"{frame.f_code.co_name}: {frame.f_locals!r}\n" for frame in found)


# ── options are no fields ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted({*SETTINGS, *PLACE_OF} - PER_CALL - {"provider"}))
def test_the_name_of_an_option_is_refused_as_a_field_and_its_place_is_named(serve, connect, name):
    server = serve(OK)
    with pytest.raises(ConfigError, match=rf"^{name}=3 is not a request field: \w|{name}=\*\*\* is not") as caught:
        connect(server).stream("Hi", **{name: 3})
    assert PLACES.place_of[name] in str(caught.value)
    with pytest.raises(ConfigError, match=f"{name}=.* is not a request field"):
        Client(defaults={name: None})
    assert server.connections == 0


def test_every_setting_of_provider_and_client_is_an_option():
    assert set(SETTINGS) <= PLACES.names | {"model"}
    assert PLACES.place_of["retry_budget"] == "it belongs to Client(Provider(…, retry_budget=…))"
    assert PLACES.place_of["on_retry"] == "it belongs to Client(…, on_retry=…)"
    assert PLACES.place_of["heartbeat"] == "it belongs to client.stream(…, heartbeat=…)"
    assert not PLACE_OF.keys() & (KNOWN - {"provider"})


def test_the_one_liner_with_the_address_of_a_server_sends_nothing_and_says_to_make_a_client(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a host was looked up"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match=r"create a client for your server, Client\(base_url=") as caught:
        chatstream.stream("private", base_url="http://127.0.0.1:8000/v1", api_key="my-own-key", model="m1")
    assert "'http://127.0.0.1:8000/v1'" in str(caught.value)
    with pytest.raises(
        ConfigError, match=r"^api_key=\*\*\* is not a request field: pass the key to a client"
    ) as caught:
        chatstream.stream("private", api_key="my-own-key", base_url="http://127.0.0.1:8000/v1")
    assert "my-own-key" not in locals_of(caught.value)


def test_an_option_is_refused_before_the_provider_is_looked_up():
    with pytest.raises(ConfigError, match=r"azure_endpoint='https://my\.openai\.azure\.com' is not a request field"):
        chatstream.stream("Hi", provider="azure", azure_endpoint="https://my.openai.azure.com")


@pytest.mark.parametrize("name", ["apiKey", "API_KEY", "api-key", "baseURL", "maxRetries", "time_out", "HTTP_headers"])
def test_an_option_in_another_spelling_is_refused_with_the_same_place(connect, name):
    option = next(
        each for each in PLACES.place_of if each.replace("_", "") == name.lower().replace("_", "").replace("-", "")
    )
    with pytest.raises(ConfigError, match=f"^{name}=.* is not a request field: ") as caught:
        connect("http://127.0.0.1/v1").stream("Hi", **{name: KEY})
    assert str(caught.value).endswith(PLACES.place_of[option])
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("deadlin", "deadline"),
        ("hearbeat", "heartbeat"),
        ("extra_header", "extra_headers"),
        ("stream_idel_timeout", "stream_idle_timeout"),
        ("api_kye", "api_key"),
        ("massages", "messages"),
        ("timeoutt", "timeout"),
    ],
)
def test_an_option_with_a_typo_is_refused_and_both_ways_out_are_named(connect, name, option):
    with pytest.raises(ConfigError, match=f"^{name}=.* did you mean {option}\\? If so, ") as caught:
        connect("http://127.0.0.1/v1").stream("Hi", **{name: "hunter2"})
    assert str(caught.value).endswith("; if not, send it with extra_body={…}")
    assert "hunter2" not in str(caught.value) or option != "api_key"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("groq_api_key", "api_key"),
        ("MISTRAL_API_KEY", "api_key"),
        ("hf_token", "api_key"),
        ("auth_token", "api_key"),
        ("Authorization", "api_key"),
        ("azure_client_secret", "api_key"),
        ("proxy_password", "api_key"),
        ("aws_secret_access_key", "api_key"),
        ("ollama_base_url", "base_url"),
        ("OPENAI_BASE_URL", "base_url"),
        ("azure_api_base", "base_url"),
        ("serverUrl", "base_url"),
        ("api_endpoint", "base_url"),
    ],
)
def test_another_name_of_a_key_or_of_an_address_is_refused_and_both_ways_out_are_named(connect, name, option):
    with pytest.raises(
        ConfigError, match=f"^{name}=.* did you mean {option}\\? If so, {PLACES.place_of[option][:20]}"
    ) as caught:
        connect("http://127.0.0.1/v1").stream("Hi", **{name: "hunter2"})
    assert str(caught.value).endswith("; if not, send it with extra_body={…}")
    assert "hunter2" not in str(caught.value) or option != "api_key"


@pytest.mark.parametrize("key", [KEY, "sk-or-v1-0123456789abcdef", "Bearer gsk_0123456789abcdef"])
def test_a_text_that_begins_like_a_key_is_not_sent_in_a_field_that_nobody_knows(connect, key):
    with pytest.raises(ConfigError, match=r"^my_field=\*\*\* is not a known .* did you mean api_key\?") as caught:
        connect("http://127.0.0.1/v1").stream("Hi", my_field=key)
    assert key not in str(caught.value) + locals_of(caught.value)


def test_names_that_only_resemble_those_of_keys_and_addresses_are_sent(serve, connect):
    server = serve(OK)
    fields = {"eos_token": "</s>", "token_limit": 5, "cache_key": "a1b2", "context": "c", "callback_url": "http://h"}
    connect(server).stream("Hi", **fields).collect()
    assert fields.items() <= sent(server).items()


def test_the_client_in_place_of_its_method_is_refused_with_the_way_to_call_it(connect):
    client = connect("http://127.0.0.1/v1")
    with pytest.raises(ConfigError, match=r"client=<Client> is not a request field: .* client\.stream\(…\)"):
        chatstream.stream("Hi", model="m1", client=client)


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ({"timeout": 30.5}, "timeout=30.5 "),
        ({"timeout": None}, "timeout=None "),
        ({"timeout": (3, 30)}, "timeout=<tuple> "),
        ({"verify": False}, "verify=False "),
        ({"system": "Be brief."}, "system='Be brief.' "),
        ({"system": "word " * 1000}, f"system='{'word ' * 12}' "),
        ({"headers": {"Authorization": KEY}}, "headers=<dict> "),
        ({"token": "hunter2"}, r"token=\*\*\* "),
        ({"password": 1234}, r"password=\*\*\* "),
        ({"base_url": "http://me:hunter2@host/v1"}, r"base_url=\*\*\* "),
        ({"base_url": "http://host/v1?sig=hunter2"}, r"base_url=\*\*\* "),
        ({"organization": KEY}, r"organization=\*\*\* "),
    ],
    ids=repr,
)
def test_a_message_shows_a_short_value_that_cannot_be_secret(connect, field, shown):
    with pytest.raises(ConfigError, match=f"^{shown}is not a request field"):
        connect("http://127.0.0.1/v1").stream("Hi", **field)


def test_the_routing_of_openrouter_is_a_field_and_the_name_of_a_provider_is_not(serve, connect):
    server = serve(OK)
    connect(server).stream("Hi", provider={"order": ["Groq"]}).collect()
    assert sent(server)["provider"] == {"order": ["Groq"]}
    with pytest.raises(
        ConfigError, match=r"provider='groq' is not a request field: it is an argument of Client\(\"groq\"\) or"
    ):
        connect(server).stream("Hi", provider="groq")


def test_an_option_of_another_place_is_refused_by_the_client_with_its_place():
    with pytest.raises(ConfigError, match=r"^timeout=30 is not an option of Client: deadline=… limits the whole call"):
        Client(timeout=30)
    with pytest.raises(ConfigError, match=r"request_max_retries=2 .* it belongs to Client\(Provider\(…, request_max"):
        Client(request_max_retries=2)
    with pytest.raises(ConfigError, match=r"temperature=0 .* Client\(…, defaults={'temperature': …}\)"):
        Client(temperature=0)
    with pytest.raises(ConfigError, match=r"modell='m' is not an option of Client: did you mean model\?"):
        Client(modell="m")
    with pytest.raises(
        ConfigError, match="shape=<list> is not an option of Client: its options are provider, base_url"
    ):
        Client(shape=[])
    with pytest.raises(ConfigError, match=r"api_kye=\*\*\* .* did you mean api_key\?") as caught:
        Client(api_kye=KEY)
    assert KEY not in locals_of(caught.value)


# ── values and typos of fields ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("max_token", "max_tokens"),
        ("max_tokenss", "max_tokens"),
        ("max_tokans", "max_tokens"),
        ("max_toknes", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("top-p", "top_p"),
        ("Top_P", "top_p"),
        ("temprature", "temperature"),
        ("reponse_format", "response_format"),
        ("tool_choise", "tool_choice"),
        ("repetiton_penalty", "repetition_penalty"),
    ],
)
def test_a_field_one_typo_away_from_a_known_one_is_sent_with_a_warning_at_the_line_of_the_caller(
    serve, connect, name, known
):
    server = serve(OK)
    with pytest.warns(
        UserWarning, match=rf"^the unknown field {name} is sent unchanged: did you mean {known}\?$"
    ) as warned:
        connect(server).stream("Hi", **{name: 5}).collect()
    with pytest.warns(UserWarning, match=f"did you mean {known}") as warned_by_one_liner:
        chatstream.stream("Hi", provider=server.url, model="m1", **{name: 5}).collect()
    assert {each.filename for each in (*warned, *warned_by_one_liner)} == {__file__}
    assert [request.json[name] for request in server.requests] == [5, 5]
    shared_client(server.url).close()


def test_known_and_unknown_fields_are_sent_without_a_warning(serve, connect):
    server = serve(OK)
    fields = dict.fromkeys(sorted(KNOWN - {"model", "stream", "tools", "n"})) | {
        "my_own_field": [1],
        "k": 1,
        "tfs": 0.5,
    }
    connect(server).stream("Hi", **fields, n=None, stream=True, tools=None).collect()
    assert fields.items() <= sent(server).items()


def test_names_that_differ_in_two_letters_are_no_typo():
    assert typo_of("max_tokens", KNOWN) is None
    assert typo_of("my_field", KNOWN) is None
    assert typo_of("mex_tokans", KNOWN) is None
    assert typo_of("", KNOWN) is None
    assert typo_of("o", KNOWN) is None
    assert typo_of("nn", KNOWN) is None
    assert typo_of("context", PLACES.names) is None


@pytest.mark.parametrize("value", [0, 0.5, "0.5", "hot", None], ids=repr)
def test_the_value_of_a_field_is_sent_unchanged(serve, connect, value):
    server = serve(OK)
    connect(server).stream("Hi", temperature=value).collect()
    assert sent(server)["temperature"] == value


@pytest.mark.parametrize("value", [0, -1, "2", True, 1.5, [2]], ids=repr)
def test_n_must_be_a_positive_integer_wherever_it_is_given(connect, value):
    client = connect("http://127.0.0.1/v1")
    for call in (
        lambda: client.stream("Hi", n=value),
        lambda: client.stream("Hi", extra_body={"n": value}),
        lambda: Client(defaults={"n": value}),
    ):
        with pytest.raises(ConfigError, match="n must be an integer of at least 1, not"):
            call()


# ── options of a call ───────────────────────────────────────────────────────────────────────────────────────────


def test_extra_body_replaces_fields_and_what_the_library_adds_but_is_not_merged_deeper(serve, connect):
    server = serve(OK)
    body = {
        "temperature": 1,
        "timeout": 5,
        "metadata": {"b": 2},
        "model": "other",
        "stream_options": None,
        "max_token": 1,
    }
    client = connect(server, defaults={"metadata": {"a": 1}})
    assert client.stream("Hi", temperature=0, seed=1, extra_body=body).collect().text == "fine"
    assert sent(server) == {"messages": HI, "stream": True, "seed": 1, **body}
    assert body["metadata"] == {"b": 2}


def test_extra_body_may_ask_for_several_choices_and_replace_messages_and_tools(serve, connect):
    server = serve([head(), delta("a"), delta("b", choice=1), finish(), finish(choice=1), done(), end()])
    body = {"n": 2, "messages": [{"role": "user", "content": "other"}], "tools": [{"type": "web_search"}]}
    turn = connect(server).stream("Hi", extra_body=body).collect()
    assert [choice.text for choice in turn.choices] == ["a", "b"]
    assert body.items() <= sent(server).items()


def test_stream_options_in_extra_body_are_the_callers_and_no_request_is_repeated_for_them(serve, connect):
    server = serve(status(400, "stream_options?"), OK)
    with pytest.raises(UnexpectedStatus):
        connect(server).stream("Hi", extra_body={"stream_options": {"include_usage": True}})
    assert len(server.requests) == 1


def test_the_answer_is_streamed_whatever_extra_body_says(connect):
    with pytest.raises(ConfigError, match="answers are always streamed"):
        connect("http://127.0.0.1/v1").stream("Hi", extra_body={"stream": False})


@pytest.mark.parametrize("given", ["x", [("a", 1)], {1: 2}, dict], ids=repr)
def test_extra_body_that_is_no_dict_is_refused(connect, given):
    for stream in (connect("http://127.0.0.1/v1").stream, chatstream.stream):
        with pytest.raises(ConfigError, match=r"^extra_body (must be a dict of request fields, not|has the key 1)"):
            stream("Hi", extra_body=given)


def test_extra_headers_replace_those_of_the_provider_whatever_their_case_and_hold_for_one_call(
    serve, connect, monkeypatch
):
    monkeypatch.setenv("TRACE", "of the environment")
    server = serve(OK)
    client = connect(server, http_headers={"X-Team": "search", "X-Other": "o"}, env_http_headers={"X-Trace": "TRACE"})
    client.stream("Hi", extra_headers={"x-team": "sales", "x-trace": "t1", "authorization": "Basic abc"}).collect()
    client.stream("Hi").collect()
    names = ("X-Team", "X-Other", "X-Trace", "Authorization")
    first, second = [[request.headers.get_all(name) for name in names] for request in server.requests]
    assert first == [["sales"], ["o"], ["t1"], ["Basic abc"]]
    assert second == [["search"], ["o"], ["of the environment"], [f"Bearer {KEY}"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("Authorization", "Bearer hunter2")], "extra_headers must be a dict"),
        ("Authorization: Bearer hunter2", "extra_headers must be a dict"),
        (
            {"X-Token": None},
            r"extra_headers must be a dict .* of printable str.*; that of 'X-Token' is of the type NoneType$",
        ),
        (
            {"X-Token": b"hunter2"},
            r"extra_headers must be a dict .* of printable str.*; that of 'X-Token' is of the type bytes$",
        ),
        ({"X-Token": "hunter2\r\nX: y"}, r"extra_headers must be a dict .*; that of 'X-Token' is not printable$"),
        ({7: "hunter2"}, "extra_headers must be a dict .* of printable str"),
        ({"X Token": "hunter2-hunter2"}, "extra_headers must be valid header names"),
        ({"X-Token": "hunter2-hunter2 "}, "header 'X-Token' in extra_headers must be printable Latin-1"),
        ({"X-Token": "hunter2-hünter2→"}, "header 'X-Token' in extra_headers must be printable Latin-1"),
    ],
    ids=str,
)
def test_extra_headers_that_cannot_be_sent_are_refused_and_not_shown(connect, given, message):
    client = connect("http://127.0.0.1/v1")
    for stream in (client.stream, lambda *args, **options: chatstream.stream(*args, model="m1", **options)):
        with pytest.raises(ConfigError, match=message) as caught:
            stream("Hi", extra_headers=given)
        assert "hunter2" not in str(caught.value)


def test_a_secret_in_extra_headers_is_in_no_error_of_its_call(serve, connect):
    secret = "tok_8f3Kd92mQx71Lp"
    client = connect(serve(status(401, f"bad {secret}")), api_key=None)
    headers = {"X-Token": secret}
    with pytest.raises(UnexpectedStatus, match=r"bad \*\*\*") as caught:
        client.stream("Hi", extra_headers=headers)
    assert secret not in str(caught.value) + repr(vars(caught.value)) + locals_of(caught.value)


def test_a_secret_in_extra_headers_is_in_no_frame_of_an_exception_that_passes(connect, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket, "getaddrinfo", interrupt)
    headers = {"X-Token": "tok_8f3Kd92mQx71Lp"}
    for stream in (connect("https://host.invalid/v1").stream, chatstream.stream):
        with pytest.raises(KeyboardInterrupt) as caught:
            stream(
                "Hi",
                extra_headers=headers,
                **({"provider": "vllm", "model": "m1"} if stream is chatstream.stream else {}),
            )
        assert "_attempt: " in locals_of(caught.value)
        assert "tok_8f3" not in locals_of(caught.value)


@pytest.mark.parametrize("name", ["stream_idle_timeout", "first_event_timeout"])
@pytest.mark.parametrize("value", [0, -1, "5", True, float("inf")], ids=repr)
def test_a_timeout_of_a_call_must_be_a_number_of_seconds(serve, connect, name, value):
    server = serve(OK)
    with pytest.raises(ConfigError, match=f"{name} must be a number of seconds above 0"):
        connect(server).stream("Hi", **{name: value})
    assert server.connections == 0


def test_the_idle_timeout_of_a_call_replaces_that_of_the_provider_for_this_call_alone(serve, connect):
    server = serve([head(), delta("a"), pause(0.5), delta("b"), finish(), done(), end()])
    client = connect(server, stream_idle_timeout=0.2)
    assert client.stream("Hi", stream_idle_timeout=30).collect().text == "ab"
    with pytest.raises(IdleTimeout) as caught:
        list(client.stream("Hi"))
    assert caught.value.partial.text == "a"
    long = connect(serve([head(), delta("a"), stall()]))
    with within(0.6), pytest.raises(IdleTimeout):
        list(long.stream("Hi", stream_idle_timeout=0.2))


def test_the_first_event_timeout_of_a_call_holds_for_headers_and_the_first_event(serve, connect):
    for script in ([stall()], [head(), stall()]):
        client = connect(serve(script), request_max_retries=0, stream_max_retries=0)
        with within(0.6), pytest.raises(IdleTimeout):
            list(client.stream("Hi", first_event_timeout=0.2))
    slow = connect(serve([pause(0.4), *OK]), first_event_timeout=0.1, request_max_retries=0)
    assert slow.stream("Hi", first_event_timeout=30).collect().text == "fine"


def test_timeouts_of_the_one_liner_are_those_of_its_call(serve):
    server = serve([head(), delta("a"), stall()])
    with within(0.6), pytest.raises(IdleTimeout):
        list(chatstream.stream("Hi", provider=server.url, model="m1", stream_idle_timeout=0.2))
    with within(0.6), pytest.raises(DeadlineExceeded):
        list(chatstream.stream("Hi", provider=server.url, model="m1", deadline=0.2))
    shared_client(server.url).close()


def test_the_options_of_a_call_hold_for_its_restarts(serve, connect):
    server = serve([head(), end()], OK)
    stream = connect(server).stream("Hi", extra_headers={"X-Run": "7"}, extra_body={"seed": 7})
    assert stream.collect().text == "fine"
    assert [(request.headers["X-Run"], request.json["seed"]) for request in server.requests] == [("7", 7)] * 2


# ── prompts ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Dumps:
    """An object like the messages of openai-python."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def model_dump(self) -> dict[str, Any]:
        return {
            key: [each.model_dump() if isinstance(each, Dumps) else each for each in value]
            if isinstance(value, list)
            else value
            for key, value in self.values.items()
        }


class UserMessage(TypedDict):
    role: str
    content: str


CALL = Dumps(id="c1", type="function", function={"name": "f", "arguments": "{}"}, custom=None)
CALLING = Dumps(role="assistant", content=None, refusal=None, annotations=None, audio=None, tool_calls=[CALL])
ENTRY = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OUTPUT = {"role": "tool", "tool_call_id": "c1", "content": "4"}
TURN = Turn((Reasoning("so"), Message("assistant", "Hello.")))


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("Hi", HI),
        (HI, HI),
        (tuple(HI), HI),
        (HI[0], HI),
        (Message("user", "Hi"), HI),
        (UserMessage(role="user", content="Hi"), HI),
        ([UserMessage(role="user", content="Hi")], HI),
        (Dumps(role="user", content="Hi", name=None), HI),
        ([Dumps(role="user", content="Hi", name=None)], HI),
        (Prompt(input="Hi"), HI),
        (Message("user", "Hi").to_dict(), HI),
        ([*HI, CALLING, OUTPUT], [*HI, {"role": "assistant", "tool_calls": [ENTRY]}, OUTPUT]),
        (
            [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, OUTPUT],
            [*HI, {"role": "assistant", "content": None, "tool_calls": [ENTRY]}, OUTPUT],
        ),
        (
            [*HI, Dumps(type="function_call", name="f", arguments="{}", call_id="c1"), FunctionCallOutput("c1", "4")],
            [*HI, {"role": "assistant", "content": None, "tool_calls": [ENTRY]}, OUTPUT],
        ),
        (
            [{"role": "user", "content": [Dumps(type="text", text="Hi", cache_control=None), InputText("you")]}],
            [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}]}],
        ),
        ([*HI, TURN, *HI], [*HI, {"role": "assistant", "content": "Hello."}, *HI]),
        (TURN, [{"role": "assistant", "content": "Hello."}]),
        (Prompt(input=[*HI, TURN]), [*HI, {"role": "assistant", "content": "Hello."}]),
    ],
    ids=id_of,
)
def test_a_prompt_is_read_as_it_is_meant_and_may_be_given_as_messages(serve, connect, prompt, messages):
    server = serve(OK)
    client = connect(server)
    client.stream(prompt).collect()
    client.stream(messages=prompt).collect()
    chatstream.stream(messages=prompt, provider=server.url, model="m1").collect()
    assert [request.json["messages"] for request in server.requests] == [messages] * 3
    shared_client(server.url).close()


def test_the_messages_of_pydantic_models_are_sent_without_their_empty_fields(serve, connect):
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        role: str
        content: str | None = None
        refusal: str | None = None

    server = serve(OK)
    connect(server).stream([Model(role="user", content="Hi")]).collect()
    assert sent(server)["messages"] == HI


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            Dumps(choices=[Dumps(message=1)]),
            r"whose model_dump\(\) is not a message: .* response.choices\[0\].message;",
        ),
        (
            [Dumps(type="human", content="Hi")],
            r"input\[0\] is Dumps .* is not a message: .* for LangChain, convert_to_openai_messages\(",
        ),
        (Dumps, "a prompt must be a str, a list of messages or a Prompt, not type"),
        ([Dumps], r"input\[0\] is type"),
        ([Prompt("Be brief.")], r"input\[0\] is Prompt"),
    ],
    ids=id_of,
)
def test_a_model_that_is_no_message_is_refused(connect, prompt, message):
    with pytest.raises(ConfigError, match=message):
        connect("http://127.0.0.1/v1").stream(prompt)


def test_a_prompt_that_is_given_twice_or_not_at_all_is_refused(connect):
    client = connect("http://127.0.0.1/v1")
    for stream in (client.stream, lambda *args, **options: chatstream.stream(*args, model="m1", **options)):
        with pytest.raises(ConfigError, match="the prompt was passed twice"):
            stream("Hi", messages=HI)
        for given in ((), (None,)):
            with pytest.raises(ConfigError, match=r'the prompt is missing or None: stream\("Why\?", …\)'):
                stream(*given)


@pytest.mark.parametrize("form", ["dict", "str"])
@pytest.mark.parametrize(
    "url", ["cat.png", "./cat.png", "/tmp/cat.png", r"C:\cat.png", "", "iVBORw0KGgo=", "www.a.b/c.png"]
)
def test_an_image_path_in_the_place_of_a_url_is_refused(connect, url, form):
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"} if form == "dict" else url}
    with pytest.raises(ConfigError, match=r"^the image_url '.*' is neither a URL nor a data: URL: use https://…"):
        connect("http://127.0.0.1/v1").stream([{"role": "user", "content": [image]}])


def test_a_long_image_in_the_place_of_a_url_is_not_shown_whole(connect):
    image = {"type": "image_url", "image_url": {"url": "A" * 100_000}}
    with pytest.raises(ConfigError, match=r"the image_url 'A{60}…' is neither"):
        connect("http://127.0.0.1/v1").stream([{"role": "user", "content": [image]}])


@pytest.mark.parametrize(
    "url", ["https://a/b.png", "HTTP://a", "data:image/png;base64,AA==", "file:///a.png", "gs://a/b"]
)
def test_every_kind_of_url_of_an_image_is_sent(serve, connect, url):
    server = serve(OK)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url}]
    connect(server).stream([{"role": "user", "content": content}]).collect()
    assert sent(server)["messages"][0]["content"] == content


# ── servers by their URL ────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_of_a_url_has_a_provider_of_that_url_without_a_key(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(OK)
    for client in (
        Client(server.url, model="m1"),
        Client(base_url=server.url, model="m1"),
        Client(provider=server.url, model="m1"),
    ):
        with client:
            assert client.provider == Provider(f"127.0.0.1:{server.port}", server.url)
            assert client.stream("Hi").collect().text == "fine"
    assert [request.headers["Authorization"] for request in server.requests] == [None] * 3
    assert [request.json["model"] for request in server.requests] == ["m1"] * 3


def test_a_client_of_a_url_and_a_key_sends_that_key(serve):
    server = serve(OK)
    for client in (Client(base_url=server.url, api_key=KEY), Client(server.url, api_key=KEY)):
        client.stream("Hi", model="m1").collect()
        assert KEY not in repr(client) + repr(vars(client))
        client.close()
    assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2


def test_a_key_may_be_given_for_a_ready_made_provider_and_for_one_of_ones_own():
    assert Client(api_key=KEY).provider.auth_header() == ("Authorization", f"Bearer {KEY}")
    assert Client("groq", api_key=KEY).provider.base_url == Provider.named("groq").base_url
    own = Provider("own", "http://127.0.0.1/v1", env_key="OWN_KEY", key_header="X-Key")
    assert Client(own, api_key=KEY).provider.auth_header() == ("X-Key", KEY)
    assert own.api_key is None


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/"])
def test_the_url_of_a_server_may_end_in_the_path_of_chat_completions(serve, path):
    server = serve(OK)
    with Client(f"http://127.0.0.1:{server.port}{path}", model="m1") as client:
        client.stream("Hi").collect()
    assert server.requests[0].path == "/v1/chat/completions"


def test_the_name_of_a_provider_of_a_url_is_its_host_unless_that_looks_like_a_key():
    assert Client("https://llm.example.com/v1").provider.name == "llm.example.com"
    assert Client("http://[::1]:8000/v1").provider.name == "[::1]:8000"
    assert Client("https://a1b2c3d4e5f6a7b8c9d0.example/v1").provider.name == "server"


def test_a_secret_in_the_query_of_a_url_is_hidden(serve):
    client = Client("https://llm.example.com/v1?key=tok_8f3Kd92mQx71Lp")
    assert "tok_" not in repr(client) + repr(vars(client)) + repr(pickle.dumps(client))
    assert client.provider.url("m").endswith("?key=tok_8f3Kd92mQx71Lp")
    assert pickle.loads(pickle.dumps(Client(base_url="http://host/v1"))).provider.base_url == "http://host/v1"


def test_the_one_liner_takes_a_url_and_keeps_its_connection(serve):
    server = serve(OK)
    for _ in range(2):
        assert chatstream.stream("Hi", provider=server.url, model="m1").collect().text == "fine"
    assert server.connections == 1
    shared_client(server.url).close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client("groq", base_url="http://127.0.0.1"), "provider and base_url were both given"),
        (lambda: Client("http://a", base_url="http://127.0.0.1"), "provider and base_url were both given"),
        (lambda: Client(Provider("a", "http://a"), base_url="http://b"), "provider and base_url were both given"),
        (lambda: Client(base_url="127.0.0.1:8000/v1"), "base_url must be a URL like https://api.example.com/v1"),
        (lambda: Client(base_url=""), "base_url must be a str that is not blank"),
        (lambda: Client(base_url=7), "base_url must be a str, not int"),
        (lambda: Client("ftp://127.0.0.1"), "base_url must be a URL like https://"),
        (lambda: Client("http://me:hunter2@127.0.0.1"), "base_url must have no user:password@"),
        (lambda: Client("127.0.0.1:8000/v1"), r"For another server, pass its URL \(http://… or https://…\)"),
        (lambda: Client("gpt-4.1-mini"), 'a model as model="…"'),
        (lambda: Client(KEY), "the name of the provider looks like a key: pass a key as api_key"),
        (lambda: Client(b"openai"), "provider must be an id, the URL of a server or a Provider, not bytes"),
        (lambda: Client("local", api_key=KEY), "the local server has its own key: leave api_key out"),
        (lambda: Client(api_key=f"{KEY}\n"), "api_key must be a str of visible Latin-1 characters"),
        (lambda: Client(api_key=""), "^api_key is blank$"),
        (lambda: Client(api_key=" \n"), "^api_key is blank$"),
        (lambda: Client(api_key=7), "api_key must be a str of visible Latin-1 characters"),
    ],
)
def test_a_server_that_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert KEY not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_variable_that_an_azure_client_lacks_is_named_without_further_hints(monkeypatch):
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(
        chatstream.MissingEnvVar, match=r"^Missing environment variable: `AZURE_OPENAI_ENDPOINT`\. Set it to"
    ):
        Client("azure")


# ── keys from a function ────────────────────────────────────────────────────────────────────────────────────────


def test_a_function_given_as_api_key_is_called_once_at_each_request(serve):
    keys = iter(["first-key", "second-key", "third-key"])
    server = serve(status(503), OK)
    with Client(base_url=server.url, api_key=lambda: next(keys), model="m1") as client:
        for _ in range(2):
            client.stream("Hi").collect()
    sent_keys = [request.headers["Authorization"] for request in server.requests]
    assert sent_keys == ["Bearer first-key", "Bearer second-key", "Bearer third-key"]


def test_a_function_given_as_api_key_is_called_once_although_the_host_gets_it_unencrypted(monkeypatch):
    calls: list[int] = []
    provider = Provider(
        "test", "http://plain.invalid/v1", api_key=lambda: calls.append(1) or KEY, request_max_retries=0
    )
    with (
        pytest.warns(UserWarning, match="the key is sent to plain.invalid"),
        pytest.raises(chatstream.ConnectionFailed),
    ):
        Client(provider, model="m1").stream("Hi")
    assert len(calls) == 1


def test_the_key_of_a_function_goes_into_the_key_header_and_is_redacted_from_errors(serve):
    server = serve(status(401, f"no {KEY[::-1]}"))
    provider = Provider("test", server.url, api_key=lambda: KEY[::-1], key_header="api-key")
    with Client(provider, model="m1") as client, pytest.raises(UnexpectedStatus, match=r"no \*\*\*"):
        client.stream("Hi")
    assert server.requests[0].headers["api-key"] == KEY[::-1]


class Vault:
    def __init__(self, key: str) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vault)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"Vault({self.key})"


def test_a_provider_with_a_key_function_can_be_shown_shared_copied_and_pickled_without_it(serve):
    server = serve(OK)
    provider = Provider("test", server.url, api_key=Vault(KEY))
    assert KEY not in repr(provider) + repr(provider.api_key)
    assert chatstream.stream("Hi", provider=provider, model="m1").collect().text == "fine"
    shared_client(provider).close()
    assert copy.deepcopy(provider).key() == KEY
    assert pickle.loads(pickle.dumps(provider)).key() is None
    assert {provider: 1}[Provider("test", server.url, api_key=Vault(KEY))] == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("vault"),
        OSError("vault"),
        requests.ConnectionError("vault"),
        chatstream.ConnectionFailed("v"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_a_key_function_raises_passes_unchanged_and_nothing_is_sent_or_retried(serve, error):
    def key() -> str:
        calls.append(1)
        raise error

    calls: list[int] = []
    server = serve(OK)
    with Client(base_url=server.url, api_key=key, model="m1") as client, pytest.raises(type(error)) as caught:
        client.stream("Hi")
    assert caught.value is error
    assert (len(calls), server.connections) == (1, 0)


async def async_key() -> str:
    return KEY


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: None, r"the result of api_key\(\) must be a str, not NoneType"),
        (KEY.encode, r"the result of api_key\(\) must be a str, not bytes"),
        (lambda: f"{KEY}\n", r"the result of api_key\(\) must be a str of visible Latin-1 characters"),
        (lambda: "", r"the result of api_key\(\) is blank"),
        (async_key, "api_key must not be an async function: pass one that returns the key itself"),
    ],
)
def test_a_key_function_that_returns_no_key_is_refused_and_nothing_is_sent(serve, function, message):
    server = serve(OK)
    client = Client(base_url=server.url, api_key=function, model="m1")
    with pytest.raises(ConfigError, match=message) as caught:
        client.stream("Hi")
    assert KEY not in str(caught.value) + locals_of(caught.value)
    assert server.connections == 0


def test_a_key_function_may_end_in_a_future_of_a_loop_and_is_refused():
    loop = asyncio.new_event_loop()
    with pytest.raises(ConfigError, match="api_key must not be an async function"):
        Provider("test", "http://127.0.0.1", api_key=loop.create_future).key()
    loop.close()


# ── fields of all calls ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_defaults_of_a_client_are_fields_of_every_call_that_a_call_may_replace(serve, connect):
    server = serve(OK)
    client = connect(server, defaults={"temperature": 0, "seed": 1})
    client.stream("Hi").collect()
    client.stream("Hi", temperature=1, top_p=0.5).collect()
    client.stream("Hi", extra_body={"seed": 2}).collect()
    found = [[request.json.get(name) for name in ("temperature", "seed", "top_p")] for request in server.requests]
    assert found == [[0, 1, None], [1, 1, 0.5], [0, 2, None]]


def test_defaults_may_ask_for_several_choices_and_have_tools(serve, connect):
    server = serve([head(), delta("a"), delta("b", choice=1), finish(), finish(choice=1), done(), end()])
    tools = [chatstream.Tool("f")]
    turn = connect(server, defaults={"n": 2, "tools": tools}).stream("Hi").collect()
    assert [choice.text for choice in turn.choices] == ["a", "b"]
    assert sent(server)["tools"][0]["function"]["name"] == "f"


def test_what_the_caller_does_with_its_defaults_later_changes_no_client(connect):
    given: dict[str, Any] = {"stop": ["a"], "metadata": {"b": ["c"]}, "seed": 1}
    client = connect("http://127.0.0.1/v1", defaults=given)
    given["stop"].append("x")
    given["metadata"]["b"].append("x")
    given["seed"] = 2
    assert client.defaults == {"stop": ["a"], "metadata": {"b": ["c"]}, "seed": 1}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))])
def test_a_copied_and_a_pickled_client_have_the_same_defaults(serve, connect, copied):
    server = serve(OK)
    defaults = {"temperature": 0, "prompt_cache_key": "tenant-8f3Kd92mQx71Lp", "user": None}
    with copied(connect(server, defaults=defaults)) as client:
        assert client.defaults == defaults
        client.stream("Hi").collect()
    assert defaults.items() <= sent(server).items()


def test_a_secret_in_defaults_is_in_no_pickle_and_no_repr(connect):
    client = connect("http://127.0.0.1/v1", defaults={"my_session": "tok_8f3Kd92mQx71Lp", "user": KEY, "seed": 1})
    assert "tok_" not in repr(vars(client)) + repr(pickle.dumps(client))
    assert KEY not in repr(vars(client)) + repr(pickle.dumps(client))
    assert pickle.loads(pickle.dumps(client)).defaults == {"seed": 1}


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ([1], "defaults must be a dict of request fields, not list"),
        ("temperature", "defaults must be a dict of request fields, not str"),
        ({1: 2}, "defaults has the key 1, but keys must be strings"),
        ({"timeout": 3}, "timeout=3 is not a request field: deadline=… limits"),
        ({"model": "m"}, r"defaults can't have model: pass it to the client, Client\(model=…\)"),
        ({"deadline": 3}, r"defaults can't have deadline: pass it to the client"),
        ({"extra_headers": {}}, "defaults can't have extra_headers: the headers of all calls are Provider"),
        ({"extra_body": {}}, "defaults can't have extra_body: put its fields into defaults"),
        ({"stream_idle_timeout": 3}, "defaults can't have stream_idle_timeout: it is a setting of the provider"),
        ({"messages": []}, "defaults can't have messages: pass it to each call"),
        ({"prompt": "Hi"}, "defaults can't have prompt: pass it to each call"),
        ({"heartbeat": 1}, "defaults can't have heartbeat: pass it to each call"),
        ({"n": 0}, "n must be an integer of at least 1"),
        ({"stream": False}, "answers are always streamed"),
    ],
    ids=str,
)
def test_defaults_are_checked_as_the_fields_of_a_call_are_when_the_client_is_made(defaults, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        Client(defaults=defaults)


def test_a_typo_in_defaults_warns_once_when_the_client_is_made(serve):
    server = serve(OK)
    with pytest.warns(UserWarning, match=r"max_token is sent unchanged: did you mean max_tokens\?") as warned:
        client = Client(server.url, model="m1", defaults={"max_token": 5})
    assert [each.filename for each in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.stream("Hi").collect()
    client.close()
    assert sent(server)["max_token"] == 5


# ── signatures ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_one_liner_takes_all_options_of_client_stream_with_the_same_types():
    method, function = inspect.signature(Client.stream), inspect.signature(chatstream.stream)
    wanted = {name: each for name, each in method.parameters.items() if name != "self"}
    assert {name: each for name, each in function.parameters.items() if name != "provider"} == wanted
    assert function.return_annotation == method.return_annotation == "ResponseStream"
    assert all(each.annotation is not inspect.Parameter.empty for each in function.parameters.values())


def test_items_of_a_call_that_was_answered_may_follow_in_the_same_list(serve, connect):
    server = serve(OK)
    call = FunctionCall("f", "{}", "c1")
    connect(server).stream([*HI, Turn((call,)), call.output("4")]).collect()
    assert [message["role"] for message in sent(server)["messages"]] == ["user", "assistant", "tool"]
