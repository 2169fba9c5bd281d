"""What a revision changed: the words of each transcript beside those it had before."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from nightscribe.records import Recording, Transcript, Word

KINDS = ("replaced", "added", "removed")
Place = tuple[str, float, float | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordChange:
    """Words that differ, in seconds of the file; one side may be empty."""

    start_s: float
    end_s: float
    before: str
    after: str

    @property
    def kind(self) -> str:
        if self.before and self.after:
            return "replaced"
        return "added" if self.after else "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptDiff:
    """One transcript whose words are not those of the revision before."""

    recording: Recording
    revision_before: int
    model_before: str
    model: str
    num_words: int
    changes: tuple[WordChange, ...]

    def row(self) -> dict[str, Any]:
        """The row of the table of differences."""
        return {
            "recording_id": self.recording.recording_id,
            "uri": self.recording.uri,
            "channel": self.recording.channel,
            "revision_before": self.revision_before,
            "revision": self.recording.revision,
            "model_before": self.model_before,
            "model": self.model,
            "num_words": self.num_words,
            "changes": [
                {
                    "kind": one.kind,
                    "start_s": one.start_s,
                    "end_s": one.end_s,
                    "before": one.before,
                    "after": one.after,
                }
                for one in self.changes
            ],
        }


def transcript_diffs(
    transcripts: Iterable[Transcript], replaced: Iterable[Transcript]
) -> Iterator[TranscriptDiff]:
    """Each transcript with the newest one that it replaced; those without changes have none."""
    before: dict[Place, Transcript] = {}
    older = list(replaced)
    for transcript in sorted(older, key=lambda one: one.recording.revision):
        before[_place(transcript.recording)] = transcript
    for transcript in transcripts:
        old = before.get(_place(transcript.recording))
        if old is not None and old.recording.revision < transcript.recording.revision:
            yield _diff(old, transcript)


def count_changes(diffs: Iterable[TranscriptDiff]) -> Counter[tuple[str, str]]:
    """How often each text was replaced by each other one, over all transcripts."""
    return Counter((one.before, one.after) for diff in diffs for one in diff.changes)


def word_changes(before: Sequence[Word], after: Sequence[Word]) -> Iterator[WordChange]:
    old_texts, texts = ([word.text for word in words] for words in (before, after))
    matcher = SequenceMatcher(None, old_texts, texts)
    for kind, old_start, old_end, start, end in matcher.get_opcodes():
        if kind != "equal":
            old, new = before[old_start:old_end], after[start:end]
            both = [*old, *new]
            yield WordChange(
                start_s=min(word.start_s for word in both),
                end_s=max(word.end_s for word in both),
                before=" ".join(word.text for word in old),
                after=" ".join(word.text for word in new),
            )


def _diff(old: Transcript, new: Transcript) -> TranscriptDiff:
    return TranscriptDiff(
        recording=new.recording,
        revision_before=old.recording.revision,
        model_before=f"{old.model} {old.model_revision}",
        model=f"{new.model} {new.model_revision}",
        num_words=len(new.words),
        changes=tuple(word_changes(old.words, new.words)),
    )


def _place(recording: Recording) -> Place:
    return recording.uri, recording.start_s, recording.end_s, recording.channel
