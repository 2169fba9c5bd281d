"""Tickets stand for keys."""

import time

import pytest

from nightscribe.serving import access
from nightscribe.serving.access import (
    ANONYMOUS,
    TICKET,
    TICKET_S,
    Access,
    AccessError,
    TooManySessionsError,
)
from nightscribe.serving.config import ServingConfig


def known(*keys):
    return Access(ServingConfig(keys=keys))


def test_a_ticket_is_worth_its_key_and_does_not_show_it():
    ticket = known("one", "two").ticket("two")
    assert "two" not in ticket
    assert known("one", "two").key_of({}, {TICKET: ticket}) == "two"
    assert known("one", "two").key_of_headers({}, {TICKET: ticket, "auth_id": "x"}) == "two"


def test_a_key_in_the_query_is_only_for_sockets():
    assert known("one").key_of({}, {"auth_id": "one"}) == "one"
    with pytest.raises(AccessError):
        known("one").key_of_headers({}, {"auth_id": "one"})


@pytest.mark.parametrize("wrong", ["", "1", "x.y", "99999999999.abc", "\u0665.1", "9" * 5000])
def test_a_made_up_ticket_is_refused(wrong):
    with pytest.raises(AccessError, match="ticket"):
        known("one").key_of({}, {TICKET: wrong})


def test_a_ticket_of_another_key_a_later_end_and_an_old_one_are_refused(monkeypatch):
    ticket = known("one").ticket("one")
    end, _, signature = ticket.partition(".")
    for wrong in (known("two").ticket("two"), f"{int(end) + 1}.{signature}"):
        with pytest.raises(AccessError):
            known("one").key_of({}, {TICKET: wrong})
    monkeypatch.setattr(access.time, "time", lambda now=time.time: now() + TICKET_S + 1)
    with pytest.raises(AccessError, match="too old"):
        known("one").key_of({}, {TICKET: ticket})


def test_where_no_key_is_needed_a_ticket_is_not_read():
    assert known().key_of({}, {TICKET: "anything"}) == ANONYMOUS


def test_a_key_has_its_sessions_until_they_end():
    access = Access(ServingConfig(keys=("one",), max_key_sessions=2))
    with access.session("one"):
        for _ in range(3):  # one ends, another begins
            with (
                access.session("one"),
                pytest.raises(TooManySessionsError),
                access.session("one"),
            ):
                pass
    assert not access.sessions
