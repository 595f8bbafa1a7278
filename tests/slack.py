"""A server on loopback that speaks the format of Slack's incoming webhooks, for tests of alerts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from historyd.observability.receivers import load_apprise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

ADDRESS = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
PATH = "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@dataclass
class Slack:
    """What it got, and how it answers.

    Attributes:
        url: where it listens.
        posts: the bodies it took.
        refusals: how many of the next posts it answers with 500.
        open: cleared, it holds posts back without an answer.
        reached: set when a post came, whatever became of it.
    """

    url: str = ""
    posts: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    refusals: int = 0
    attempts: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def text(self) -> str:
        """The words of the next post."""
        post = await self.posts.get()
        return str(post["attachments"][0]["text"] if "attachments" in post else post["text"])

    def lead_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Leads apprise's own Slack service here, and spares it the pause between two posts."""
        load_apprise()
        from apprise.plugins.slack import NotifySlack

        monkeypatch.setattr(NotifySlack, "webhook_url", f"{self.url}/services")
        monkeypatch.setattr(NotifySlack, "request_rate_per_sec", 0)


@asynccontextmanager
async def serve_slack() -> AsyncIterator[Slack]:
    """One that takes every post until told otherwise."""
    slack = Slack()
    slack.open.set()

    async def take(request: web.Request) -> web.Response:
        slack.attempts += 1
        slack.reached.set()
        await slack.open.wait()
        if slack.refusals:
            slack.refusals -= 1
            return web.Response(status=500, text="server_error")
        body = await request.json()
        if not (isinstance(body.get("text"), str) or isinstance(body.get("attachments"), list)):
            return web.Response(status=400, text="no_text")
        slack.posts.put_nowait(body)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post(PATH, take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        slack.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield slack
    finally:
        slack.open.set()
        await runner.cleanup()
