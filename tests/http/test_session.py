"""Sessions for one call: private adapters in the place of plain ones, and bodies that other adapters bring."""

from __future__ import annotations

import gc

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from chatstream import Cancelled
from chatstream._http.adapter import ScopedAdapter
from chatstream._http.cancel_scope import CancelScope
from chatstream._http.session import SESSION, PrivateAdapters, connections_are_urllib3s, is_replaced
from chatstream._http.transport import Request, Transport
from chatstream.testing import head, send


@pytest.fixture
def session():
    with requests.Session() as session:
        yield session


def test_a_lent_session_has_private_adapters_and_shares_all_else(session):
    lent = PrivateAdapters().lend(session)
    assert {type(adapter) for adapter in lent.adapters.values()} == {ScopedAdapter}
    assert lent.cookies is session.cookies
    assert {name: getattr(lent, name) for name in SESSION.__attrs__ if name != "adapters"} == {
        name: getattr(session, name) for name in SESSION.__attrs__ if name != "adapters"
    }


def test_one_private_adapter_is_kept_for_each_plain_one_as_long_as_that_lives(session):
    adapters = PrivateAdapters()
    first, second = adapters.lend(session), adapters.lend(session)
    assert list(first.adapters.values()) == list(second.adapters.values())
    assert len(adapters._made) == 2
    session.mount("http://", HTTPAdapter())
    gc.collect()
    assert len(adapters._made) == 1
    adapters.close()
    assert len(adapters._made) == 0


def test_a_private_adapter_has_the_settings_of_the_plain_one():
    plain = HTTPAdapter(pool_connections=3, pool_maxsize=4, max_retries=2, pool_block=True)
    plain.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.1", 0)
    private = ScopedAdapter.like(plain)
    assert private.max_retries.total == 2
    assert private.poolmanager.connection_pool_kw == plain.poolmanager.connection_pool_kw
    assert private.poolmanager.pool_classes_by_scheme != plain.poolmanager.pool_classes_by_scheme


def test_a_method_counts_as_replaced_on_the_class_and_on_the_session_but_not_when_bound_again(session):
    class OwnSession(requests.Session):
        def send(self, *args, **options):
            return super().send(*args, **options)

    assert is_replaced(OwnSession(), "send")
    assert not is_replaced(session, "send")
    session.send = session.send
    assert not is_replaced(session, "send")
    session.send = lambda request, **_: None
    assert is_replaced(session, "send")


def test_the_installed_urllib3_makes_connections_that_this_library_can_inherit_from():
    assert connections_are_urllib3s()
    assert issubclass(ScopedAdapter().poolmanager.pool_classes_by_scheme["http"], urllib3.HTTPConnectionPool)


def test_cancel_leaves_a_connection_alone_that_went_back_to_the_pool_of_its_adapter(session, serve):
    class OwnAdapter(HTTPAdapter):
        pass

    session.mount("http://", OwnAdapter())
    transport, scope = Transport(session), CancelScope()
    server = serve([head(framing=4), send(b"fine")])
    reply = transport.send(Request(server.url, {}, b"{}"), scope)
    assert reply.read() == b"fine"  # the last bytes: urllib3 has put the connection back
    scope.cancel()
    with pytest.raises(Cancelled):
        reply.read()
    assert transport.send(Request(server.url, {}, b"{}"), CancelScope()).read() == b"fine"
    assert server.connections == 1
