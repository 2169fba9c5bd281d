"""One table of every text of a run: what became of it, where its sound is, and when each word is.

It is a manifest, too: `nightscribe transcribe` reads it, with the texts as references.
"""

import json
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from nightscribe.records import Failure, Recording, Transcript
from nightscribe.storage.result_tables import read_failures, read_transcripts
from nightscribe.storage.schema import Columns, arrow_schema
from nightscribe.storage.store import Store
from nightscribe.storage.tables import ROW_GROUP_ROWS, open_writer, read_rows

KEY = "speech.parquet"
SPOKEN, FAILED = "ok", "failed"
TIMED_WORD = pa.struct([("text", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())])
SPEECH: Columns = {
    "id": (pa.string(), "of the text, as the manifest has it"),
    "audio": (pa.string(), "the audio file; of a failed text there is none"),
    "status": (pa.string(), "ok or failed"),
    "reason": (pa.string(), "why it failed, as a code"),
    "detail": (pa.string(), "why it failed, in one sentence"),
    "duration_s": (pa.float64(), "how long the audio lasts"),
    "text": (pa.string(), "what was to be spoken, the turns joined by spaces"),
    "turns": (pa.list_(pa.string()), "the same, as two speakers alternate"),
    "words": (pa.list_(TIMED_WORD), "when each word is spoken, in seconds of the audio"),
    "voices": (pa.list_(pa.string()), "of the speakers"),
    "seed": (pa.int64(), "the same seed gives the same samples"),
    "model": (pa.string(), "name of the model"),
    "model_revision": (pa.string(), "revision of its weights"),
    "extra": (pa.string(), "other columns of the manifest, as JSON"),
}
SCHEMA = arrow_schema("speech", SPEECH)
ABOUT = ("id", "turns", "voices", "seed")


def write_speech_table(store: Store) -> str:
    """Write the table of everything that is published now, in place of an earlier one; its key."""
    rows = chain(
        map(_spoken, read_transcripts(store)),
        map(_failed, read_failures(store)),
    )
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        path = Path(folder) / KEY
        with path.open("wb") as file, open_writer(file, SCHEMA) as writer:
            for some in _batches(rows):
                writer.write_table(pa.Table.from_pylist(some, schema=SCHEMA))
        store.upload(path, KEY)
    return KEY


def read_speech_table(store: Store) -> list[dict[str, Any]]:
    """Every row of the table."""
    return read_rows(store, KEY).to_pylist()


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(islice(rows, ROW_GROUP_ROWS)):
        yield some


def _spoken(transcript: Transcript) -> dict[str, Any]:
    words = [
        {"text": word.text, "start_s": word.start_s, "end_s": word.end_s}
        for word in transcript.words
    ]
    return _about(transcript.recording) | {
        "status": SPOKEN,
        "duration_s": transcript.duration_s,
        "words": words,
        "model": transcript.model,
        "model_revision": transcript.model_revision,
    }


def _failed(failure: Failure) -> dict[str, Any]:
    return _about(failure.recording) | {
        "status": FAILED,
        "reason": failure.reason,
        "detail": failure.detail,
    }


def _about(recording: Recording) -> dict[str, Any]:
    about = json.loads(recording.extra or "{}")
    rest = {name: value for name, value in about.items() if name not in ABOUT}
    return {name: about[name] for name in ABOUT} | {
        "audio": recording.uri,
        "text": recording.text,
        "extra": json.dumps(rest, ensure_ascii=False) if rest else None,
    }
