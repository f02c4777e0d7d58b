"""The tables of the servers in docs/providers.md are those that docs/servers.py makes from settings and recordings."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from chatstream.providers.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "corpus"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "servers.py"))


def stream(*chunks: dict[str, Any], comment: bool = False, done: bool = True) -> bytes:
    events = [f"data: {json.dumps({'id': 'a', 'model': 'm', **chunk})}\n\n" for chunk in chunks]
    return "".join([": wait\n\n" * comment, *events, "data: [DONE]\n\n" * done]).encode()


def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


USAGE = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
TEXT = choice({"content": "Hi"})
STOP = choice({}, "stop")


def call(arguments: str, **keys: Any) -> dict[str, Any]:
    """A delta with a call, or with a fragment of one."""
    name = {"name": keys.pop("name")} if "name" in keys else {}
    return choice({"tool_calls": [{**keys, "function": {**name, "arguments": arguments}}]})


def facts_of(made: dict[str, Any], *bodies: bytes, status: int = 200, **fields: Any) -> dict[str, Any]:
    recordings = [made["Recording"]("openai", status, body, fields) for body in bodies]
    return made["facts"](recordings)["openai"]


def test_the_tables_of_the_servers_on_the_page_of_the_providers_are_made_from_settings_and_recordings(made):
    page = (ROOT / "docs" / "providers.md").read_text("utf-8")
    assert made["page"](page) == page, "run: python docs/servers.py"
    assert [name for name, table in made["TABLES"].items() if f"\n{table()}\n" not in page] == []


@pytest.mark.parametrize("table", ["wants", "sends"])
def test_every_built_in_provider_has_a_row_in_the_table_of_what_servers_want_or_send(made, table):
    rows = [line.split("|")[1].strip() for line in made[table]().splitlines()[2:]]
    assert rows[: len(PRESETS)] == [f"`{id}`" for id in PRESETS]


def test_all_rows_of_the_tables_of_the_servers_have_as_many_cells_as_their_head(made):
    for table in made["TABLES"].values():
        assert len({line.count("|") for line in table().splitlines()}) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder `shared` beside this checkout")
def test_the_facts_about_servers_are_those_that_the_recordings_beside_the_checkout_show(made):
    found = made["facts"](made["other_recordings"](SHARED))
    assert made["written"](found) == (ROOT / "docs" / "servers.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("body", "column", "counts"),
    [
        (stream(TEXT, STOP), "done", {"sent": 1}),
        (stream(TEXT, STOP, done=False), "done", {"not sent": 1}),
        (stream(TEXT, STOP, comment=True), "comments", {"sent": 1}),
        (stream(TEXT, STOP), "comments", {"not sent": 1}),
        (stream(TEXT, STOP, {"choices": [], **USAGE}), "usage", {"own": 1}),
        (stream(TEXT, {**STOP, **USAGE}), "usage", {"finish": 1}),
        (stream({**TEXT, **USAGE}, STOP), "usage", {"every": 1}),
        (stream(choice({"reasoning": "Hm."}), STOP), "reasoning", {"reasoning": 1}),
        (stream(call("{}", index=0, id="a", name="f"), STOP), "calls", {"whole": 1}),
        (stream(call("{", index=0, id="a", name="f"), call("}", index=0), STOP), "calls", {"fragments": 1}),
        (stream(call("{}", id="a", name="f"), STOP), "calls", {"whole": 1, "no index": 1}),
        (stream(call("{}", index=0, id="", name="f"), STOP), "calls", {"whole": 1, "no id": 1}),
        (stream(TEXT, {"error": {"message": "No."}}), "stream errors", {"`error.message`": 1}),
        (stream(TEXT, {"error": "No."}), "stream errors", {"`error`": 1}),
    ],
)
def test_the_table_of_what_a_server_sends_counts_each_spelling_of_a_stream(made, body, column, counts):
    assert facts_of(made, body)[column] == counts


@pytest.mark.parametrize("column", ["usage", "reasoning", "calls", "fields"])
def test_a_stream_that_shows_no_usage_reasoning_call_or_field_counts_for_none_of_them(made, column):
    assert column not in facts_of(made, stream(choice({"content": "Hi", "reasoning": ""}), STOP))


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'{"error": {"message": "No."}}', "`error.message`"),
        (b'{"detail": "No."}', "`detail`"),
        (b'{"message": "No."}', "`message`"),
        (b"[]", "JSON"),
        (b"No.", "text"),
    ],
)
def test_the_table_of_errors_names_the_place_of_the_message_in_a_refusal(made, body, form):
    found = facts_of(made, body, status=401)
    assert found == {"streams": 0, "statuses": {"401": 1}, "errors": {form: 1}}


def test_the_fields_of_a_request_count_if_it_was_answered_by_a_stream(made):
    fields = {"max_tokens": 8, "temperature": 0, "response_format": {"type": "json_schema"}}
    found = facts_of(made, stream(TEXT, STOP), **fields)
    assert found["fields"] == {"max_tokens": 1, "response_format: json_schema": 1}
    assert "fields" not in facts_of(made, b"No.", status=400, **fields)


def test_recordings_that_were_edited_or_cut_off_show_nothing_about_their_server(made, tmp_path):
    whole = {"provider": "openai", "status": 200, "kind": "stream", "request_options": {}}
    whole |= {"provenance": "recorded", "reframed": False, "expected": {"outcome": "completed"}}
    entries = [
        whole,
        {**whole, "reframed": True},
        {**whole, "provenance": "hand-made"},
        {**whole, "expected": {"outcome": "truncated"}},
    ]
    (tmp_path / "stream.sse").write_bytes(stream(TEXT, STOP))
    manifest = json.dumps([{**entry, "file": "stream.sse"} for entry in entries])
    (tmp_path / "manifest.json").write_text(manifest, "utf-8")
    assert made["facts"](made["other_recordings"](tmp_path))["openai"]["streams"] == 1
