"""Settings of a server: what is accepted, the URL, headers and key that result, built-in providers and TOML."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from chatstream.errors import ConfigError, MissingEnvVar
from chatstream.providers import checks
from chatstream.providers.presets import PRESETS, _toml_reader
from chatstream.providers.provider import Provider
from chatstream.providers.resolve import resolve

KEY = "sk-Zq7-the-key"
URL = "https://api.example.com/v1"


def acme(**fields: Any) -> Provider:
    return Provider(**{"name": "acme", "base_url": URL} | fields)


def message_of(**fields: Any) -> str:
    """The message of the ConfigError that a provider with these fields raises."""
    with pytest.raises(ConfigError) as caught:
        acme(**fields)
    assert not isinstance(caught.value, MissingEnvVar)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# ── fields and defaults ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_and_a_url_are_enough_for_a_provider():
    provider = acme()
    assert (provider.request_max_retries, provider.stream_max_retries) == (4, 5)
    assert (provider.stream_idle_timeout, provider.first_event_timeout, provider.connect_timeout) == (300.0, None, 10.0)
    assert (provider.max_retry_after, provider.finish_grace) == (60.0, 2.0)
    assert (provider.rate_limit_timeout, provider.retry_budget) == (600.0, 20)
    assert (provider.key(), provider.auth_header(), provider.headers()) == (None, None, {})


def test_a_provider_is_a_value():
    assert acme(query_params={"a": "b"}) == acme(query_params={"a": "b"}) != acme()
    assert hash(acme(query_params={"a": "b"}, api_key=KEY)) == hash(acme(query_params={"a": "b"}, api_key=KEY))
    assert acme(api_key=KEY) != acme(api_key=KEY + "2") != acme()
    with pytest.raises(dataclasses.FrozenInstanceError):
        acme().name = "other"  # type: ignore[misc]


def test_a_provider_keeps_copies_of_the_mappings_it_is_given():
    headers = {"X-Team": "blue"}
    provider = acme(http_headers=headers, query_params=MappingProxyType({"v": "1"}), think_tags=["a"])
    headers["X-Team"] = "red"
    assert provider.headers() == {"X-Team": "blue"}
    assert provider.think_tags == ("a",)
    assert pickle.loads(pickle.dumps(provider)) == provider


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", None),
        ("base_url", b"https://api.example.com"),
        ("model", " "),
        ("model", 4),
        ("env_key_instructions", 1),
        ("stream_usage", "yes"),
        ("other_tools", None),
        ("request_max_retries", -1),
        ("request_max_retries", 2.0),
        ("stream_max_retries", True),
        ("stream_idle_timeout", 0),
        ("stream_idle_timeout", True),
        ("stream_idle_timeout", float("nan")),
        ("connect_timeout", float("inf")),
        ("connect_timeout", None),
        ("connect_timeout", "10"),
        ("max_retry_after", -1.0),
        ("rate_limit_timeout", 0),
        ("retry_budget", -1),
        ("retry_budget", 1.5),
        ("finish_grace", 1e10),
        ("first_event_timeout", 0),
        ("query_params", [("a", "b")]),
        ("query_params", {"a": 1}),
        ("query_params", {"": "a"}),
        ("http_headers", {1: "a"}),
        ("http_headers", None),
        ("env_http_headers", {"X": None}),
        ("think_tags", "think"),
        ("think_tags", ("think", "")),
        ("echo_reasoning", "thoughts"),
        ("echo_reasoning", ""),
        ("echo_reasoning", ["reasoning"]),
        ("echo_reasoning_scope", "turns"),
        ("echo_reasoning_scope", None),
        ("echo_reasoning_always", "yes"),
        ("check_history", None),
        ("env_key", "sk-pasted-by-mistake"),
        ("key_header", "api key"),
        ("path", "/chat?x=1"),
        ("path", "/chat completions"),
        ("path", "/chat\n"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_the_name_of_its_field(field: str, value: object):
    message = message_of(**{field: value})
    assert field in message
    assert "sk-pasted" not in message


def test_every_field_is_checked_by_its_kind_or_by_its_name():
    kinds = (
        checks.TEXTS,
        checks.OPTIONAL_TEXTS,
        checks.SWITCHES,
        checks.COUNTS,
        checks.OPTIONAL_COUNTS,
        checks.SECONDS,
        checks.OPTIONAL_SECONDS,
        checks.TABLES,
        ("think_tags", "echo_reasoning", "echo_reasoning_scope", "api_key"),
    )
    assert sorted(name for names in kinds for name in names) == sorted(
        each.name for each in dataclasses.fields(Provider)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"request_max_retries": 0, "stream_max_retries": 0},
        {"stream_idle_timeout": 1, "first_event_timeout": 0.5, "connect_timeout": 2_147_483},
        {"echo_reasoning": "reasoning"},
        {"echo_reasoning": "reasoning_content", "echo_reasoning_always": True, "echo_reasoning_scope": "turn"},
        {"echo_reasoning": "reasoning_details", "check_history": False},
        {"http_headers": {"X-Empty": "", "X-Two": "a  b é"}},
    ],
)
def test_a_value_that_can_work_is_kept_unchanged(fields: dict[str, Any]):
    assert all(getattr(acme(**fields), name) == value for name, value in fields.items())


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\n", "Ü"])
def test_a_header_name_that_is_not_a_token_is_refused(name: str):
    message_of(http_headers={name: "a"})
    message_of(env_http_headers={name: "VARIABLE"})


@pytest.mark.parametrize("value", ["Zq7\r\nX: b", "Zq7\0", "Zq7\n", " Zq7", "Zq7 ", "Zq7’", "Zq7\tb", "Zq7日"])
def test_a_header_value_outside_printable_latin_1_is_refused_without_repeating_it(value: str):
    assert "Zq7" not in message_of(http_headers={"X": value})


def test_an_env_header_must_name_a_variable():
    assert "X-Team" in message_of(env_http_headers={"X-Team": "not a variable"})


# ── the key ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_read_from_the_environment_at_each_call(monkeypatch: pytest.MonkeyPatch):
    provider = acme(env_key="ACME_KEY")
    monkeypatch.setenv("ACME_KEY", f" {KEY}\n")
    assert provider.key() == KEY
    monkeypatch.setenv("ACME_KEY", "renewed")
    assert provider.key() == "renewed"
    assert provider.key({"ACME_KEY": "given"}) == "given"


def test_api_key_is_preferred_to_env_key():
    assert acme(env_key="ACME_KEY", api_key=KEY).key({"ACME_KEY": "other"}) == KEY


@pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}, {"ACME_KEY": " \n"}])
def test_the_error_for_a_missing_or_blank_variable_has_its_name_and_the_instructions(environ: dict[str, str]):
    with pytest.raises(MissingEnvVar) as caught:
        acme(env_key="ACME_KEY", env_key_instructions="Ask Bob.").key(environ)
    assert str(caught.value) == "Missing environment variable: `ACME_KEY`. Ask Bob."


BAD_KEYS = ["sk\nZq7", "sk\r\nX: Zq7", "sk\0Zq7", "sk-“Zq7”", "sk Zq7", "sk\tZq7", "sk\xa0Zq7", "sk\xadZq7"]


@pytest.mark.parametrize("key", [*BAD_KEYS, "Zq7\n", "", " ", b"Zq7", 7])
def test_an_api_key_that_a_header_cannot_carry_is_refused_without_repeating_it(key: Any):
    message = message_of(api_key=key)
    assert "api_key" in message
    assert "Zq7" not in message


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_from_the_environment_that_a_header_cannot_carry_is_refused_without_repeating_it(key: str):
    with pytest.raises(ConfigError, match="ACME_KEY") as caught:
        acme(env_key="ACME_KEY").key({"ACME_KEY": key})
    assert "Zq7" not in str(caught.value)


def test_the_key_is_a_bearer_token_in_authorization_and_stands_alone_in_other_headers():
    assert acme(api_key=KEY).auth_header() == ("Authorization", f"Bearer {KEY}")
    assert acme(api_key=KEY, key_header="authorization").auth_header() == ("Authorization", f"Bearer {KEY}")
    assert acme(api_key=KEY, key_header="api-key").auth_header() == ("api-key", KEY)


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_env_headers_are_left_out_if_their_variable_is_unset_or_blank():
    provider = acme(http_headers={"X-Team": "blue"}, env_http_headers={"X-Org": "ORG", "X-Project": "PROJECT"})
    assert provider.headers({"ORG": " \n"}) == {"X-Team": "blue"}
    assert provider.headers({"ORG": "o1 \n", "PROJECT": "p1"}) == {"X-Team": "blue", "X-Org": "o1", "X-Project": "p1"}


def test_no_header_name_appears_twice_whatever_its_case():
    provider = acme(http_headers={"x-org": "literal"}, env_http_headers={"X-Org": "ORG"})
    assert provider.headers({}) == {"x-org": "literal"}
    assert provider.headers({"ORG": "env"}) == {"X-Org": "env"}


def test_an_env_header_with_an_invalid_value_is_refused_without_repeating_it():
    with pytest.raises(ConfigError, match="ORG") as caught:
        acme(env_http_headers={"X-Org": "ORG"}).headers({"ORG": "Zq7\nX: y"})
    assert "Zq7" not in str(caught.value)


def test_a_literal_authorization_header_replaces_the_key():
    provider = acme(env_key="ACME_KEY", http_headers={"authorization": "Basic abc"})
    assert provider.auth_header({}) is None
    assert provider.headers({}) == {"authorization": "Basic abc"}


# ── the URL ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://h", "https://h/chat/completions"),
        ("https://h/", "https://h/chat/completions"),
        ("HTTP://h:8080/v1//", "http://h:8080/v1/chat/completions"),
        ("https://h/v1?a=1&b=%20", "https://h/v1/chat/completions?a=1&b=%20"),
        ("https://h/v1/?", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions/?a=1", "https://h/v1/chat/completions?a=1"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1/chat/completions"),
        ("https://bücher.example/v1", "https://bücher.example/v1/chat/completions"),
        (f"https://{'a' * 63}.example./v1", f"https://{'a' * 63}.example./v1/chat/completions"),
        ("https://h:/v1", "https://h:/v1/chat/completions"),
    ],
)
def test_base_url_and_path_are_joined_by_one_slash(base_url: str, url: str):
    assert acme(base_url=base_url).url("m") == url


def test_parameters_are_percent_encoded_and_appended_to_the_query_of_the_base_url():
    provider = acme(base_url="https://h/v1?a=1", query_params={"a b": "ü/&=+", "empty": ""})
    assert provider.url("m") == "https://h/v1/chat/completions?a=1&a%20b=%C3%BC%2F%26%3D%2B&empty="


def test_a_parameter_in_the_query_of_the_base_url_is_not_sent_twice():
    provider = acme(base_url="https://h/v1?api-version=1&x=", query_params={"api-version": "2", "x": "3", "y": "4"})
    assert provider.url("m") == "https://h/v1/chat/completions?api-version=1&x=&y=4"


def test_the_path_may_contain_the_model():
    assert acme(path="{model}/chat").url("org/m 1?ü") == f"{URL}/org%2Fm%201%3F%C3%BC/chat"
    assert acme(path="/").url("m") == URL


@pytest.mark.parametrize("model", ["", " ", ".", "..", "a\nb", "\ud800"])
def test_a_model_that_cannot_be_part_of_a_path_is_refused(model: str):
    with pytest.raises(ConfigError, match="model"):
        acme(path="/{model}/chat").url(model)


@pytest.mark.parametrize(
    "base_url",
    [
        "api.example.com/v1",
        "//api.example.com",
        "ftp://h",
        "https://",
        "https:///v1",
        "https://:443/v1",
        "https://h:0",
        "https://h:65536",
        "https://h:port",
        "https://[::1",
        "https://h h",
        "https://h/a b",
        " https://h",
        "https://h\n",
        "https://h\t.x",
        "https://h\0",
        "https://a\\b",
        "https://a<b",
        "https://h/#part",
        "https://a..b",
        f"https://{'a' * 64}.example",
        f"https://{'ü' * 60}.example",
    ],
)
def test_a_malformed_url_or_a_host_label_over_63_characters_is_refused(base_url: str):
    assert "base_url" in message_of(base_url=base_url)


@pytest.mark.parametrize("base_url", ["https://bob:hunter2@h/v1", "https://hunter2@h", "https://bob:hunter2@h:x"])
def test_a_password_in_the_url_is_refused_without_repeating_it(base_url: str):
    assert "hunter2" not in message_of(base_url=base_url)


def test_a_key_over_plain_http_warns_once_per_host():
    provider = acme(base_url="http://unencrypted.example:8000/v1", api_key=KEY)
    with pytest.warns(UserWarning, match=r"unencrypted\.example") as caught:
        provider.warn_if_plain()
    assert KEY not in str(caught[0].message)
    provider.warn_if_plain()
    with pytest.warns(UserWarning, match=r"other\.example"):
        acme(base_url="http://other.example", env_key="ACME_KEY").warn_if_plain({"ACME_KEY": KEY})
    with pytest.warns(UserWarning, match=r"literal\.example"):
        acme(base_url="http://literal.example", http_headers={"AUTHORIZATION": "Basic abc"}).warn_if_plain()


@pytest.mark.parametrize(
    "base_url",
    [
        "https://h",
        "http://localhost:1",
        "http://a.localhost",
        "http://127.9.9.9/v1",
        "http://[::1]:8080",
        "http://0.0.0.0:8000/v1",
        "http://[::]",
    ],
)
def test_over_https_or_on_loopback_no_warning_is_emitted(base_url: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        acme(base_url=base_url, api_key=KEY).warn_if_plain()
        acme(base_url="http://keyless.example").warn_if_plain()


# ── built-in providers ─────────────────────────────────────────────────────────────────────────────────────────

AZURE_ENVIRONMENT = {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com/"}
CHAT = "/chat/completions"
READY_MADE = {
    "openai": ("https://api.openai.com/v1" + CHAT, "OPENAI_API_KEY"),
    "azure": (
        "https://r.openai.azure.com/openai/deployments/m%201/chat/completions?api-version=2024-10-21",
        "AZURE_OPENAI_API_KEY",
    ),
    "openrouter": ("https://openrouter.ai/api/v1" + CHAT, "OPENROUTER_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1" + CHAT, "GROQ_API_KEY"),
    "deepseek": ("https://api.deepseek.com" + CHAT, "DEEPSEEK_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1" + CHAT, "MISTRAL_API_KEY"),
    "xai": ("https://api.x.ai/v1" + CHAT, "XAI_API_KEY"),
    "together": ("https://api.together.ai/v1" + CHAT, "TOGETHER_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1" + CHAT, "FIREWORKS_API_KEY"),
    "cerebras": ("https://api.cerebras.ai/v1" + CHAT, "CEREBRAS_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai" + CHAT, "GEMINI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1" + CHAT, "ANTHROPIC_API_KEY"),
    "perplexity": ("https://api.perplexity.ai" + CHAT, "PERPLEXITY_API_KEY"),
    "nvidia": ("https://integrate.api.nvidia.com/v1" + CHAT, "NVIDIA_API_KEY"),
    "huggingface": ("https://router.huggingface.co/v1" + CHAT, "HF_TOKEN"),
    "ollama": ("http://127.0.0.1:11434/v1" + CHAT, None),
    "lmstudio": ("http://127.0.0.1:1234/v1" + CHAT, None),
    "llamacpp": ("http://127.0.0.1:8080/v1" + CHAT, None),
    "vllm": ("http://127.0.0.1:8000/v1" + CHAT, None),
    "local": ("http://127.0.0.1" + CHAT, None),
}


def test_every_ready_made_provider_is_tested_here():
    assert list(PRESETS) == list(READY_MADE)


@pytest.mark.parametrize("id", READY_MADE)
def test_a_ready_made_provider_has_the_url_and_the_key_of_its_server(id: str):
    url, env_key = READY_MADE[id]
    provider = Provider.named(id, AZURE_ENVIRONMENT)
    assert (provider.name, provider.env_key, provider.url("m 1")) == (id, env_key, url)
    assert provider.headers({}) == {}
    header = ("api-key", KEY) if id == "azure" else ("Authorization", f"Bearer {KEY}")
    assert provider.auth_header({env_key: KEY} if env_key else {}) == (header if env_key else None)
    if env_key:
        with pytest.raises(MissingEnvVar, match=f"`{env_key}`. Create a key at https://"):
            provider.key({})


NO_DEVELOPER = {"developer_role": False}
REASONING = {**NO_DEVELOPER, "echo_reasoning": "reasoning", "echo_reasoning_scope": "turn"}
REASONING_CONTENT = {**NO_DEVELOPER, "echo_reasoning": "reasoning_content", "echo_reasoning_scope": "turn"}
SETTINGS: dict[str, dict[str, Any]] = {
    "openai": {},
    "azure": {"key_header": "api-key", "path": "/openai/deployments/{model}/chat/completions"},
    "openrouter": {**NO_DEVELOPER, "echo_reasoning": "reasoning_details"},
    "groq": REASONING,
    "deepseek": {**NO_DEVELOPER, "echo_reasoning": "reasoning_content", "echo_reasoning_always": True},
    "mistral": {**NO_DEVELOPER, "stream_usage": False},
    "xai": NO_DEVELOPER,
    "together": REASONING,
    "fireworks": REASONING_CONTENT,
    "cerebras": REASONING,
    "gemini": NO_DEVELOPER,
    "anthropic": NO_DEVELOPER,
    "perplexity": NO_DEVELOPER,
    "nvidia": REASONING_CONTENT,
    "huggingface": NO_DEVELOPER,
    "ollama": REASONING,
    "lmstudio": NO_DEVELOPER,
    "llamacpp": REASONING_CONTENT,
    "vllm": REASONING,
    "local": REASONING_CONTENT,
}
ADDRESS = ("name", "base_url", "env_key", "env_key_instructions", "query_params")  # checked by the test above


def test_each_setting_of_each_ready_made_provider_is_the_one_its_server_wants():
    defaults = acme()
    found = {}
    for id in PRESETS:
        provider = Provider.named(id, AZURE_ENVIRONMENT)
        values = {each.name: getattr(provider, each.name) for each in dataclasses.fields(Provider)}
        found[id] = {
            name: value for name, value in values.items() if name not in ADDRESS and value != getattr(defaults, name)
        }
    assert found == SETTINGS


@pytest.mark.parametrize(("id", "variable"), [("openai", "OPENAI_BASE_URL"), ("azure", "AZURE_OPENAI_ENDPOINT")])
@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "http://me:hunter2@host/v1", "http://host/v1#hunter2"])
def test_a_url_in_the_environment_that_cannot_work_is_refused_with_the_name_of_its_variable(
    monkeypatch, id, variable, url
):
    monkeypatch.setenv(variable, url)
    for make in (Provider.named, resolve):
        with pytest.raises(
            ConfigError, match=f"^the environment variable {variable} can't be used: base_url"
        ) as caught:
            make(id)
        assert "hunter2" not in str(caught.value)
        assert "For another server" not in str(caught.value)


def test_openai_base_url_replaces_the_url_of_openai(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", " http://127.0.0.1:9/v1/ ")
    assert Provider.named("openai").url("m") == "http://127.0.0.1:9/v1/chat/completions"
    assert Provider.named("openai", {"OPENAI_BASE_URL": " "}).base_url == "https://api.openai.com/v1"


def test_azure_reads_its_api_version_from_the_environment():
    provider = Provider.named("azure", AZURE_ENVIRONMENT | {"OPENAI_API_VERSION": "2025-01-01-preview"})
    assert provider.query_params == {"api-version": "2025-01-01-preview"}
    pasted = {"AZURE_OPENAI_ENDPOINT": READY_MADE["azure"][0].replace("2024-10-21", "2025-01-01-preview")}
    assert Provider.named("azure", pasted).url("other") == pasted["AZURE_OPENAI_ENDPOINT"]


def test_azure_without_its_endpoint_is_refused_with_the_variable_to_set():
    with pytest.raises(MissingEnvVar, match=r"`AZURE_OPENAI_ENDPOINT`. Set it to .*\.openai\.azure\.com"):
        Provider.named("azure", {})


@pytest.mark.parametrize(("id", "hint"), [("OpenAI", "Did you mean 'openai'?"), ("qqq", "key). Known: openai, azure")])
def test_the_error_for_an_unknown_id_lists_the_known_ids_and_suggests_the_nearest(id: str, hint: str):
    with pytest.raises(ConfigError, match="openai, azure, openrouter") as caught:
        Provider.named(id)
    assert hint in str(caught.value)


# ── TOML ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


TWO = """
model = "not ours"
[model_providers.acme]
base_url = "https://api.example.com/v1"
env_key = "ACME_KEY"
query_params = { v = "1" }
stream_idle_timeout = 30
think_tags = ["think", "thought"]
[model_providers.office]
name = "Our office"
base_url = "http://127.0.0.1:8080/v1"
"""


def test_all_providers_of_a_toml_file_are_read(toml: Any):
    own = Provider.from_toml(toml(TWO))
    tags = ("think", "thought")
    assert own == {
        "acme": acme(env_key="ACME_KEY", query_params={"v": "1"}, stream_idle_timeout=30, think_tags=tags),
        "office": Provider("Our office", "http://127.0.0.1:8080/v1"),
    }


def test_one_provider_of_a_toml_file_is_read_by_its_id(toml: Any):
    assert Provider.from_toml(str(toml(TWO)), "office").name == "Our office"
    with pytest.raises(
        ConfigError,
        match=r"unknown provider in .*own\.toml \(its name .*key\)\. Did you mean 'office'\? Known: acme, office",
    ):
        Provider.from_toml(toml(TWO), "ofice")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "is not TOML"),
        ("a = '\udcff'", "is not TOML"),
        ("a = 1", r"has no \[model_providers\.<id>\] table"),
        ("model_providers = 1", r"has no \[model_providers\.<id>\] table"),
        ("model_providers.acme = 1", r"\[model_providers\.acme\]: must be a table"),
        ("model_providers.acme.env_key = 'A'", "base_url is missing"),
        ("model_providers.acme.stream_idle_timeout_ms = 1", "'stream_idle_timeout_ms'. Did you mean 'stream_idle_time"),
        ("model_providers.acme.zzz = 1", r"unknown setting 'zzz'\.$"),
        ("model_providers.acme = { base_url = 'https://h', stream_usage = 1 }", "stream_usage must be true or false"),
        ("model_providers.acme = { base_url = 'https://h', api_key = 'Zq7 Zq7' }", "api_key must be"),
    ],
)
def test_the_error_for_a_mistake_in_a_toml_file_names_the_file_and_the_key(toml: Any, text: str, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        Provider.from_toml(toml(text))
    assert "own.toml" in str(caught.value)
    assert "Zq7" not in str(caught.value)


def test_a_missing_toml_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Provider.from_toml(tmp_path / "none.toml")


def test_without_tomllib_tomli_reads_the_file(toml: Any, monkeypatch: pytest.MonkeyPatch):
    reader = _toml_reader()
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", reader)
    assert list(Provider.from_toml(toml(TWO))) == ["acme", "office"]
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(ConfigError, match="pip install tomli"):
        Provider.from_toml(toml(TWO))


# ── the key is not disclosed ────────────────────────────────────────────────────────────────────────────────────


def test_no_text_of_a_provider_contains_the_key():
    provider = acme(api_key=KEY)
    for text in (repr(provider), str(provider), f"{provider.api_key}", repr(dataclasses.asdict(provider))):
        assert KEY not in text
    assert "api_key=***" in repr(provider)
    with pytest.raises(TypeError):
        vars(provider)
    with pytest.raises(TypeError):
        vars(provider.api_key)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_of_a_provider_contains_the_key(protocol: int):
    provider = acme(api_key=KEY, env_key="ACME_KEY", http_headers={"X-Team": "blue"})
    pickled = pickle.dumps(provider, protocol)
    assert KEY.encode() not in pickled
    back = pickle.loads(pickled)
    assert back == dataclasses.replace(provider, api_key=None)
    assert back.key({"ACME_KEY": "from-the-new-place"}) == "from-the-new-place"
    assert KEY.encode() not in pickle.dumps(dataclasses.asdict(provider), protocol)


def test_copies_in_the_same_process_keep_the_key():
    provider = acme(api_key=KEY, http_headers={"X-Team": "blue"})
    copies = [copy.copy(provider), copy.deepcopy(provider), dataclasses.replace(provider, name="acme")]
    assert copies == [provider] * 3
    assert [each.key() for each in copies] == [KEY] * 3
    assert copy.copy(provider.api_key) == provider.api_key
    assert dataclasses.replace(provider, api_key="other").key() == "other"


def test_a_repr_shows_changed_fields_and_hides_what_may_be_secret():
    provider = acme(
        base_url="https://h/v1?code=Zq7",
        http_headers={"Authorization": "Bearer Zq7"},
        query_params={"key": "Zq7"},
        stream_usage=False,
    )
    assert repr(provider) == (
        "Provider(name='acme', base_url='https://h/v1?***', query_params={'key': '***'}, "
        "http_headers={'Authorization': '***'}, stream_usage=False)"
    )


def test_the_repr_of_a_url_hides_its_query_if_it_has_one():
    assert repr(Provider("test", "https://host/v1", query_params={"sig": "s"}).url("m")).endswith("completions?***'")
    assert repr(Provider("test", "https://host/v1").url("m")) == "'https://host/v1/chat/completions'"
