"""Tables of docs/providers.md: what each server wants, and what it sends.

    chatstream.providers.presets ─▶ the table of settings
    tests/recordings, docs/servers.json ─▶ the tables of what is recorded

``python docs/servers.py`` writes the tables. ``python docs/servers.py FOLDER`` first reads the recordings of other
projects in a folder with a ``manifest.json``, and writes what they show into docs/servers.json. Tests compare
all of it.

Rules:
- A stream counts if it is complete and as the server has sent it. Recordings that were edited show nothing.
- A cell is empty where nothing is recorded.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chatstream._decode.chunks import ChunkReader
from chatstream._decode.sse import BodyDecoder
from chatstream._doctor import Answer, _record_chunks, _usage_place
from chatstream._http.cancel_scope import CancelScope
from chatstream.providers.presets import PRESETS
from chatstream.providers.provider import Provider

HERE = Path(__file__).resolve().parent
PAGE = HERE / "providers.md"
RECORDED = HERE / "servers.json"
RECORDINGS = HERE.parent / "tests" / "recordings"
RAW = re.compile(rb"[0-9A-Fa-f]+\r\n")  # the body of a recording that keeps its HTTP chunks

# The folders of recordings → the id of a built-in provider, or the name of another server.
NAMES = {
    "anthropic-compat": "anthropic",
    "azure-openai": "azure",
    "gemini-openai": "gemini",
    "huggingface-router": "huggingface",
    "llama-server": "llamacpp",
    "llama-server-qwen25tmpl": "llamacpp",
    "llama-server-reasoning": "llamacpp",
    "xllamacpp": "local",
    "avian": "Avian",
    "azure-ai-foundry": "Azure AI Foundry",
    "cloudflare": "Cloudflare",
    "copilot": "GitHub Copilot",
    "databricks": "Databricks",
    "doubleword": "Doubleword",
    "huggingface-tgi": "Hugging Face TGI",
    "hyperbolic": "Hyperbolic",
    "litellm-proxy": "LiteLLM proxy",
    "litellm": "LiteLLM proxy",
    "llama-cpp-python-chatml-fc": "llama-cpp-python",
    "minimax": "MiniMax",
    "mistralrs": "mistral.rs",
    "novita": "Novita",
    "sambanova": "SambaNova",
    "transformers-serve": "transformers serve",
    "venice": "Venice",
    "vercel-gateway": "Vercel AI Gateway",
    "zai": "Z.ai",
}
FIELDS = ("max_tokens", "max_completion_tokens", "stream_options")  # that some servers refuse

PLACES = {  # of the usage, as ``chatstream doctor`` names them
    "in a chunk of its own": "own",
    "in the finish chunk": "finish",
    "in every chunk": "every",
}


# ── recordings ──────────────────────────────────────────────────────────────────────────────────────────────────


class Recording(NamedTuple):
    """The body of an answer, and the fields of the request that was answered."""

    server: str
    status: int
    body: bytes
    fields: dict[str, Any]


def own_recordings(folder: Path = RECORDINGS) -> Iterator[Recording]:
    """The complete streams and the errors among the recordings of this repository, without those of proxies."""
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    for name, result in expected.items():
        server, _, case = name.partition("/")
        body = (folder / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]
        refused = result["outcome"] == "refused"
        streamed = result["outcome"] in ("completed", "error") and not case.startswith("plain")
        if server != "proxies" and (refused or (streamed and not RAW.match(body))):
            yield Recording(server, result["status"], body, _request(folder / f"{name}.req.json"))


def _request(path: Path) -> dict[str, Any]:
    """The fields of a recorded request; none if it is not recorded, or was no JSON object on purpose."""
    try:
        request = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return request if isinstance(request, dict) else {}


def other_recordings(folder: Path) -> Iterator[Recording]:
    """The same from a folder with the recordings of other projects. Its manifest says which of them were edited."""
    for entry in json.loads((folder / "manifest.json").read_text("utf-8")):
        body = (folder / entry["file"]).read_bytes()
        unedited = entry["provenance"] == "recorded" and not entry["reframed"]
        cut = entry["kind"] == "stream" and entry["expected"]["outcome"] not in (
            "completed",
            "error",
        )
        if unedited and not cut:
            yield Recording(entry["provider"], entry["status"], body, entry["request_options"])


# ── what they show ──────────────────────────────────────────────────────────────────────────────────────────────


def facts(recordings: Iterable[Recording]) -> dict[str, dict[str, Any]]:
    """By server: the number of ``streams``, and how many of them show each spelling."""
    found: dict[str, dict[str, Any]] = {}
    for recording in recordings:
        name = NAMES.get(recording.server, recording.server)
        of_server = found.setdefault(name, {"streams": 0})
        seen = _seen_in_stream if recording.status == 200 else _seen_in_refusal
        for column, spelling in seen(recording):
            of_server.setdefault(column, Counter())[spelling] += 1
            of_server["streams"] += column == "done"
    return found


def _seen_in_stream(recording: Recording) -> Iterator[tuple[str, str]]:
    answer = read(recording.body)
    if answer.error:
        yield (
            "stream errors",
            _form_of_error(b"".join(re.findall(rb"data: ?(\{.*)", recording.body)[-1:])),
        )
        return
    yield "done", "sent" if answer.done else "not sent"
    yield "comments", "sent" if answer.comments else "not sent"
    for place in _usage_place(answer).split(" and "):
        if place != "never sent":
            yield "usage", PLACES[place]
    for key in sorted({key for delta in answer.deltas for key in delta if delta[key]}):
        if "reasoning" in key and key != "reasoning_opaque":
            yield "reasoning", key
    for form in _forms_of_calls(answer):
        yield "calls", form
    for key in FIELDS:
        if key in recording.fields:
            yield "fields", key
    format = recording.fields.get("response_format") or {}
    if format.get("type") == "json_schema":
        yield "fields", "response_format: json_schema"


def read(body: bytes) -> Answer:
    """A stream, as ``chatstream doctor`` reads it."""
    answer, decoder, reader, scope = Answer(200), BodyDecoder(), ChunkReader(), CancelScope()
    _record_chunks(answer, reader, decoder.feed(body), scope)
    _record_chunks(answer, reader, decoder.close(), scope)
    answer.comments = decoder.sse.comments
    return answer


def _forms_of_calls(answer: Answer) -> Iterator[str]:
    """How a stream spells its calls of tools."""
    calls = [call for delta in answer.deltas for call in delta.get("tool_calls") or ()]
    starts = [call for call in calls if (call.get("function") or {}).get("name")]
    if calls:
        yield "fragments" if len(calls) > len(starts) else "whole"
    if not all(call.get("id") for call in starts):
        yield "no id"
    if not all("index" in call for call in calls):
        yield "no index"


def _seen_in_refusal(recording: Recording) -> Iterator[tuple[str, str]]:
    yield "statuses", str(recording.status)
    yield "errors", _form_of_error(recording.body)


def _form_of_error(data: bytes) -> str:
    """Where the message of an error is."""
    try:
        body = json.loads(data)
    except ValueError:
        return "text"
    if not isinstance(body, dict):
        return "JSON"
    if isinstance(body.get("error"), dict):
        return "`error.message`"
    return next((f"`{key}`" for key in ("error", "message", "detail") if key in body), "JSON")


def recorded() -> dict[str, dict[str, Any]]:
    """What docs/servers.json and the recordings of this repository show, in one."""
    found = json.loads(RECORDED.read_text("utf-8"))
    for name, columns in facts(own_recordings()).items():
        of_server = found.setdefault(name, {"streams": 0})
        of_server["streams"] += columns.pop("streams")
        for column, counts in columns.items():
            of_server[column] = Counter(of_server.get(column, {})) + counts
    return found


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────


def wants() -> str:
    """What each built-in provider is sent, from its settings."""
    rows = [
        "| provider | header of the key | `developer` is sent as | `stream_options` | reasoning sent back |",
        "|---|---|---|---|---|",
    ]
    for id, preset in PRESETS.items():
        url = preset["base_url"] or "https://my-resource.openai.azure.com"
        provider = Provider(**{"name": id, **preset, "base_url": url})
        cells = [
            f"`{id}`",
            f"`{provider.key_header}`" if provider.env_key else "",
            "`developer`" if provider.developer_role else "`system`",
            "sent" if provider.stream_usage else "left out",
            _reasoning_back(provider),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _reasoning_back(provider: Provider) -> str:
    if provider.echo_reasoning is None:
        return "no"
    scope = " after the last user message" if provider.echo_reasoning_scope == "turn" else ""
    always = " in every assistant message" if provider.echo_reasoning_always else ""
    return f"`{provider.echo_reasoning}`{scope}{always}"


def sends() -> str:
    """How the recorded streams of each server are spelled, the built-in providers first."""
    found = recorded()
    rows = [
        "| server | streams | `[DONE]` | usage in chunk | reasoning | tool calls | comments |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, shown in _servers(found):
        columns = found.get(name, {})
        cells = [
            str(columns.get("streams") or "none"),
            _share(columns.get("done", {})),
            _listed(columns.get("usage", {})),
            _listed(columns.get("reasoning", {}), "`"),
            _listed(columns.get("calls", {})),
            _share(columns.get("comments", {})),
        ]
        rows.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(rows)


def answers() -> str:
    """The fields of the recorded requests of each server, and where its errors have their message."""
    found = recorded()
    rows = ["| server | fields | status: message | message in a stream |", "|---|---|---|---|"]
    for name, shown in _servers(found):
        columns = found.get(name, {})
        statuses, forms = sorted(columns.get("statuses", {})), _listed(columns.get("errors", {}))
        cells = [
            _listed(columns.get("fields", {}), "`"),
            f"{', '.join(statuses)}: {forms}" if statuses else "",
            _listed(columns.get("stream errors", {})),
        ]
        if any(cells):
            rows.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _servers(found: dict[str, Any]) -> list[tuple[str, str]]:
    """All servers, each with what its row shows: the built-in providers, then the others by name."""
    others = sorted((name for name in found if name not in PRESETS), key=str.lower)
    return [*((id, f"`{id}`") for id in PRESETS), *((name, name) for name in others)]


def _share(counts: dict[str, int]) -> str:
    sent, whole = counts.get("sent", 0), sum(counts.values())
    if not whole:
        return ""
    return "yes" if sent == whole else f"in {sent} of {whole}" if sent else "no"


def _listed(counts: dict[str, int], quote: str = "") -> str:
    """All spellings, the most frequent first."""
    ordered = sorted(counts, key=lambda spelling: (-counts[spelling], spelling))
    return ", ".join(f"{quote}{spelling}{quote}" for spelling in ordered)


TABLES = {"wants": wants, "sends": sends, "answers": answers}


def page(text: str) -> str:
    """The text of the page with its tables as the code and the recordings make them."""

    def current(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]]()}\n{found[3]}"

    pattern = r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)"
    return re.sub(pattern, current, text, flags=re.DOTALL)


def written(found: dict[str, Any]) -> str:
    """The text of docs/servers.json: a server on each line."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(found[name], sort_keys=True)}" for name in sorted(found)
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(folders: list[str]) -> None:
    if folders:
        found = facts(other_recordings(Path(folders[0])))
        RECORDED.write_text(written(found), "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
