"""A cluster on this machine: Redis, QuestDB, a loopback exchange, three servers, and a client that goes round them.

`make cluster` starts all, lets several callers ask for the same history at once, says how often each page was fetched
and how full the quota's windows were, and stops all. `python -m tests.cluster HOURS` does so for another range. The
last line is a JSON object. Ctrl-C and SIGTERM stop all at any time; what was started is gone then, its data too.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from benchmarks.rig.redis_server import redis_server
from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange
from markethistory.aio import AsyncClient
from markethistory.channels import OPTIONS
from markethistory.values import EnsureProgress
from tests.e2e.serving import serve_process
from tests.e2e.whole import rows_of
from tests.questdb_server import running_questdb
from tests.source_lab import floats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from historyd.demo.exchange import Call
    from markethistory.values import EnsurePlan
    from tests.questdb_server import QuestDb

SERIES: Final = "ohlcv:binance:BTC/USDT:1m"
START: Final = datetime(2024, 1, 1, tzinfo=UTC)
PAGE_BARS: Final = 60
"""A page is an hour."""
HOURS: Final = 240
SERVERS: Final = 3
CALLERS: Final = 6
QUOTA: Final[dict[str, Any]] = {"scope": "cluster", "tokens_per_interval": 20, "interval_ms": 1_000}


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured at the exchange, and by the callers.

    Attributes:
        servers: how many took part.
        pages: pages of the range.
        calls_per_page: fetches of a page, on the average over all pages.
        most_calls_of_a_page: fetches of the page fetched most often.
        quota: calls that any second may hold.
        most_calls_in_a_second: calls in the fullest one.
        quota_used: of the quota, from the first fetch of a page to the last.
        rows: rows that each server gave, as the exchange has them.
    """

    servers: int
    pages: int
    calls_per_page: float
    most_calls_of_a_page: int
    quota: int
    most_calls_in_a_second: int
    quota_used: float
    rows: int


def backfill(hours: int) -> Figures:
    """Starts the cluster, has it fill so many hours, and stops it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="historyd-cluster-")))
        redis = stack.enter_context(redis_server())
        say(f"Redis on {redis.dsn}")
        questdb = stack.enter_context(running_questdb(folder / "questdb"))
        say(f"QuestDB on {questdb.options().http_url}")
        return asyncio.run(_backfill(hours, folder, redis.dsn, questdb))


async def _backfill(hours: int, folder: Path, redis: str, questdb: QuestDb) -> Figures:
    """SIGTERM ends it as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(serve_exchange())
        say(f"exchange on {exchange.url}, {QUOTA['tokens_per_interval']} calls a second allowed to all together")
        addresses = []
        for own in _folders(folder, exchange.url, redis, questdb):
            server = await stack.enter_async_context(serve_process(own, "--config", "historyd.yaml"))
            say(f"historyd on {server.address}")
            addresses.append(server.address)
        rows = await _ask(await stack.enter_async_context(_client(addresses)), hours)
        return _figures(list(exchange.calls), hours, len(addresses), rows)


def _folders(folder: Path, exchange: str, redis: str, questdb: QuestDb) -> Sequence[Path]:
    """A folder for each server, with its configuration; all alike."""
    config = {
        "store": {"questdb": {"dsn": questdb.dsn(), "http": questdb.options().http_url, "table_prefix": "cluster"}},
        "connectors": {"ccxt_rate_limiter_redis": redis},
        "exchanges": {"binance": {"base_url": exchange, "window_size": PAGE_BARS, "rate_limiter": QUOTA}},
    }
    folders = [folder / f"server{number}" for number in range(SERVERS)]
    for own in folders:
        own.mkdir()
        (own / "historyd.yaml").write_text(json.dumps(config))
    return folders


async def _ask(client: AsyncClient, hours: int) -> int:
    """Has the range filled by several callers at once and read from every server; the rows that each gave."""
    say(f"{CALLERS} callers ask for {hours} pages of {SERIES}, the calls go round the servers:")
    end = START + timedelta(hours=hours)
    await asyncio.gather(
        client.ensure(SERIES, START, end, on_progress=_progress(hours)),
        *(client.ensure(SERIES, START, end) for _ in range(CALLERS - 1)),
    )
    first, last = (int(moment.timestamp() * 1000) for moment in (START, end - timedelta(minutes=1)))
    wanted = floats(RandomWalk().bars("BTCUSDT", "1m", first, last, hours * PAGE_BARS))
    for _ in range(SERVERS):
        table = await client.read(SERIES, START, end, ensure=False, require_complete=True)
        if rows_of(table) != wanted:
            raise AssertionError("a server does not give the exchange's rows")
    return len(wanted)


def _client(addresses: Sequence[str]) -> AsyncClient:
    """A client whose calls go to the servers in turn."""
    options = (*OPTIONS, ("grpc.lb_policy_name", "round_robin"))
    return AsyncClient(grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", options=options))


def _progress(hours: int) -> Callable[[EnsurePlan | EnsureProgress], None]:
    told = 0

    def tell(event: EnsurePlan | EnsureProgress) -> None:
        nonlocal told
        if isinstance(event, EnsureProgress) and event.pages_done >= told + hours // 4:
            told = event.pages_done
            say(f"  {told} of {hours} pages")

    return tell


def _figures(calls: Sequence[Call], hours: int, servers: int, rows: int) -> Figures:
    bars = [call for call in calls if call.path.endswith("/klines")]
    pages = [call for call in bars if int(call.query["startTime"]) > 0]  # not the question for the first bar of all
    fetches = Counter(call.query["startTime"] for call in pages)
    times = [call.at_ms for call in calls]
    took_s = (pages[-1].at_ms - pages[0].at_ms) / 1000
    per_second = int(QUOTA["tokens_per_interval"])
    return Figures(
        servers,
        len(fetches),
        round(len(pages) / hours, 3),
        max(fetches.values()),
        per_second,
        max(sum(1 for at in times if begin <= at < begin + 1000) for begin in times),
        round(len(pages) / (per_second * max(took_s, 1)), 3),
        rows,
    )


def say(text: str) -> None:
    """Tells the one who plays, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play(hours: int) -> None:
    """Runs it and says what came of it."""
    figures = backfill(hours)
    say(f"{figures.calls_per_page} calls a page, no page more than {figures.most_calls_of_a_page} times")
    say(
        f"{figures.quota_used:.0%} of the quota used, "
        f"{figures.most_calls_in_a_second} of {figures.quota} calls in the fullest second"
    )
    say(json.dumps(asdict(figures)))


def main() -> int:
    """Plays; the exit code is 130 if it was stopped before the end."""
    hours = int(sys.argv[1]) if len(sys.argv) > 1 else HOURS
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        play(hours)
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
