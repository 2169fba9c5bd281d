"""When a night ends early: at its deadline, or when its budget is used up.

A night stops politely: what has begun is finished. So it stops a little before its limit, by the
time that what is in the slots will probably take.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

CURRENCIES = (
    *("AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HUF", "INR", "ISK"),
    *("JPY", "KRW", "MXN", "NOK", "NZD", "PLN", "RON", "SEK", "SGD", "TRY", "USD", "ZAR"),
)
HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a night may use, counted from its beginning."""

    deadline_s: float | None = None
    budget_s: float | None = None
    deadline: str = ""
    budget: str = ""
    cost_per_s: float | None = None

    def reason_to_stop(self, elapsed_s: float, in_flight_s: float) -> str | None:
        """Which limit would be passed by a shard that begins now; None if none would."""
        end_s = elapsed_s + in_flight_s
        if self.deadline_s is not None and end_s > self.deadline_s:
            return f"the deadline {self.deadline} is near"
        if self.budget_s is not None and end_s > self.budget_s:
            return f"the budget of {self.budget} is used up"
        return None

    def cost(self, elapsed_s: float) -> float | None:
        return None if self.cost_per_s is None else round(self.cost_per_s * elapsed_s, 4)


def limits_of(
    deadline: str | None,
    budget: float | None,
    price_per_gpu_hour: float | None,
    currency: str,
    num_gpus: float,
    now: datetime,
) -> Limits:
    """With `num_gpus` rented at a time, or as many workers without a GPU."""
    if budget is not None and price_per_gpu_hour is None:
        raise ValueError(f"budget={budget:g} needs a price: set price_per_gpu_hour")
    cost_per_s = None if price_per_gpu_hour is None else price_per_gpu_hour * num_gpus / HOUR_S
    return Limits(
        deadline_s=None if deadline is None else seconds_until(deadline, now),
        budget_s=budget / cost_per_s if budget and cost_per_s else None,
        deadline=deadline or "",
        budget=f"{budget:g} {currency}" if budget else "",
        cost_per_s=cost_per_s,
    )


def seconds_until(deadline: str, now: datetime) -> float:
    """A time of day is the next one; a date and time must not have passed."""
    if re.fullmatch(r"\d\d?:\d\d", deadline):
        hour, minute = map(int, deadline.split(":"))
        if hour < 24 and minute < 60:
            at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return (at + timedelta(days=at <= now) - now).total_seconds()
    try:
        at = datetime.fromisoformat(deadline)
    except ValueError:
        raise ValueError(
            f"deadline is {deadline!r}, expected a time such as 07:00 or 2026-12-01T07:00"
        ) from None
    left_s = (at - (now if at.tzinfo is None else now.astimezone())).total_seconds()
    if left_s <= 0:
        raise ValueError(f"deadline {deadline} has passed: it is {now:%Y-%m-%dT%H:%M}")
    return left_s


def in_flight_s(num_slots: int, num_shards: int, transcribed_s: float, speed: float) -> float:
    """How long the shards in all slots probably still take, by Little's law.

    0 until all slots have been filled once: loading the model says nothing about speed.
    """
    if num_shards < num_slots or speed <= 0:
        return 0.0
    return num_slots * (transcribed_s / num_shards) / speed
