"""The settings of alerts: plain values, checked. Whether a receiver can be reached, `historyd alerts test` tells."""

from __future__ import annotations

import socket
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_many(given: object) -> object:
    """One receiver may be given without a list around it."""
    return (given,) if isinstance(given, str) else given


class AlertOptions(BaseModel):
    """What is alerted about, and to whom.

    Attributes:
        to: receivers as apprise's URLs (`slack://...`, `mailto://...`, `json://host/path`); none: no alerts.
        name: what this server calls itself in messages.
        stalled_after_s: seconds without a page done, while callers wait for some, that make a backfill stalled.
        ban_s: a pause of so many seconds or more, demanded by a venue, is a ban; 418 always is one.
        clock_skew_s: seconds that a venue's clock and the host's may differ.
        quarantine_share: a page of which a greater share of rows was set aside is told about.
        repeat_after_s: what goes on for so many seconds is told again.
        settle_s: what works again must do so for so many seconds before that is told.
        most_per_hour: messages within any hour; what is held back is counted in the next one.
        timeout_s: seconds that a receiver may take for a message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: Annotated[tuple[str, ...], BeforeValidator(_as_many)] = Field(default=(), repr=False)
    name: str = Field(default_factory=socket.gethostname)
    stalled_after_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    ban_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    clock_skew_s: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 5.0
    quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    repeat_after_s: Annotated[float, Field(ge=60, allow_inf_nan=False)] = 21_600.0
    settle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    most_per_hour: Annotated[int, Field(ge=1)] = 30
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 15.0
