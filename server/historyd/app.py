"""The composition root: makes the parts, joins them, runs them until a signal. The only importer of everything.

Promises: what is opened here is closed here, in the reverse order, whatever happens. A first SIGTERM or SIGINT drains
within the configured bound, a second one stops at once; both end well.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self

from historyd.config_errors import ConfigError
from historyd.engine.history import HistoryEngine
from historyd.heap import keep_memory
from historyd.observability.alerts import Alerts
from historyd.observability.hooks import NOBODY
from historyd.observability.logging import log_to_stderr
from historyd.observability.receivers import NoReceiver, receivers_of
from historyd.ratelimit.options import RateLimiterOptions, Scope
from historyd.ratelimit.process import ProcessLimiters
from historyd.service.access import Access
from historyd.service.server import HistoryServer
from historyd.service.tls import Tls
from historyd.sources.nearest import ccxt_ids, nearest_names
from historyd.sources.options import ExchangeOptions
from historyd.stores.places import describe, open_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from historyd.config import Config
    from historyd.leases.base import Leases
    from historyd.observability.hooks import Hooks
    from historyd.ratelimit.base import Limiter
    from historyd.ratelimit.link import Links
    from historyd.sources.base import Source

log: Final = logging.getLogger(__name__)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@asynccontextmanager
async def open_engine(config: Config) -> AsyncIterator[HistoryEngine]:
    """An engine on the configured store and exchanges; without ccxt it serves what is stored.

    Raises ConfigError, or StoreUnavailable if the store cannot be opened.
    """
    check_exchanges(config)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_place(config.store.place))
        hooks = await _open_alerts(config, stack)
        links = await _open_links(config, stack)
        source = await _open_source(config, links, hooks, stack)
        leases = await _open_leases(config, links, store.uuid, stack)
        yield await stack.enter_async_context(HistoryEngine(store, source, leases=leases, hooks=hooks))


async def serve(config: Config) -> None:
    """Serves until a signal; prints one line once it can be asked. Raises as `open_engine`, or CannotListen."""
    log_to_stderr(config.log_level)
    keep_memory()
    access = access_of(config)
    for warning in access.warnings(config.listen):
        log.warning(warning)
    with _Signals() as signals:
        async with open_engine(config) as engine, HistoryServer(engine, config.listen, access) as server:
            print(f"historyd listening on {server.address}, store {describe(config.store.place)}", flush=True)  # noqa: T201 -- what a caller waits for
            await signals.first.wait()
            await _drain(server, config.drain_s, signals)
            if signals.second.is_set():
                engine.abandon()


def access_of(config: Config) -> Access:
    """Who may ask, and how. Raises ConfigError if TLS cannot be had from the files named."""
    if config.tls is None:
        return Access(tokens=config.tokens)
    try:
        tls = Tls(config.tls.certificate, config.tls.key, config.tls.client_ca)
    except OSError as error:
        raise ConfigError([f"tls: {error.filename} cannot be read: {error.strerror}"]) from None
    except ValueError as error:
        raise ConfigError([f"tls: {error}"]) from None
    return Access(tls, config.tokens)


def check_exchanges(config: Config) -> None:
    """Raises ConfigError if an exchange is named that ccxt does not have, or two quotas share a key.

    Without ccxt all names will do.
    """
    known = ccxt_ids()
    limiters = ProcessLimiters()
    for name, given in config.exchanges.items():
        if known and name not in known:
            near = nearest_names(name, known)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ConfigError([f"exchanges.{name}: CCXT has no such exchange{hint}"])
        try:
            limiters.claim(name, "", given.rate_limiter)
            _check_redis(config, given.rate_limiter)
        except ValueError as error:
            raise ConfigError([f"exchanges.{name}.rate_limiter: {error}"]) from None


def _check_redis(config: Config, options: RateLimiterOptions) -> None:
    """Raises ValueError if a quota is to be shared through Redis and that cannot be, whether Redis is there or not."""
    if options.scope is not Scope.CLUSTER:
        return
    if find_spec("redis") is None:
        raise ValueError("scope 'cluster' needs the driver of Redis: pip install 'historyd[redis]'")
    from historyd.ratelimit.link import check_dsn, resolve_dsn  # noqa: PLC0415 -- redis is an extra

    check_dsn(resolve_dsn(options.redis_dsn, config.connectors.ccxt_rate_limiter_redis))


async def _open_links(config: Config, stack: AsyncExitStack) -> Links | None:
    """Links to Redis, one for each DSN; None if no quota is shared with other servers."""
    if not _shared_quotas(config):
        return None
    from historyd.ratelimit.link import Links  # noqa: PLC0415 -- redis is an extra

    return await stack.enter_async_context(Links())


async def _open_limiters(config: Config, links: Links | None, stack: AsyncExitStack) -> ProcessLimiters:
    if links is None:
        return ProcessLimiters()
    from historyd.ratelimit.link import resolve_dsn  # noqa: PLC0415 -- redis is an extra
    from historyd.ratelimit.redis import ClusterLimiters  # noqa: PLC0415

    cluster = await stack.enter_async_context(ClusterLimiters(links))
    configured = config.connectors.ccxt_rate_limiter_redis
    return ProcessLimiters(
        cluster=lambda key, budget, given: cluster.limiter(key, budget, resolve_dsn(given, configured))
    )


async def _open_leases(config: Config, links: Links | None, store_uuid: str, stack: AsyncExitStack) -> Leases | None:
    """Leases at the Redis of the first shared quota; None if no quota is shared with other servers."""
    if links is None:
        return None
    from historyd.leases.redis import RedisLeases  # noqa: PLC0415 -- redis is an extra
    from historyd.ratelimit.link import resolve_dsn  # noqa: PLC0415

    dsn = resolve_dsn(_shared_quotas(config)[0].redis_dsn, config.connectors.ccxt_rate_limiter_redis)
    return await stack.enter_async_context(RedisLeases(links.link(dsn), store_uuid))


def _shared_quotas(config: Config) -> list[RateLimiterOptions]:
    return [given.rate_limiter for given in config.exchanges.values() if given.rate_limiter.scope is Scope.CLUSTER]


def check_alerts(config: Config) -> None:
    """Raises ConfigError if a receiver of alerts is none. Sends nothing."""
    try:
        receivers_of(config.alerts.to, config.alerts.timeout_s)
    except NoReceiver as error:
        raise ConfigError([str(error)]) from None


async def _open_alerts(config: Config, stack: AsyncExitStack) -> Hooks:
    """What hears of troubles; nobody if nobody is to be told."""
    if not config.alerts.to:
        return NOBODY
    try:
        return await stack.enter_async_context(Alerts(config.alerts))
    except NoReceiver as error:
        raise ConfigError([str(error)]) from None


async def _open_source(config: Config, links: Links | None, hooks: Hooks, stack: AsyncExitStack) -> Source | None:
    if find_spec("ccxt") is None:
        return None
    from historyd.sources.ccxt import CcxtSource  # noqa: PLC0415 -- ccxt is an extra

    limiters = await _open_limiters(config, links, stack)
    defaults = RateLimiterOptions()

    def limiter_for(exchange: str, host_group: str) -> Limiter:
        named = config.exchanges.get(exchange)
        return limiters.limiter(exchange, host_group, named.rate_limiter if named is not None else defaults)

    return await stack.enter_async_context(CcxtSource(limiter_for, dict(_exchange_options(config)), hooks=hooks))


def _exchange_options(config: Config) -> Iterator[tuple[str, ExchangeOptions]]:
    for name, given in config.exchanges.items():
        yield (
            name,
            ExchangeOptions(
                base_url=given.base_url,
                ccxt=given.ccxt,
                window_size=given.window_size,
                max_retries=given.max_retries,
                retry_backoff_s=given.retry_backoff_s,
            ),
        )


class _Signals:
    """Tells of the first and the second signal to stop, within its block."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _told(self) -> None:
        if self.first.is_set():
            self.second.set()
        self.first.set()


async def _drain(server: HistoryServer, bound_s: float, signals: _Signals) -> None:
    """Drains until all calls have ended, the bound has passed, or a second signal comes."""
    draining = asyncio.create_task(server.drain(bound_s))
    impatient = asyncio.create_task(signals.second.wait())
    try:
        await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        draining.cancel()
        impatient.cancel()
        await asyncio.wait({draining, impatient})
    if not draining.cancelled():
        draining.result()
