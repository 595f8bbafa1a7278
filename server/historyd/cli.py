"""The command line of the server: `historyd serve | demo | check-config | du | forget | copy | alerts`.

Promises: a fault is one line that says what was wrong and what to do, on standard error, never a traceback; exit code 2
for a wrong command line or configuration, 1 for anything else that failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from historyd.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from historyd.config import Config
    from historyd.stores.places import Place

CONFIG_FAULT = 2
"""Exit code for a wrong command line or configuration."""
app = typer.Typer(
    name="historyd",
    help="One door to market history.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
alerts = typer.Typer(help="Alerts: who is told of what goes wrong.", no_args_is_help=True)
app.add_typer(alerts, name="alerts")
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="HISTORYD_CONFIG", help="YAML file; none: defaults.", show_default=False),
]
STORE = "A configuration (.yaml) that names the store, or the file of an embedded store."
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines.")]


@app.command()
def serve(
    config: ConfigFile = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT, port 0 for a free one.", show_default="127.0.0.1:50051")
    ] = None,
) -> None:
    """Serves market history until SIGTERM or Ctrl-C."""
    with _faults_told():
        from historyd.app import serve as run  # noqa: PLC0415 -- gRPC and Arrow take time that --help need not wait for
        from historyd.config import with_listen  # noqa: PLC0415

        loaded = _load(config)
        _run(run(with_listen(loaded, listen) if listen is not None else loaded))


@app.command()
def check_config(
    file: Annotated[
        Path | None, typer.Argument(envvar="HISTORYD_CONFIG", help="YAML file.", show_default=False)
    ] = None,
) -> None:
    """Says whether a configuration is right, without starting anything."""
    with _faults_told():
        from historyd.app import access_of, check_alerts, check_exchanges  # noqa: PLC0415
        from historyd.stores.places import describe  # noqa: PLC0415

        loaded = _load(file)
        check_exchanges(loaded)
        access_of(loaded)
        check_alerts(loaded)
        typer.echo(f"ok: listens on {loaded.listen}, store {describe(loaded.store.place)}")


@app.command()
def du(config: ConfigFile = None, *, as_json: AsJson = False) -> None:
    """Shows how much each stored series takes; the server may be running."""
    with _faults_told():
        from historyd.maintenance import measure, show  # noqa: PLC0415

        report = _run(measure(_load(config).store.place))
        if as_json:
            typer.echo(json.dumps(report.to_json()))
        else:
            show(report)


@app.command()
def forget(
    series: Annotated[str, typer.Argument(help="Series id, for example ohlcv:binance:BTC/USDT:1m")],
    time_range: Annotated[
        str | None, typer.Argument(metavar="[RANGE]", help="START/END in ISO 8601; default: all.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Removes rows and coverage of a series, or of a range of it; no server may hold an embedded store meanwhile."""
    with _faults_told():
        from historyd.maintenance import forget as remove  # noqa: PLC0415
        from historyd.maintenance import parse_target  # noqa: PLC0415
        from historyd.stores.places import describe  # noqa: PLC0415

        loaded = _load(config)
        target = parse_target(series, time_range)
        if not yes:
            typer.confirm(f"Remove {target} from {describe(loaded.store.place)}?", abort=True)
        removed = _run(remove(loaded.store.place, target))
        typer.echo(f"removed {removed:,} rows")


@app.command()
def copy(
    origin: Annotated[str, typer.Option("--from", help=STORE)],
    target: Annotated[str, typer.Option("--to", help=STORE)],
) -> None:
    """Copies all that one store holds to another; broken off, it goes on where it was."""
    with _faults_told():
        from historyd.maintenance import move  # noqa: PLC0415

        rows = _run(move(_place(origin), _place(target), lambda series, rows: typer.echo(f"{series}: {rows:,} rows")))
        typer.echo(f"copied {rows:,} rows")


@alerts.command(name="test")
def alerts_test(config: ConfigFile = None) -> None:
    """Sends every receiver of alerts a message, and says which of them took it."""
    with _faults_told():
        from historyd.config_errors import ConfigError  # noqa: PLC0415
        from historyd.observability.alerts import send_test  # noqa: PLC0415
        from historyd.observability.receivers import NoReceiver  # noqa: PLC0415

        loaded = _load(config)
        if not loaded.alerts.to:
            raise ConfigError(["alerts.to: names nobody who could be told"])
        try:
            outcomes: dict[str, str | None] = _run(send_test(loaded.alerts))
        except NoReceiver as error:
            raise ConfigError([str(error)]) from None
        for name, wrong in outcomes.items():
            typer.echo(f"{name}: {wrong or 'ok'}")
        if any(outcomes.values()):
            raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Shows a first and a second ask for a month of bars, against an exchange of its own on this machine."""
    with _faults_told():
        from historyd.demo.tour import tour  # noqa: PLC0415

        _run(tour())


def main() -> None:
    """The entry point."""
    # What gRPC itself writes to standard error is told by our own errors and log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    app()


def _load(path: Path | None) -> Config:
    from historyd.config import load_config  # noqa: PLC0415

    return load_config(path)


def _place(text: str) -> Place:
    """A store: of a configuration file, or a file of its own."""
    path = Path(text)
    return _load(path).store.place if path.suffix in {".yaml", ".yml"} else path


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@contextmanager
def _faults_told() -> Iterator[None]:
    """Ends the process with one line for each fault that a user can mend."""
    from historyd.config_errors import ConfigError  # noqa: PLC0415

    try:
        yield
    except ConfigError as error:
        _exit(CONFIG_FAULT, *error.faults)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (HistoryError, OSError) as error:
        _exit(1, str(error))


def _exit(code: int, *lines: str) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"historyd: {line}\n")
    raise typer.Exit(code)
