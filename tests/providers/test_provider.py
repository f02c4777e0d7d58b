"""Where to ask, and as whom: every example is a sentence of P1 to P6, or a row of the fault table."""

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

KEY = "sk-Zq7-the-key"
URL = "https://api.example.com/v1"


def acme(**fields: Any) -> Provider:
    return Provider(**{"name": "acme", "base_url": URL} | fields)


def refusal(**fields: Any) -> str:
    """What the ConfigError says."""
    with pytest.raises(ConfigError) as caught:
        acme(**fields)
    assert not isinstance(caught.value, MissingEnvVar)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# ── P1: fields and defaults ─────────────────────────────────────────────────────────────────────────────────────


def test_a_name_and_a_url_make_a_provider():
    provider = acme()
    assert (provider.request_max_retries, provider.stream_max_retries) == (4, 5)
    assert (provider.stream_idle_timeout, provider.first_event_timeout, provider.connect_timeout) == (300.0, None, 10.0)
    assert (provider.max_retry_after, provider.finish_grace) == (60.0, 2.0)
    assert (provider.key(), provider.auth_header(), provider.headers()) == (None, None, {})


def test_a_provider_is_a_value():
    assert acme(query_params={"a": "b"}) == acme(query_params={"a": "b"}) != acme()
    assert hash(acme(query_params={"a": "b"}, api_key=KEY)) == hash(acme(query_params={"a": "b"}, api_key=KEY))
    assert acme(api_key=KEY) != acme(api_key=KEY + "2") != acme()
    with pytest.raises(dataclasses.FrozenInstanceError):
        acme().name = "other"  # type: ignore[misc]


def test_the_callers_mapping_may_change_without_harm():
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
        ("env_key", "sk-pasted-by-mistake"),
        ("key_header", "api key"),
        ("path", "/chat?x=1"),
        ("path", "/chat completions"),
        ("path", "/chat\n"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_of_its_field(field: str, value: object):
    said = refusal(**{field: value})
    assert field in said
    assert "sk-pasted" not in said


def test_every_field_is_checked_by_its_kind_or_by_its_name():
    kinds = (
        checks.TEXTS,
        checks.OPTIONAL_TEXTS,
        checks.SWITCHES,
        checks.COUNTS,
        checks.SECONDS,
        checks.OPTIONAL_SECONDS,
        checks.TABLES,
        ("think_tags", "echo_reasoning", "api_key"),
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
        {"http_headers": {"X-Empty": "", "X-Two": "a  b é"}},
    ],
)
def test_what_can_work_is_kept(fields: dict[str, Any]):
    assert all(getattr(acme(**fields), name) == value for name, value in fields.items())


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\n", "Ü"])
def test_a_header_name_is_a_token(name: str):
    refusal(http_headers={name: "a"})
    refusal(env_http_headers={name: "VARIABLE"})


@pytest.mark.parametrize("value", ["Zq7\r\nX: b", "Zq7\0", "Zq7\n", " Zq7", "Zq7 ", "Zq7’", "Zq7\tb", "Zq7日"])
def test_a_header_value_is_printable_latin_1_and_no_message_repeats_it(value: str):
    assert "Zq7" not in refusal(http_headers={"X": value})


def test_an_env_header_names_a_variable():
    assert "X-Team" in refusal(env_http_headers={"X-Team": "not a variable"})


# ── P2 and row 26: the key ──────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch):
    provider = acme(env_key="ACME_KEY")
    monkeypatch.setenv("ACME_KEY", f" {KEY}\n")
    assert provider.key() == KEY
    monkeypatch.setenv("ACME_KEY", "renewed")
    assert provider.key() == "renewed"
    assert provider.key({"ACME_KEY": "given"}) == "given"


def test_a_direct_key_wins():
    assert acme(env_key="ACME_KEY", api_key=KEY).key({"ACME_KEY": "other"}) == KEY


@pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}, {"ACME_KEY": " \n"}])
def test_a_missing_or_blank_variable_is_named_with_the_instructions(environ: dict[str, str]):
    with pytest.raises(MissingEnvVar) as caught:
        acme(env_key="ACME_KEY", env_key_instructions="Ask Bob.").key(environ)
    assert str(caught.value) == "Missing environment variable: `ACME_KEY`. Ask Bob."


BAD_KEYS = ["sk\nZq7", "sk\r\nX: Zq7", "sk\0Zq7", "sk-“Zq7”", "sk Zq7", "sk\tZq7", "sk\xa0Zq7", "sk\xadZq7"]


@pytest.mark.parametrize("key", [*BAD_KEYS, "Zq7\n", "", " ", b"Zq7", 7])
def test_row_26_a_direct_key_that_no_header_can_carry_is_refused_unseen(key: Any):
    said = refusal(api_key=key)
    assert "api_key" in said
    assert "Zq7" not in said


