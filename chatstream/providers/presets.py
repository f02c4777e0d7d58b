"""The id of a built-in provider, or a table of a TOML file → the fields of a `Provider`.

Rules:
- A setting that differs from its default has a comment with the fact about the server that requires it.
- The environment is read when a provider is looked up, never at import.
- Messages name the file, the table and the key, but no value, because a value may be secret.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, TypeVar, cast

from .._runtime.imports import imports
from .._secrets import hidden_if_key
from ..errors import ConfigError, MissingEnvVar

Fields = dict[str, Any]
T = TypeVar("T")

# The newest dated API version that is generally available, and the first one that knows `stream_options`.
AZURE_API_VERSION = "2024-10-21"
AZURE_HINT = "Set it to the endpoint of your resource, such as https://my-resource.openai.azure.com."


def _hosted(base_url: str, env_key: str, page: str, **switches: object) -> Fields:
    """A server of a vendor. Few besides OpenAI's know the role `developer`, and all of them know `system`."""
    hint = f"Create a key at {page} and set the variable to it."
    return {"base_url": base_url, "env_key": env_key, "env_key_instructions": hint, "developer_role": False} | switches


def _loopback(port: int, **switches: object) -> Fields:
    """A server on this machine, without a key. Chat templates of open models do not know the role `developer`."""
    return {"base_url": f"http://127.0.0.1:{port}/v1", "developer_role": False} | switches


def _echo_in_turn(key: str) -> Fields:
    """Send the reasoning back under ``key``, but only what follows the last user message: chat templates of open models
    (Qwen3, gpt-oss, DeepSeek R1) use the reasoning of a tool loop in progress and leave out any older."""
    return {"echo_reasoning": key, "echo_reasoning_scope": "turn"}


