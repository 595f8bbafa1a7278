"""Receivers that fail, hang or take their time; real HTTP through apprise, to a server on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from historyd.cli import app
from historyd.model.series import SeriesId
from historyd.observability.alarms import Message, Trouble
from historyd.observability.alerts import Alerts
from historyd.observability.hooks import PageFailed
from historyd.observability.options import AlertOptions
from historyd.observability.receivers import PAUSES_S, QUEUED, Mailbox, NoReceiver, receivers_of
from tests.rows import minutes
from tests.slack import ADDRESS, PATH, Slack, serve_slack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ATTEMPTS = len(PAUSES_S) + 1


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with serve_slack() as running:
        yield running


def webhook(slack: Slack) -> str:
    """The same receiver as a webhook of one's own, in Slack's form: its text under `text`, and nothing else."""
    return f"json://{slack.url.removeprefix('http://')}{PATH}?:message=text&:title=&:type=&:version=&:attachments="


def alert(number: int) -> PageFailed:
    series = SeriesId.parse(f"ohlcv:binance:S{number}/USDT:1m")
    return PageFailed(series, minutes(0, 10), RuntimeError())


def options(*addresses: str, **more: Any) -> AlertOptions:
    return AlertOptions(to=addresses, name="test", most_per_hour=100_000, **more)


async def test_a_webhook_of_ones_own_can_be_given_the_form_that_it_wants(slack: Slack) -> None:
    async with Alerts(options(webhook(slack))) as alerts:
        alerts.happened(alert(1))
        post = await slack.posts.get()
    assert set(post) == {"text"}
    assert post["text"].startswith("ohlcv:binance:S1/USDT:1m: ")


async def test_messages_come_in_order_and_all_are_delivered_before_the_server_has_stopped(slack: Slack) -> None:
    async with Alerts(options(webhook(slack))) as alerts:
        for number in range(5):
            alerts.happened(alert(number))
    got = [slack.posts.get_nowait()["text"] for _ in range(5)]
    assert [text.split("/")[0] for text in got] == [f"ohlcv:binance:S{number}" for number in range(5)]


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_a_message_is_tried_again_before_it_is_given_up(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    (receiver,) = receivers_of([webhook(slack)], 60)
    box = Mailbox(receiver, "title", _at_once)
    working = asyncio.create_task(box.run())
    slack.refusals = ATTEMPTS - 1
    box.put(Message(Trouble.BACKFILL, "a", "first"))
    assert await slack.text() == "first"
    slack.refusals = ATTEMPTS
    box.put(Message(Trouble.BACKFILL, "b", "second"))
    box.put(Message(Trouble.BACKFILL, "c", "third"))
    assert await slack.text() == "third"
    await box.emptied()
    working.cancel()
    assert (box.dropped, slack.attempts) == (1, 2 * ATTEMPTS + 1)
    (told,) = [record for record in caplog.records if record.message == "an alert was not delivered"]
    fields = told.__dict__["fields"]
    assert (fields["alert"], fields["why"], fields["dropped"]) == ("second", "it did not take the message", 1)


async def test_a_receiver_that_hangs_delays_no_other_and_holds_a_bounded_number_of_messages(slack: Slack) -> None:
    """Handing over never waits; what does not fit is dropped and counted; all ends when the server does."""
    async with serve_slack() as hanging:
        hanging.open.clear()
        receivers = [*receivers_of([webhook(hanging)], 0.1), *receivers_of([webhook(slack)], 60)]
        both = Alerts(options(), receivers=receivers)
        async with both:
            both.happened(alert(0))
            await hanging.reached.wait()
            for number in range(1, QUEUED + 21):
                both.happened(alert(number))
                assert f"S{number - 1}/" in await slack.text()
            assert both.dropped >= 18
            hanging.open.set()


def test_a_log_line_and_a_name_have_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    (slack, private) = receivers_of([ADDRESS, "json://user:secret@host/path?+token=secret"], 5)
    for receiver in (slack, private):
        assert "secret" not in receiver.name
        assert "TIiajkdnlazkcOXrIdevi7FQ" not in receiver.name
    with caplog.at_level(logging.WARNING):
        for number in range(QUEUED + 1):
            Mailbox(private, "t").put(Message(Trouble.TEST, "k", str(number)))
    assert "secret" not in caplog.text


def test_an_address_that_is_none_is_told_by_its_place_and_never_repeated(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoReceiver) as wrong:
        receivers_of([ADDRESS, "https://example.com/secret"], 5)
    assert str(wrong.value).startswith("alerts.to.1: is no address that apprise knows")
    assert "secret" not in str(wrong.value) + caplog.text
    assert "jsons://HOST/PATH" in str(wrong.value)


def configured(directory: Path, *addresses: str) -> str:
    file = directory / f"{len(list(directory.iterdir()))}.yaml"
    file.write_text(json.dumps({"alerts": {"to": list(addresses), "timeout_s": 60}}))
    return str(file)


async def test_a_test_message_is_sent_and_told_per_receiver(
    tmp_path: Path, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack.lead_to(monkeypatch)
    away = "json://127.0.0.1:1/nobody/listens"
    words = ["alerts", "test", "--config", configured(tmp_path, ADDRESS, webhook(slack), away)]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    lines = done.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["ok", "ok", "it did not take the message"]
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. "]
    assert done.exit_code == 1
    assert {await slack.text(), await slack.text()} == {"This is a test: alerts arrive here."}


def test_a_test_without_receivers_and_a_wrong_address_are_faults_of_the_configuration(tmp_path: Path) -> None:
    for file, fault in (
        (configured(tmp_path), "alerts.to: names nobody"),
        (configured(tmp_path, "nonsense"), "alerts.to.0: is no address"),
    ):
        done = CliRunner().invoke(app, ["alerts", "test", "--config", file])
        assert done.exit_code == 2
        assert fault in done.stderr
    checked = CliRunner().invoke(app, ["check-config", configured(tmp_path, "nonsense")])
    assert checked.exit_code == 2
    assert "alerts.to.0: is no address" in checked.stderr