@pytest.mark.parametrize("key", BAD_KEYS)
def test_row_26_so_is_one_from_the_environment(key: str):
    with pytest.raises(ConfigError, match="ACME_KEY") as caught:
        acme(env_key="ACME_KEY").key({"ACME_KEY": key})
    assert "Zq7" not in str(caught.value)


def test_the_key_travels_as_bearer_unless_another_header_is_named():
    assert acme(api_key=KEY).auth_header() == ("Authorization", f"Bearer {KEY}")
    assert acme(api_key=KEY, key_header="authorization").auth_header() == ("Authorization", f"Bearer {KEY}")
    assert acme(api_key=KEY, key_header="api-key").auth_header() == ("api-key", KEY)


# ── P3: headers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_env_headers_are_left_out_when_unset_or_blank():
    provider = acme(http_headers={"X-Team": "blue"}, env_http_headers={"X-Org": "ORG", "X-Project": "PROJECT"})
    assert provider.headers({"ORG": " \n"}) == {"X-Team": "blue"}
    assert provider.headers({"ORG": "o1 \n", "PROJECT": "p1"}) == {"X-Team": "blue", "X-Org": "o1", "X-Project": "p1"}


def test_no_name_is_sent_twice_whatever_its_case():
    provider = acme(http_headers={"x-org": "literal"}, env_http_headers={"X-Org": "ORG"})
    assert provider.headers({}) == {"x-org": "literal"}
    assert provider.headers({"ORG": "env"}) == {"X-Org": "env"}


def test_an_env_header_that_no_header_can_carry_is_refused_unseen():
    with pytest.raises(ConfigError, match="ORG") as caught:
        acme(env_http_headers={"X-Org": "ORG"}).headers({"ORG": "Zq7\nX: y"})
    assert "Zq7" not in str(caught.value)


def test_a_literal_authorization_replaces_the_key():
    provider = acme(env_key="ACME_KEY", http_headers={"authorization": "Basic abc"})
    assert provider.auth_header({}) is None
    assert provider.headers({}) == {"authorization": "Basic abc"}


# ── P4, rows 27 and 29: the URL ─────────────────────────────────────────────────────────────────────────────────


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
def test_base_and_path_meet_in_one_slash(base_url: str, url: str):
    assert acme(base_url=base_url).url("m") == url


def test_parameters_are_percent_encoded_and_join_the_query_that_is_there():
    provider = acme(base_url="https://h/v1?a=1", query_params={"a b": "ü/&=+", "empty": ""})
    assert provider.url("m") == "https://h/v1/chat/completions?a=1&a%20b=%C3%BC%2F%26%3D%2B&empty="


def test_a_parameter_that_is_there_already_is_not_sent_twice():
    provider = acme(base_url="https://h/v1?api-version=1&x=", query_params={"api-version": "2", "x": "3", "y": "4"})
    assert provider.url("m") == "https://h/v1/chat/completions?api-version=1&x=&y=4"


def test_the_path_may_name_the_model():
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
def test_row_29_a_malformed_url_or_a_label_over_63_is_refused(base_url: str):
    assert "base_url" in refusal(base_url=base_url)


@pytest.mark.parametrize("base_url", ["https://bob:hunter2@h/v1", "https://hunter2@h", "https://bob:hunter2@h:x"])
def test_row_27_a_password_in_the_url_is_refused_unseen(base_url: str):
    assert "hunter2" not in refusal(base_url=base_url)


def test_a_key_over_plain_http_warns_once_per_host():
    provider = acme(base_url="http://plain.example:8000/v1", api_key=KEY)
    with pytest.warns(UserWarning, match=r"plain\.example") as caught:
        provider.warn_if_plain()
    assert KEY not in str(caught[0].message)
    provider.warn_if_plain()
    with pytest.warns(UserWarning, match=r"other\.example"):
        acme(base_url="http://other.example", env_key="ACME_KEY").warn_if_plain({"ACME_KEY": KEY})
    with pytest.warns(UserWarning, match=r"literal\.example"):
        acme(base_url="http://literal.example", http_headers={"AUTHORIZATION": "Basic abc"}).warn_if_plain()