PRESETS: dict[str, Fields] = {
    "openai": _hosted(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "https://platform.openai.com/api-keys",
        # Its reasoning models replaced the role `system` by `developer` (OpenAI, "Model Spec").
        developer_role=True,
    ),
    # Azure's newer API without a version needs a Provider whose base_url ends in /openai/v1.
    "azure": _hosted(
        "",
        "AZURE_OPENAI_API_KEY",
        "https://portal.azure.com (your resource, Keys and Endpoint)",
        # It serves the models of OpenAI.
        developer_role=True,
        # The key stands alone in the header api-key (Azure OpenAI, "REST API reference").
        key_header="api-key",
        # The deployment, which stands for the model, is part of the path (same page).
        path="/openai/deployments/{model}/chat/completions",
    ),
    "openrouter": _hosted(
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/keys",
        # Anthropic and Gemini behind it reject tool loops without these entries (OpenRouter, "Reasoning Tokens").
        echo_reasoning="reasoning_details",
    ),
    "groq": _hosted(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "https://console.groq.com/keys",
        # The SDK's assistant message has `reasoning` (groq 1.7.0); the server answers 400 to `reasoning_content`.
        **_echo_in_turn("reasoning"),
    ),
    # DeepSeek answers 400 to the role `developer`.
    "deepseek": _hosted(
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        "https://platform.deepseek.com/api_keys",
        # With tools, all later requests must bring the reasoning back, else 400 (DeepSeek, "Thinking Mode").
        echo_reasoning="reasoning_content",
        # The same holds for every assistant message; where there was no reasoning, an empty text is accepted.
        echo_reasoning_always=True,
    ),
    # Mistral answers 422 (extra_forbidden) to any key of a message that it does not know: it gets no reasoning back.
    "mistral": _hosted(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "https://console.mistral.ai/api-keys",
        # It answers 422 to fields it does not know, `stream_options` among them, and always sends the usage.
        stream_usage=False,
    ),
    # xAI documents Chat Completions as its older API, which takes no reasoning back; its guide uses `system`.
    "xai": _hosted("https://api.x.ai/v1", "XAI_API_KEY", "https://console.x.ai"),
    "together": _hosted(
        "https://api.together.ai/v1",
        "TOGETHER_API_KEY",
        "https://api.together.ai",
        # The SDK's assistant message has `reasoning` (together 3.1.1).
        **_echo_in_turn("reasoning"),
    ),
    "fireworks": _hosted(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "https://app.fireworks.ai",
        # The SDK's ChatMessage has `reasoning_content`; the server answers 400 to `reasoning`.
        **_echo_in_turn("reasoning_content"),
    ),
    # Cerebras accepts `developer` only for gpt-oss; other models answer 400. It sends a finish reason, but no [DONE].
    "cerebras": _hosted(
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        "https://cloud.cerebras.ai",
        # The SDK's assistant message has `reasoning` (cerebras-cloud-sdk 1.91); the server rejects `reasoning_content`.
        **_echo_in_turn("reasoning"),
    ),
    # Gemini's thought signatures are part of the tool calls, which are sent back complete (its "Thought signatures").
    "gemini": _hosted(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "https://aistudio.google.com/apikey",
    ),
    # Anthropic's OpenAI-compatible API takes the key as a bearer token, and neither sends nor takes reasoning.
    "anthropic": _hosted("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "https://platform.claude.com"),
    # Perplexity's path has no version. It sends the usage in every chunk, and a finish reason, but no [DONE].
    "perplexity": _hosted("https://api.perplexity.ai", "PERPLEXITY_API_KEY", "https://www.perplexity.ai/settings/api"),
    # NVIDIA's hosted NIM; a self-hosted NIM has the same API at another base_url.
    "nvidia": _hosted(
        "https://integrate.api.nvidia.com/v1",
        "NVIDIA_API_KEY",
        "https://build.nvidia.com",
        # The DeepSeek models that it hosts follow the rule of DeepSeek's own server.
        **_echo_in_turn("reasoning_content"),
    ),
    # Hugging Face's router takes the access token that all tools of Hugging Face read. It forwards to many servers,
    # which differ in the key for reasoning.
    "huggingface": _hosted("https://router.huggingface.co/v1", "HF_TOKEN", "https://huggingface.co/settings/tokens"),
    # Ollama reads `reasoning` from assistant messages (ollama, openai/openai.go).
    "ollama": _loopback(11434, **_echo_in_turn("reasoning")),
    # LM Studio documents no key for reasoning in a request.
    "lmstudio": _loopback(1234),
    # llama.cpp reads `reasoning_content` from assistant messages (llama.cpp#18994).
    "llamacpp": _loopback(8080, **_echo_in_turn("reasoning_content")),
    # vLLM reads `reasoning` from assistant messages and drops `reasoning_content` (vllm#38488).
    "vllm": _loopback(8000, **_echo_in_turn("reasoning")),
    # llama.cpp's server, embedded. The base_url is a placeholder: it has a port only after it has started.
    "local": {"base_url": "http://127.0.0.1", "developer_role": False, **_echo_in_turn("reasoning_content")},
}


URL_VARIABLES = {"openai": "OPENAI_BASE_URL", "azure": "AZURE_OPENAI_ENDPOINT"}  # they name another URL


def ready_made(id: str, environ: Mapping[str, str]) -> Fields:
    """The fields of the built-in provider ``id``, its URL changed by the variables of ``environ``.

    ``openai`` reads ``OPENAI_BASE_URL``; ``azure`` reads ``AZURE_OPENAI_ENDPOINT`` and ``OPENAI_API_VERSION``. Raises
    `ConfigError` for an unknown id, and `MissingEnvVar` for ``azure`` without its endpoint.
    """
    fields: Fields = {"name": str(id), **lookup(PRESETS, id, "built-in provider")}
    if id in URL_VARIABLES:
        fields["base_url"] = environ.get(URL_VARIABLES[id], "").strip() or fields["base_url"]
    if id == "azure":
        fields["query_params"] = {"api-version": environ.get("OPENAI_API_VERSION", "").strip() or AZURE_API_VERSION}
        if not fields["base_url"]:
            raise MissingEnvVar(URL_VARIABLES[id], AZURE_HINT)
    return fields


def lookup(table: Mapping[str, T], id: str, what: str) -> T:
    """``table[id]``. Raises `ConfigError` that names the known ids, but not this one: it may be a key by mistake.
    ``what`` describes the table, as in "provider"."""
    if id not in table:
        hidden = "(its name is not shown, because it may be a key)"
        raise ConfigError(f"unknown {what} {hidden}.{_did_you_mean(id, table)} Known: {', '.join(table)}")
    return table[id]


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """The tables ``[model_providers.<id>]`` of a TOML file, unchecked, by id.

    Raises `ConfigError` if it is not TOML or has no such table, and `OSError` if the file can't be read.
    """
    tables = load_toml(path).get("model_providers")
    if not isinstance(tables, dict):
        raise ConfigError(f"{os.fspath(path)} has no [model_providers.<id>] table")
    return tables


def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All of a TOML file. Raises `ConfigError` if it is not TOML, and `OSError` if the file can't be read."""
    toml = _toml_reader()
    with open(path, "rb") as file:
        try:
            return cast("dict[str, Any]", toml.load(file))
        except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError both are
            raise ConfigError(f"{os.fspath(path)} is not TOML: {error}") from None


def table_fields(id: str, table: object, known: Collection[str]) -> Fields:
    """The fields in ``table``, with ``id`` as the default of ``name``. Raises `ConfigError` for a key not ``known``."""
    if not isinstance(table, dict):
        raise ConfigError("must be a table")
    for key in table:
        if key not in known:
            raise ConfigError(f"unknown setting {hidden_if_key(key)!r}.{_did_you_mean(key, known)}")
    if "base_url" not in table:
        raise ConfigError("base_url is missing")
    return {"name": id, **table}


def _did_you_mean(unknown: str, known: Collection[str]) -> str:
    with imports():
        from difflib import get_close_matches

    close = get_close_matches(unknown.lower(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _toml_reader() -> ModuleType:
    """The module that reads TOML, imported by name so that the tools that freeze a program find it."""
    with imports():
        with suppress(ModuleNotFoundError):
            import tomllib  # type: ignore[import-not-found,unused-ignore]  # from Python 3.11 on

            return cast("ModuleType", tomllib)
        with suppress(ModuleNotFoundError):
            import tomli  # type: ignore[import-not-found,unused-ignore]

            return cast("ModuleType", tomli)
    raise ConfigError("reading TOML needs Python 3.11 or the package tomli: pip install tomli")
