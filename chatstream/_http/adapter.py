"""The adapter of requests over connections that ask the scope, with the settings of the adapter that it replaces."""

from __future__ import annotations

from copy import copy
from typing import Any, cast

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from .._runtime.imports import imports
from .callers import caused_by_signal_handler
from .connection import ScopedPool, ScopedTLSPool
from .response import running_exchange

POOLS = {"http": ScopedPool, "https": ScopedTLSPool}


class ScopedRetry(Retry):
    """The retries of the adapter that is replaced, with waits that the scope limits; none after an error of a signal
    handler."""

    def increment(self, *args: Any, **kwargs: Any) -> Any:
        error = kwargs.get("error")
        if error is not None and caused_by_signal_handler(error):
            raise error
        return super().increment(*args, **kwargs)

    def sleep(self, response: Any = None) -> None:
        scope = running_exchange().scope
        wanted = self.get_retry_after(response) if response and self.respect_retry_after_header else None
        scope.sleep(min(wanted or self.get_backoff_time(), scope.remaining()))
        scope.remaining()


class ScopedAdapter(HTTPAdapter):
    """requests' own adapter, over connections that ask the scope."""

    @classmethod
    def like(cls, adapter: Any) -> ScopedAdapter:
        """An adapter with the settings of another one."""
        made: Any = cls.__new__(cls)
        made.__setstate__(adapter.__getstate__())
        made.poolmanager.connection_pool_kw = dict(adapter.poolmanager.connection_pool_kw)
        if type(adapter.max_retries) is Retry:
            made.max_retries = copy(adapter.max_retries)
            made.max_retries.__class__ = ScopedRetry
        return cast(ScopedAdapter, made)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):
            manager.pool_classes_by_scheme = POOLS
        else:
            with imports():
                from .socks_proxy import SOCKS_POOLS  # PySocks may be missing

            manager.pool_classes_by_scheme = SOCKS_POOLS
        return manager

    def close(self) -> None:
        """Close the connections kept for reuse, also those of a pool that an unread answer keeps alive."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it can't be iterated over
                manager.pools[key].close()
        super().close()
