"""Who really spoke when: from RTTM files, and from manifests whose words or spans name speakers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightscribe.records import SpeakerSpan, Word
from nightscribe.storage.locations import S3Config, open_file, open_store
from nightscribe.storage.text_files import text_of

RTTM = ".rttm"
# Words of one speaker with a shorter pause between them are one span.
JOINED_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class SpokenReference:
    """Who speaks when in one file, and the words with their speakers where these are known."""

    spans: tuple[SpeakerSpan, ...]
    words: tuple[Word, ...] = ()


def read_rttm(source: str, s3: S3Config) -> dict[str, SpokenReference]:
    """The references of an RTTM file or of a folder of them, by the names of recordings in it."""
    spans: dict[str, list[SpeakerSpan]] = {}
    for name, text in _rttm_files(source, s3):
        for recording, span in _rttm_rows(name, text):
            spans.setdefault(recording, []).append(span)
    if not spans:
        raise ValueError(f"{source}: there is no row of type SPEAKER in it")
    return {recording: SpokenReference(tuple(some)) for recording, some in spans.items()}


def spoken_reference(row: Mapping[str, object], words: Sequence[Word]) -> SpokenReference | None:
    """What a row of a manifest says about speakers; None if it says nothing."""
    named = tuple(word for word in words if word.speaker is not None)
    spans = row.get("speaker_spans")
    if spans:
        return SpokenReference(tuple(spans), named)  # type: ignore[arg-type]
    return SpokenReference(tuple(spans_of_words(named)), named) if named else None


def spans_of_words(words: Iterable[Word]) -> Iterator[SpeakerSpan]:
    """The spans in which each speaker speaks, where only the words are known."""
    last: dict[str, SpeakerSpan] = {}
    for word in sorted(words, key=lambda word: word.start_s):
        name = word.speaker or ""
        before = last.get(name)
        if before is None or word.start_s - before.end_s > JOINED_PAUSE_S:
            if before is not None:
                yield before
            last[name] = SpeakerSpan(name, word.start_s, word.end_s)
        else:
            last[name] = SpeakerSpan(name, before.start_s, max(before.end_s, word.end_s))
    yield from last.values()


def _rttm_files(source: str, s3: S3Config) -> Iterator[tuple[str, str]]:
    if source.lower().endswith(RTTM):
        store, key = open_file(source, s3)
        yield source, text_of(store.read(key), source)
        return
    store = open_store(source, s3)
    for entry in sorted(store.entries(), key=lambda entry: entry.key):
        if entry.key.lower().endswith(RTTM):
            name = store.uri(entry.key)
            yield name, text_of(store.read(entry.key), name)


def _rttm_rows(name: str, text: str) -> Iterator[tuple[str, SpeakerSpan]]:
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER" or line.startswith(";;"):
            continue
        try:
            start_s, duration_s = float(fields[3]), float(fields[4])
            yield fields[1], SpeakerSpan(fields[7], start_s, start_s + duration_s)
        except (IndexError, ValueError):
            raise ValueError(
                f"{name} line {number}: expected SPEAKER NAME CHANNEL START DURATION <NA> <NA> "
                f"SPEAKER_NAME, got {line:.60}"
            ) from None
