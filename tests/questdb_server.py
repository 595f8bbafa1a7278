"""A real QuestDB for tests: its jar brought through Maven, a process on loopback with a folder of its own.

The jar is looked for in QUESTDB_JAR, else in .tools of the repository, where Maven puts it. Nothing is shared between
two servers; tests that share one have tables with a prefix of their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import asyncpg

from historyd.stores.questdb_options import QuestDbOptions, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
JAR: Final = ROOT / ".tools" / "questdb.jar"
VERSION: Final = "9.3.4"
LOGIN: Final = ("history", "s3cret")
ROUNDS: Final = int(os.environ.get("TORTURE_ROUNDS", "3"))
"""How often something is killed at a random moment; `make torture` asks for more."""
_FETCH_S: Final = 300
_START_S: Final = 150
_SETTINGS: Final = {
    "QDB_HTTP_MIN_ENABLED": "false",
    "QDB_LINE_TCP_ENABLED": "false",
    "QDB_LINE_UDP_ENABLED": "false",
    "QDB_TELEMETRY_ENABLED": "false",
    "QDB_HTTP_EXPORT_CONNECTION_LIMIT": "64",
    "QDB_SHARED_NETWORK_WORKER_COUNT": "4",
    "QDB_QUERY_TIMEOUT": "15m",
    "QDB_PG_NET_CONNECTION_LIMIT": "128",
    # Tables can be suspended, as a full disk does.
    "QDB_DEV_MODE_ENABLED": "true",
    # Many small tables: less is set aside for each.
    "QDB_CAIRO_WRITER_DATA_APPEND_PAGE_SIZE": "1m",
    "QDB_CAIRO_WAL_WRITER_DATA_APPEND_PAGE_SIZE": "256k",
    "QDB_CAIRO_O3_COLUMN_MEMORY_SIZE": "256k",
}


def jar() -> Path:
    """The jar, brought through Maven if it is not there. Raises RuntimeError, saying what is missing."""
    given = os.environ.get("QUESTDB_JAR")
    if given:
        return Path(given)
    JAR.parent.mkdir(exist_ok=True)
    with (JAR.parent / "questdb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not JAR.exists():
            _fetch()
    return JAR


def _fetch() -> None:
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise RuntimeError("QuestDB needs a JDK of 17 or newer and Maven: apt install openjdk-17-jdk-headless maven")
    folder = JAR.parent / "questdb.part"
    command = ["mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"]
    arguments = [f"-Dartifact=org.questdb:questdb:{VERSION}", f"-DoutputDirectory={folder}", "-Dmdep.stripVersion=true"]
    subprocess.run([*command, *arguments], check=True, timeout=_FETCH_S, stdin=subprocess.DEVNULL)
    (folder / "questdb.jar").rename(JAR)


@dataclass
class QuestDb:
    """A QuestDB that can be stopped, killed and started again on the same ports and folder."""

    folder: Path
    pg_port: int
    http_port: int
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def options(self, prefix: str | None = None, *, login: tuple[str, str] = LOGIN) -> QuestDbOptions:
        """How to reach it; the default is tables that nobody else has."""
        tables = Tables.of_prefix(prefix or f"t{uuid4().hex}")
        return QuestDbOptions(self.dsn(login), f"http://127.0.0.1:{self.http_port}", tables)

    def dsn(self, login: tuple[str, str] = LOGIN) -> str:
        return f"postgresql://{login[0]}:{login[1]}@127.0.0.1:{self.pg_port}/qdb"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.folder.mkdir(exist_ok=True)
        user, password = LOGIN
        given = {
            "QDB_HTTP_BIND_TO": f"127.0.0.1:{self.http_port}",
            "QDB_PG_NET_BIND_TO": f"127.0.0.1:{self.pg_port}",
            "QDB_PG_USER": user,
            "QDB_PG_PASSWORD": password,
            "QDB_HTTP_USER": user,
            "QDB_HTTP_PASSWORD": password,
        }
        crash = f"-XX:ErrorFile={self.folder / 'crash.txt'}"
        command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", crash, "-p", str(jar()), "-m"]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "io.questdb/io.questdb.ServerMain", "-d", str(self.folder / "data")],
                env={**os.environ, **_SETTINGS, **given, **self.settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            asyncio.run(_answers(self.dsn(), self.process))
        except BaseException:
            self.kill()
            raise

    def is_running(self) -> bool:
        """Whether it has not ended itself."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It answers no more, but its ports are open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Ends a freeze."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """As its operator does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_questdb(folder: Path, **settings: str) -> Iterator[QuestDb]:
    """A QuestDB on free ports of loopback, for as long as the block lasts."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    server = QuestDb(folder, *_two_free_ports(), settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def _answers(dsn: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            await asyncio.sleep(0.1)
        else:
            await connection.close()
            return


def _two_free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def main() -> None:
    """Runs one until Ctrl-C or SIGTERM, in the folder named, and says how to reach it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running_questdb(Path(sys.argv[1]).resolve()) as server, suppress(KeyboardInterrupt):
        sys.stdout.write(f"store.questdb: {{dsn: {server.dsn()}, http: http://127.0.0.1:{server.http_port}}}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
