"""All internal names of other libraries that this library uses.

Because of them setup.cfg requires versions of urllib3 and requests below the next major ones. If a new version renames
one, a test fails here.
"""

from __future__ import annotations

import ast
import http.client
import json.decoder
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest
import requests
import urllib3
from urllib3.util.ssltransport import SSLTransport

import chatstream

PACKAGE = Path(chatstream.__file__).parent
# the classes that inherit from urllib3 and http.client
INHERITING = (
    "_http/adapter.py",
    "_http/connection.py",
    "_http/response.py",
    "_http/socks_proxy.py",
)


def connection() -> urllib3.connection.HTTPConnection:
    return urllib3.connection.HTTPConnection("127.0.0.1", 1)


def response() -> http.client.HTTPResponse:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return http.client.HTTPResponse(ours)


def tls_inside_tls() -> SSLTransport:
    context = Mock()  # of its handshake, which the constructor does
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return SSLTransport(ours, context)


USED = {
    "urllib3.connection.HTTPConnection": (
        connection,
        (
            *("_new_conn", "_dns_host", "host", "port", "timeout", "socket_options", "sock", "response_class", "proxy"),
            *("connect", "request", "send", "_tunnel"),
        ),
    ),
    "urllib3.connection.HTTPSConnection": (lambda: urllib3.connection.HTTPSConnection, ("_connect_tls_proxy",)),
    "urllib3.HTTPConnectionPool": (
        lambda: urllib3.HTTPConnectionPool("127.0.0.1"),
        ("_get_conn", "_put_conn", "_new_conn", "ConnectionCls", "QueueCls", "block"),
    ),
    "urllib3.PoolManager": (urllib3.PoolManager, ("pool_classes_by_scheme", "pools", "connection_pool_kw")),
    "urllib3.HTTPResponse": (urllib3.HTTPResponse, ("read1", "release_conn", "connection", "_fp", "_sock_shutdown")),
    "urllib3.util.Retry": (
        urllib3.util.Retry,
        ("sleep", "increment", "get_retry_after", "get_backoff_time", "respect_retry_after_header"),
    ),
    "requests.Session": (requests.Session, ("__attrs__", "send", "request", "get_adapter", "adapters")),
    "requests.Response": (requests.Response, ("_content", "_content_consumed")),
    "http.client.HTTPResponse": (
        response,
        (
            "_close_conn",
            "_get_chunk_left",
            "_read_next_chunk_size",
            "_read_and_discard_trailer",
            "begin",
            "read1",
            "fp",
            "headers",
            "version",
            "will_close",
            "chunked",
            "chunk_left",
        ),
    ),
    "urllib3.util.ssltransport.SSLTransport": (tls_inside_tls, ("incoming", "sslobj", "socket")),
    "requests.adapters.HTTPAdapter": (
        requests.adapters.HTTPAdapter,
        ("init_poolmanager", "proxy_manager_for", "poolmanager", "proxy_manager", "__getstate__", "__setstate__"),
    ),
    "json.decoder": (lambda: json.decoder, ("scanstring",)),
}


@pytest.mark.parametrize("owner", USED)
def test_every_internal_name_that_is_used_exists_in_the_installed_version(owner):
    make, names = USED[owner]
    owning = make()  # type: ignore[operator]
    assert [name for name in names if not hasattr(owning, name)] == []


@pytest.mark.parametrize("path", INHERITING)
def test_subclasses_use_no_unlisted_private_name_of_their_base_classes(path):
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            defined.add(node.attr)
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    listed = {name for _, names in USED.values() for name in names}
    inherited = {"_resolve"}  # by one of these classes from another
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    overridden = {"_new_conn", "_get_conn", "_put_conn", "_read_next_chunk_size", "_get_chunk_left", "_close_conn"}
    assert {name for name in used if not name.startswith("__")} - defined - inherited <= listed
    assert overridden <= listed