@pytest.mark.parametrize(
    "base_url",
    ["https://h", "http://localhost:1", "http://a.localhost", "http://127.9.9.9/v1", "http://[::1]:8080"],
)
def test_encrypted_or_on_this_machine_nothing_warns(base_url: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        acme(base_url=base_url, api_key=KEY).warn_if_plain()
        acme(base_url="http://keyless.example").warn_if_plain()


# ── P5: ready-made providers ────────────────────────────────────────────────────────────────────────────────────

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


def test_the_table_of_ready_made_providers_is_whole():
    assert list(PRESETS) == list(READY_MADE)


@pytest.mark.parametrize("id", READY_MADE)
def test_a_ready_made_provider_asks_there_and_as_them(id: str):
    url, env_key = READY_MADE[id]
    provider = Provider.named(id, AZURE_ENVIRONMENT)
    assert (provider.name, provider.env_key, provider.url("m 1")) == (id, env_key, url)
    assert provider.headers({}) == {}
    header = ("api-key", KEY) if id == "azure" else ("Authorization", f"Bearer {KEY}")
    assert provider.auth_header({env_key: KEY} if env_key else {}) == (header if env_key else None)
    assert provider.developer_role is (id in ("openai", "azure"))
    assert provider.stream_usage is (id != "mistral")
    if env_key:
        with pytest.raises(MissingEnvVar, match=f"`{env_key}`. Create a key at https://"):
            provider.key({})


def test_openai_honours_the_base_url_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", " http://127.0.0.1:9/v1/ ")
    assert Provider.named("openai").url("m") == "http://127.0.0.1:9/v1/chat/completions"
    assert Provider.named("openai", {"OPENAI_BASE_URL": " "}).base_url == "https://api.openai.com/v1"


def test_azure_takes_its_version_from_the_environment():
    provider = Provider.named("azure", AZURE_ENVIRONMENT | {"OPENAI_API_VERSION": "2025-01-01-preview"})
    assert provider.query_params == {"api-version": "2025-01-01-preview"}
    pasted = {"AZURE_OPENAI_ENDPOINT": READY_MADE["azure"][0].replace("2024-10-21", "2025-01-01-preview")}
    assert Provider.named("azure", pasted).url("other") == pasted["AZURE_OPENAI_ENDPOINT"]


def test_azure_without_its_endpoint_says_which_variable_to_set():
    with pytest.raises(MissingEnvVar, match=r"`AZURE_OPENAI_ENDPOINT`. Set it to .*\.openai\.azure\.com"):
        Provider.named("azure", {})


@pytest.mark.parametrize(("id", "hint"), [("OpenAI", "Did you mean 'openai'?"), ("qqq", "'qqq'. Known: openai, azure")])
def test_an_unknown_id_gets_the_known_ones_and_the_nearest(id: str, hint: str):
    with pytest.raises(ConfigError, match="openai, azure, openrouter") as caught:
        Provider.named(id)
    assert hint in str(caught.value)


# ── P5: TOML ────────────────────────────────────────────────────────────────────────────────────────────────────


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
[model_providers.house]
name = "Our house"
base_url = "http://127.0.0.1:8080/v1"
"""


def test_own_providers_come_from_toml(toml: Any):
    own = Provider.from_toml(toml(TWO))
    tags = ("think", "thought")
    assert own == {
        "acme": acme(env_key="ACME_KEY", query_params={"v": "1"}, stream_idle_timeout=30, think_tags=tags),
        "house": Provider("Our house", "http://127.0.0.1:8080/v1"),
    }


def test_one_own_provider_is_picked_by_its_id(toml: Any):
    assert Provider.from_toml(str(toml(TWO)), "house").name == "Our house"
    with pytest.raises(ConfigError, match=r"own\.toml.*'hose'. Did you mean 'house'\? Known: acme, house"):
        Provider.from_toml(toml(TWO), "hose")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "is not TOML"),
        ("a = '\udcff'", "is not TOML"),
        ("a = 1", r"has no \[model_providers\.<id>\] table"),
        ("model_providers = 1", r"has no \[model_providers\.<id>\] table"),
        ("model_providers.acme = 1", r"\[model_providers\.acme\]: must be a table"),
        ("model_providers.acme.env_key = 'A'", "base_url is missing"),
        ("model_providers.acme.stream_idle_timeout_ms = 1", "'stream_idle_timeout_ms'. Did you mean 'stream_idle_time"),
        ("model_providers.acme.zzz = 1", r"unknown key 'zzz'\.$"),
        ("model_providers.acme = { base_url = 'https://h', stream_usage = 1 }", "stream_usage must be true or false"),
        ("model_providers.acme = { base_url = 'https://h', api_key = 'Zq7 Zq7' }", "api_key must be"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_file_and_key(toml: Any, text: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        Provider.from_toml(toml(text))
    assert "own.toml" in str(caught.value)
    assert "Zq7" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Provider.from_toml(tmp_path / "none.toml")


def test_before_python_3_11_tomli_reads_it(toml: Any, monkeypatch: pytest.MonkeyPatch):
    reader = _toml_reader()
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", reader)
    assert list(Provider.from_toml(toml(TWO))) == ["acme", "house"]
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(ConfigError, match="pip install tomli"):
        Provider.from_toml(toml(TWO))


# ── P6 and row 54: the key stays here ───────────────────────────────────────────────────────────────────────────


def test_row_54_no_text_of_a_provider_has_the_key():
    provider = acme(api_key=KEY)
    for text in (repr(provider), str(provider), f"{provider.api_key}", repr(dataclasses.asdict(provider))):
        assert KEY not in text
    assert "api_key=***" in repr(provider)
    with pytest.raises(TypeError):
        vars(provider)
    with pytest.raises(TypeError):
        vars(provider.api_key)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_row_54_no_pickle_has_the_key(protocol: int):
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


def test_a_repr_shows_what_was_chosen_and_hides_what_may_be_secret():
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
