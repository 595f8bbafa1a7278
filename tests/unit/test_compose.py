"""compose.yaml: what can be known of it without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from historyd.config import load_config
from historyd.stores.questdb_options import QuestDbOptions
from tests.questdb_server import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).resolve().parents[2] / "compose.yaml"


@pytest.fixture
def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_historyd_takes_the_settings_it_is_given(services: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment names keys that there are, and leads to the other services by their names."""
    for name, value in services["historyd"]["environment"].items():
        monkeypatch.setenv(name, value.replace("${QUESTDB_PASSWORD:-history}", "history"))
    place = load_config().store.place
    assert isinstance(place, QuestDbOptions)
    assert (place.address, place.http_url) == ("questdb:8812", "http://questdb:9000")
    given = services["questdb"]["environment"]
    assert place.login == (given["QDB_PG_USER"], "history")
    assert place.http_login == (given["QDB_HTTP_USER"], "history")


def test_questdb_is_the_one_that_is_tested_and_keeps_what_it_acknowledges(services: Mapping[str, Any]) -> None:
    assert services["questdb"]["image"] == f"questdb/questdb:{VERSION}"
    assert services["questdb"]["environment"]["QDB_CAIRO_COMMIT_MODE"] == "sync"


def test_every_service_that_is_waited_for_says_when_it_is_well(services: Mapping[str, Any]) -> None:
    awaited = services["historyd"]["depends_on"]
    assert set(awaited) == {"questdb", "redis"}
    assert all("healthcheck" in services[name] for name in awaited)


def test_ports_are_this_machines_only(services: Mapping[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
