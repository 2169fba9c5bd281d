"""The stages as plain functions, a ledger that is no actor: everything but Ray itself."""

import asyncio
import time

import pytest

from nightscribe.cluster.attempt_registry import Ledger
from nightscribe.cluster.audio_task import read_remaining
from nightscribe.cluster.dataset import write_part
from nightscribe.cluster.rows import (
    CutShard,
    cut_table,
    cuts_of,
    outcome_table,
    receipt_of,
    remaining_of,
    remaining_table,
)
from nightscribe.cluster.worker import TranscribingActor
from nightscribe.publishing import Remaining
from nightscribe.records import Failure, Span
from nightscribe.storage.opening import S3Config
from nightscribe.storage.rows import outcome_of
from tests.cluster.stages import listener, make_reader, read, recording, sound
from tests.storage.records import failure, heard_all

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Remote:
    """A method of an actor, called at once."""

    def __init__(self, method):
        self._method = method

    def remote(self, *given):
        return Answer(self._method(*given))


class Answer:
    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


class NearLedger:
    """What a worker sees of the ledger, without an actor between."""

    def __init__(self, page=None):
        self.page = page or a_page()

    def __getattr__(self, name):
        return Remote(getattr(self.page, name))


def a_page(living_nodes=("",)):
    return Ledger(living_nodes=lambda: set(living_nodes))


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answer: answer.value)


def read_all(remaining, ledger, make=make_reader):
    tables = list(read_remaining(remaining_table(remaining), make, ledger, 3))
    return [cut for table in tables for cut in cuts_of(table)]


def hear_all(cuts, ledger, make=lambda: listener(4)):
    actor = TranscribingActor(make, ledger, rows_in_flight=8, max_worker_deaths=3)

    async def blocks():
        tables = [cut_table(cut) for cut in cuts]
        return await asyncio.gather(*map(actor, tables))

    return [outcome_of(row) for table in asyncio.run(blocks()) for row in table.to_pylist()]


def test_sound_and_records_come_through_rows_as_they_were():
    of = recording(7, 5.0)
    cuts = [CutShard(c.shard, c.samples_N, (Span(0.5, 1.0),)) for c in read(of)]
    again = [cut for whole in cuts for cut in cuts_of(cut_table(whole))]
    assert [cut.shard for cut in again] == [cut.shard for cut in cuts]
    assert all((a.samples_N == b.samples_N).all() for a, b in zip(again, cuts, strict=True))
    assert [cut.speech for cut in again] == [cut.speech for cut in cuts]
    bad = failure(of, cuts[0].shard)
    assert list(cuts_of(cut_table(bad))) == [bad]
    left = Remaining(of, frozenset({"x/00001"}))
    assert list(remaining_of(remaining_table([left]))) == [left]


def test_finished_shards_are_decoded_again_but_not_heard_again():
    of = recording(1, 7.0)
    done = frozenset({f"{of.recording_id}/00000", f"{of.recording_id}/00002"})
    cuts = read_all([Remaining(of, done)], NearLedger())
    assert [cut.shard.index for cut in cuts] == [1, 3]
    assert (cuts[0].samples_N == sound(of)[48_000:96_000]).all()


def test_a_file_that_kills_its_decoder_becomes_a_failure():
    of = recording(1)
    page = a_page()
    for _ in range(3):
        assert page.begin(f"file {of.recording_id}", "")
    found = read_all(
        [Remaining(of, frozenset()), Remaining(recording(2), frozenset())], NearLedger(page)
    )
    assert isinstance(found[0], Failure)
    assert (found[0].reason, found[0].attempts) == ("worker_killed", 3)
    assert [cut.shard.recording for cut in found[1:]] == [recording(2)] * 2


def test_whatever_a_reader_raises_is_a_row():
    def make():
        def broken(recording):
            raise RuntimeError("boom")
            yield

        return broken

    (found,) = read_all([Remaining(recording(1), frozenset())], NearLedger(), make)
    assert (found.stage, found.detail) == ("decode", "RuntimeError: boom")


def test_a_draining_ledger_lets_nothing_begin():
    ledger = NearLedger()
    cuts = read_all([Remaining(recording(1, 5.0), frozenset())], ledger)
    ledger.page.drain()
    assert read_all([Remaining(recording(2), frozenset())], ledger) == []
    assert hear_all(cuts, ledger) == []


