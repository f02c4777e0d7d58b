"""Providers as data: ready-made ones by id, own ones from a TOML file → the fields of a `Provider`.

Rules:
- What can't work raises `ConfigError` and says what to do.
- Every switch that differs from its default stands beside the fact that demands it.
- The environment is read when a provider is asked for, never at import.
- Messages name the file, the table and the key, never a value: it may be secret.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, TypeVar

from ..errors import ConfigError, MissingEnvVar

Fields = dict[str, Any]
T = TypeVar("T")

# The newest dated version that is generally available; also the first one with `stream_options`.
AZURE_API_VERSION = "2024-10-21"
AZURE_HINT = "Set it to the endpoint of your resource, like https://my-resource.openai.azure.com."


def _hosted(base_url: str, env_key: str, page: str, **switches: object) -> Fields:
    """A server on the net; few but OpenAI's own know the role `developer`, and all of them know `system`."""
    hint = f"Create a key at {page} and set the variable to it."
    return {"base_url": base_url, "env_key": env_key, "env_key_instructions": hint, "developer_role": False} | switches


def _loopback(port: int) -> Fields:
    """A server on this machine, no key; chat templates of open models know no `developer`."""
    return {"base_url": f"http://127.0.0.1:{port}/v1", "developer_role": False}


PRESETS: dict[str, Fields] = {
    # `developer` is OpenAI's own word for `system`, Azure serves the same models.
    "openai": _hosted(
        "https://api.openai.com/v1", "OPENAI_API_KEY", "https://platform.openai.com/api-keys", developer_role=True
    ),
    # Azure names the deployment in the path and takes the bare key in a header of its own. For its newer, undated
    # API make a Provider whose base_url ends in /openai/v1 and whose key_header is api-key.
    "azure": _hosted(
        "",
        "AZURE_OPENAI_API_KEY",
        "https://portal.azure.com (your resource, Keys and Endpoint)",
        developer_role=True,
        key_header="api-key",
        path="/openai/deployments/{model}/chat/completions",
    ),
    # OpenRouter hands messages on as they are: some servers behind it answer 400 to `developer`.
    "openrouter": _hosted("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "https://openrouter.ai/keys"),
    # Groq puts its OpenAI form under a prefix.
    "groq": _hosted("https://api.groq.com/openai/v1", "GROQ_API_KEY", "https://console.groq.com/keys"),
    # DeepSeek refuses `developer`. Thinking with tools needs echo_reasoning="reasoning_content": off, like everywhere.
    "deepseek": _hosted("https://api.deepseek.com", "DEEPSEEK_API_KEY", "https://platform.deepseek.com/api_keys"),
    # Mistral answers 422 to `stream_options` (as to every field it does not know) and sends the usage unasked.
    "mistral": _hosted(
        "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "https://console.mistral.ai/api-keys", stream_usage=False
    ),
    # xAI keeps Chat Completions as its older API; `system` is what its guide uses.
    "xai": _hosted("https://api.x.ai/v1", "XAI_API_KEY", "https://console.x.ai"),
    # Together moved its documented host from .xyz to .ai.
    "together": _hosted("https://api.together.ai/v1", "TOGETHER_API_KEY", "https://api.together.ai"),
    # Fireworks puts its OpenAI form under a prefix.
    "fireworks": _hosted("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "https://app.fireworks.ai"),
    # Cerebras knows `developer` for gpt-oss only and answers 400 elsewhere; no [DONE], but a finish reason (W10).
    "cerebras": _hosted("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "https://cloud.cerebras.ai"),
    # Gemini's OpenAI form lies beside its own API, under a beta version.
    "gemini": _hosted(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "https://aistudio.google.com/apikey",
    ),
    # Anthropic's OpenAI form takes its key as bearer; its own API wants x-api-key.
    "anthropic": _hosted("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "https://platform.claude.com"),
    # Perplexity has no version in this path; usage comes in every chunk, no [DONE], but a finish reason (W10).
    "perplexity": _hosted("https://api.perplexity.ai", "PERPLEXITY_API_KEY", "https://www.perplexity.ai/settings/api"),
    # NVIDIA's hosted NIM; a NIM of your own speaks the same under another base_url.
    "nvidia": _hosted("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", "https://build.nvidia.com"),
    # Hugging Face's router; its key is the token that all its tools read.
    "huggingface": _hosted("https://router.huggingface.co/v1", "HF_TOKEN", "https://huggingface.co/settings/tokens"),
    "ollama": _loopback(11434),
    "lmstudio": _loopback(1234),
    "llamacpp": _loopback(8080),
    "vllm": _loopback(8000),
    # A placeholder: the embedded server's port is known when it has been started (L1).
    "local": {"base_url": "http://127.0.0.1", "developer_role": False},
}


def ready_made(id: str, environ: Mapping[str, str]) -> Fields:
    """The fields of the ready-made provider ``id``, with what ``environ`` says about its URL filled in.

    Raises `ConfigError` for an unknown id, `MissingEnvVar` for `azure` without its endpoint.
    """
    fields: Fields = {"name": id, **lookup(PRESETS, id, "ready-made provider")}
    if id == "openai":
        fields["base_url"] = environ.get("OPENAI_BASE_URL", "").strip() or fields["base_url"]
    if id == "azure":
        fields["base_url"] = environ.get("AZURE_OPENAI_ENDPOINT", "").strip()
        fields["query_params"] = {"api-version": environ.get("OPENAI_API_VERSION", "").strip() or AZURE_API_VERSION}
        if not fields["base_url"]:
            raise MissingEnvVar("AZURE_OPENAI_ENDPOINT", AZURE_HINT)
    return fields


def lookup(table: Mapping[str, T], id: str, what: str) -> T:
    """``table[id]``; an unknown id raises `ConfigError` with the known ones."""
    if id not in table:
        raise ConfigError(f"there is no {what} {id!r}.{_did_you_mean(id, table)} Known: {', '.join(table)}")
    return table[id]


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """The tables ``[model_providers.<id>]`` of a file, as they stand. Raises `ConfigError`, or `OSError` as `open`."""
    toml = _toml_reader()
    with open(path, "rb") as file:
        try:
            tables = toml.load(file).get("model_providers")
        except ValueError as error:  # both its own error and UnicodeDecodeError are one
            raise ConfigError(f"{os.fspath(path)} is not TOML: {error}") from None
    if not isinstance(tables, dict):
        raise ConfigError(f"{os.fspath(path)} has no [model_providers.<id>] table")
    return tables


def table_fields(id: str, table: object, known: Collection[str]) -> Fields:
    """One table as the fields of a provider whose name is ``id`` unless it says otherwise."""
    if not isinstance(table, dict):
        raise ConfigError("must be a table")
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown key {key!r}.{_did_you_mean(key, known)}")
    if "base_url" not in table:
        raise ConfigError("base_url is missing")
    return {"name": id, **table}


def _did_you_mean(word: str, known: Collection[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word.lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _toml_reader() -> ModuleType:
    for name in ("tomllib", "tomli"):  # the second one is the first's origin, for Python 3.10
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ConfigError("reading TOML needs Python 3.11, or the package tomli: pip install tomli")
