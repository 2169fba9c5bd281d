"""Finished runs for tests."""

from nightscribe.records import Failure, Finding, Inspection, Recording, Span, Transcript, Word
from nightscribe.storage.result_tables import publish_failures, publish_transcripts


def speak(text, start_s=0.0, step_s=0.4, confidence=0.9):
    return tuple(
        Word(part, start_s + index * step_s, start_s + (index + 1) * step_s, confidence)
        for index, part in enumerate(text.split())
    )


def recording(uri, **more):
    return Recording(**{"uri": uri, "size_bytes": 1000, "version": f"v {uri}"} | more)


def transcript(uri, spoken_text, *, status="ok", reasons=(), findings=(), start_s=0.0, **more):
    words = speak(spoken_text, start_s)
    duration_s = (words[-1].end_s if words else 0.0) + 1.0
    return Transcript(
        recording=recording(uri, **more),
        duration_s=duration_s,
        status=status,
        words=words,
        num_shards=1,
        model="tiny",
        model_revision="r1",
        reasons=reasons,
        speech=(Span(0.0, duration_s),),
        inspection=Inspection(
            speech_s=duration_s,
            uncovered_speech_s=0.0,
            num_stalls=sum(finding.guard == "stall" for finding in findings),
            num_looped_words=0,
            num_silent_words=0,
            num_simultaneous_words=0,
            detected_language="en",
            is_language_mismatched=False,
            findings=tuple(findings),
        ),
    )


def failure(uri, reason="corrupt", **more):
    return Failure(
        recording=recording(uri, **more), stage="decode", reason=reason, detail="not a sound"
    )


STALL = Finding("stall", 0.5, 1.5, "9.0 s of speech without a word")


def call():
    """Two channels of one file, each answering the other."""
    stereo = {"num_channels": 2, "text": "hello who is there it is me"}
    return [
        transcript("/a/calls/7.wav", "Hello. Who is there?", channel=0, **stereo),
        transcript("/a/calls/7.wav", "It is me.", channel=1, start_s=4.0, **stereo),
    ]


def publish_archive(store):
    """A folder of talks, a stereo call, and a file that is broken."""
    talks = [
        transcript("/a/talks/one.mp3", "The cat sat on the mat.", text="the cat sat on the mat"),
        transcript(
            "/a/talks/two.mp3",
            "He went by bus",
            text="he went by train again",
            status="partial",
            reasons=("stall at 0.5-1.5 s: 9.0 s of speech without a word",),
            findings=(STALL,),
        ),
        transcript("/a/talks/three.flac", "nobody wrote down what this is"),
        transcript("/a/empty.wav", "", status="empty", text=""),
    ]
    publish_transcripts(store, talks)
    for channel in call():
        publish_transcripts(store, [channel])
    publish_failures(store, [failure("/a/broken.mp3", text="two words"), failure("/a/x.mp3")])
