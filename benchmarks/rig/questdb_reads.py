"""The same rows read from QuestDB without historyd: by asyncpg, and by its Parquet export.

A target is a JSON object: `dsn`, `url`, `login` (user and password) and `table`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rig.bars import END, SCHEMA, start_of
from benchmarks.rig.history import series_of

if TYPE_CHECKING:
    from historyd.stores.questdb_options import QuestDbOptions


def target_of(options: QuestDbOptions) -> str:
    """The target that leads to the bars of a store."""
    address = {"dsn": options.dsn, "url": options.http_url, "login": options.http_login}
    return json.dumps({**address, "table": options.tables.bars})


class AsyncpgReads:
    """`fetch` of rows as they come, then a Table of them."""

    def __init__(self, target: str) -> None:
        asked = json.loads(target)
        self._table = asked["table"]
        self._loop = asyncio.Runner()
        self._connection = self._loop.run(asyncpg.connect(asked["dsn"]))

    def get(self, rows: int) -> pa.Table:
        found = self._loop.run(self._fetch(rows))
        columns = zip(*found, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def close(self) -> None:
        self._loop.run(self._connection.close())
        self._loop.close()

    async def _fetch(self, rows: int) -> Any:
        statement = (
            f"SELECT ts, open, high, low, close, volume FROM {self._table} "
            "WHERE series = $1 AND ts >= $2 AND ts < $3 ORDER BY ts"
        )
        start, end = (moment.astimezone(UTC).replace(tzinfo=None) for moment in (start_of(rows), END))
        return await self._connection.fetch(statement, series_of(rows), start, end)


class ParquetReads:
    """One export of the whole range."""

    def __init__(self, target: str) -> None:
        asked = json.loads(target)
        self._table = asked["table"]
        self._url = asked["url"]
        token = base64.b64encode(":".join(asked["login"]).encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}

        self._export("SELECT 1")  # all that is loaded at first use is loaded

    def get(self, rows: int) -> pa.Table:
        start, end = (int(moment.timestamp()) * 1_000_000 for moment in (start_of(rows), END))
        return self._export(
            f"SELECT ts, open, high, low, close, volume FROM {self._table} "
            f"WHERE series = '{series_of(rows)}' AND ts >= {start} AND ts < {end}"
        )

    def _export(self, query: str) -> pa.Table:
        asked = Request(f"{self._url}/exp?{urlencode({'query': query, 'fmt': 'parquet'})}", headers=self._headers)
        with urlopen(asked) as answer:
            return pq.read_table(io.BytesIO(answer.read()))