def test_every_shard_is_answered_for_and_the_page_is_clean_afterwards():
    ledger = NearLedger()
    cuts = read_all([Remaining(recording(n, 5.0), frozenset()) for n in range(3)], ledger)
    outcomes = hear_all(cuts, ledger)
    assert [outcome.shard for outcome in outcomes] == [cut.shard for cut in cuts]
    assert not ledger.page.begun
    (told,) = ledger.page.engines.values()
    assert told.num_live_steps > 0


def test_a_shard_that_was_in_three_dead_workers_is_not_begun_a_fourth_time():
    (first, *rest) = read_all([Remaining(recording(1, 7.0), frozenset())], NearLedger())
    page = a_page()
    for _ in range(3):
        page.begin(first.shard.shard_id, "")
    for _ in range(2):
        page.begin(rest[0].shard.shard_id, "")
    page.begin(rest[1].shard.shard_id, "")
    poisoned, *others = hear_all([first, *rest], NearLedger(page))
    assert isinstance(poisoned, Failure)
    assert (poisoned.reason, poisoned.attempts) == ("worker_killed", 3)
    assert all(not isinstance(outcome, Failure) for outcome in others)


def test_an_error_of_one_shard_is_its_own_row():
    class Grumpy:
        has_died = False

        def __init__(self):
            self._inner = listener(4)
            self.tally = self._inner.tally

        async def hear(self, cut):
            if cut.shard.index == 1:
                raise ValueError("too loud")
            return await self._inner.hear(cut)

    cuts = read_all([Remaining(recording(1, 6.0), frozenset())], NearLedger())
    outcomes = hear_all(cuts, NearLedger(), Grumpy)
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].detail == "ValueError: too loud"


def test_receipts_name_what_was_committed(tmp_path):
    outcomes = [*heard_all(recording(1), 2), failure(recording(2))]
    table = write_part(outcome_table(outcomes), str(tmp_path), S3Config(), NearLedger())
    rows = table.to_pylist()
    told = {(receipt_of(row).recording_id, receipt_of(row).shard_index) for row in rows}
    assert told == {
        (recording(1).recording_id, 0),
        (recording(1).recording_id, 1),
        (recording(2).recording_id, None),
    }
    by_index = {row["shard_index"]: row for row in rows}
    assert by_index[0]["heard_s"] == 10.0
    assert by_index[None]["heard_s"] == 0.0


def test_every_stage_tells_what_it_did_and_how_long_it_waited():
    ledger = NearLedger()

    def slowly():
        def read_slowly(recording):
            time.sleep(0.05)
            yield from read(recording)

        return read_slowly

    tables = read_remaining(
        remaining_table([Remaining(recording(1, 5.0), frozenset())]), slowly, ledger, 3
    )
    cuts = []
    for table in tables:
        cuts += cuts_of(table)
        time.sleep(0.1)
    hear_all(cuts, ledger)
    spent = ledger.page.spent()
    assert 0.05 <= spent["fetch and decode"].busy_s < 0.2
    assert spent["fetch and decode"].waiting_s >= 0.3
    assert spent["transcribe"].busy_s > 0
    assert spent["load the model"].waiting_s < 0.1


def test_a_machine_that_goes_away_takes_no_shard_with_it():
    page = a_page(living_nodes=["stays"])
    for _ in range(5):
        page.begin("unlucky", "gone")
    page.begin("bad", "stays")
    page.begin("bad", "gone")
    assert page.look_up(["unlucky", "bad", "new"]) == [0, 1, 0]
    assert page.num_kills == 5
    page.end("bad")
    assert page.look_up(["bad"]) == [0]


def test_what_was_in_two_dead_workers_is_heard_with_nobody_beside_it():
    inside, beside = set(), {}

    class Watched:
        has_died = False

        def __init__(self):
            self._inner = listener(4)
            self.tally = self._inner.tally

        async def hear(self, cut):
            inside.add(cut.shard.index)
            for _ in range(5):
                await asyncio.sleep(0)
                for index in inside:
                    beside.setdefault(index, set()).update(inside)
            inside.remove(cut.shard.index)
            return await self._inner.hear(cut)

    cuts = read_all([Remaining(recording(1, 16.0), frozenset())], NearLedger())
    page = a_page()
    for index in (2, 5):
        page.begin(cuts[index].shard.shard_id, "")
        page.begin(cuts[index].shard.shard_id, "")
    outcomes = hear_all(cuts, NearLedger(page), Watched)
    assert not any(isinstance(outcome, Failure) for outcome in outcomes)
    assert (beside[2], beside[5]) == ({2}, {5})
    assert len(beside[0]) > 1
