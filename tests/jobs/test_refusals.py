"""Commands of a living archive that cannot work: one sentence, exit code 2, nothing changed."""

import json
from dataclasses import replace

import pytest

from nightscribe.jobs.shell.config import configurations
from nightscribe.jobs.shell.recording_terms import RecordingTerms
from nightscribe.jobs.transcribe import JOB, settings
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.terms_config import TermsConfig
from nightscribe.model.tokenizer import open_tokenizer
from nightscribe.records import PlannedRecording
from nightscribe.stitching import stitch
from nightscribe.storage.generations import generations
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.result_tables import publish_transcripts
from nightscribe.storage.run import Night, begin, write_plan
from tests.documents import ROOT
from tests.jobs.test_revisions import plan
from tests.storage.records import heard_all, recording

BAD_INPUT = 2


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A run that has begun with the model `tiny`, its input, and files that commands name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bella.opus").write_bytes((ROOT / "samples/bella.opus").read_bytes())
    store = open_store(str(tmp_path / "out"), S3Config())
    plan(store, tmp_path)
    publish_transcripts(store, [stitch(heard_all(recording("a"), 1))])
    files = {
        "terms.txt": "please\nŁódź\n",
        "good.txt": "please\n",
        "empty.txt": "\n",
        "unknown.csv": "id,text\nnobody,hello\n",
        "nothing.csv": f"id\n{recording('a').recording_id}\n",
        "nobody.csv": "text\nhello\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def contents(store):
    return [entry.key for entry in store.entries() if "/lease/" not in entry.key]


def transcribe(*words):
    return ("transcribe", "input=in", "output=out", "model=tiny", "engine.device=cpu", *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (transcribe("deadline=2020-01-01T07:00"), "deadline 2020-01-01T07:00 has passed"),
        (transcribe("deadline=25:00"), "expected a time such as 07:00"),
        (transcribe("budget=4"), "budget=4 needs a price: set price_per_gpu_hour"),
        (
            transcribe("budget=4", "price_per_gpu_hour=-1"),
            "price_per_gpu_hour must be positive, got -1.0",
        ),
        (transcribe("budget=-4", "price_per_gpu_hour=1"), "budget must be positive, got -4.0"),
        (
            transcribe("budget=4", "price_per_gpu_hour=1", "currency=XYZ"),
            "currency must be one of AUD",
        ),
        (transcribe("missing=perhaps"), "missing must be one of keep, drop"),
        (transcribe("max_dropped_share=2"), "max_dropped_share must be"),
        (transcribe("revise.where=status='ok'"), "add revise=true"),
        (
            transcribe("revise=true", "revise.where=status ="),
            "'status =' does not work: it cannot be",
        ),
        (transcribe("revise=true", "revise.where=colour == 'red'"), "colour"),
        (transcribe("terms.file=terms.txt"), "'Łódź' cannot be written in the model's pieces"),
        (transcribe("terms.file=none.txt"), "terms.file none.txt cannot be read"),
        (transcribe("terms.file=empty.txt"), "terms.file empty.txt has no terms"),
        (
            transcribe("terms.file=good.txt", "engine.frames_per_pass=2"),
            "terms need engine.frames_per_pass=1, not 2",
        ),
        (transcribe(), "belongs to another run"),
        (("correct", "out", "unknown.csv"), "nobody names no transcript of this run"),
        (("correct", "out", "nothing.csv"), "nothing is corrected; expected a column text"),
        (("correct", "out", "nobody.csv"), "no recording is named; expected a column id or uri"),
        (("correct", "out", "good.txt"), "good.txt is not a manifest"),
        (("correct", "nowhere", "unknown.csv"), "nowhere: no run has written here"),
        (("diff", "out"), "no transcript has been replaced yet"),
        (("history", "nowhere"), "nowhere: no run has written here"),
        (("status", "nowhere"), "nowhere: no run has written a heartbeat here"),
    ],
    ids=lambda given: " ".join(given[3:] or given) if isinstance(given, tuple) else "",
)
def test_what_cannot_work_is_one_sentence(nightscribe, archive, words, sentence):
    store = open_store(str(archive / "out"), S3Config())
    before = contents(store)
    code, out, told = nightscribe(*words)
    last = told.strip().splitlines()[-1]
    assert (code, out) == (BAD_INPUT, "")
    assert sentence in last
    assert last.startswith("nightscribe: ")
    assert contents(store) == before


def test_where_nothing_can_be_written_no_cluster_is_started(nightscribe, archive, monkeypatch):
    def started(*asked):
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("nightscribe.cluster.ray_session.connected", started)
    words = ("input=in", "output=/proc/new", "model=tiny", "engine.device=cpu")
    code, _, told = nightscribe("transcribe", *words)
    assert code == BAD_INPUT
    assert "/proc/new/" in told


def test_a_revision_of_nothing_has_no_reason(nightscribe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.opus").write_bytes(b"")
    (config,) = configurations(JOB, transcribe()[1:])
    store = open_store(str(tmp_path / "out"), S3Config())
    begin(store, _plan_of(tmp_path), settings(config, open_model(config.model), {}))
    code, _, told = nightscribe(*transcribe("revise=true"))
    assert code == BAD_INPUT
    assert "revise=true has no reason, because every setting is that of the run" in told


@pytest.mark.parametrize("extra", [None, json.dumps({"priority": "high"})])
def test_an_order_that_is_none_leaves_no_generation(tmp_path, extra):
    store = open_store(str(tmp_path / "out"), S3Config())
    path = _plan_of(tmp_path, replace(recording("a"), extra=extra))
    with pytest.raises(ValueError, match="order=priority: "):
        begin(store, path, {"model": "tiny"}, Night(order="priority"))
    assert generations(store) == []


def test_terms_of_a_recording_that_no_pieces_write_name_the_recording():
    own = RecordingTerms(open_tokenizer(ROOT / "models/tiny/tokenizer.model"))
    said = [replace(recording(name), terms=terms) for name, terms in _TERMS.items()]
    with pytest.raises(ValueError, match=r"b\.mp3: the term 'Łódź' cannot be written"):
        list(own.checked(said))
    terms = own.with_those_of_the_run(TermsConfig())
    with pytest.raises(ValueError, match=r"terms need engine\.frames_per_pass=1, not 4"):
        terms.check_passes(4)


_TERMS = {"a": ("please",), "b": ("Łódź",)}


def _plan_of(folder, *recordings):
    path = folder / "plan.parquet"
    found = recordings or (recording("a"),)
    write_plan([PlannedRecording(recording=one, window=0, estimated_s=1.0) for one in found], path)
    return path
