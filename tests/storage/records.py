"""Recordings and what was heard of them, made up for tests."""

from dataclasses import replace

from nightscribe.records import Failure, Recording, Shard, ShardTranscript, Span, Word

RATE_HZ = 100
SHARD_SAMPLES = 1000


def recording(name="a", **change):
    return Recording(
        **{"uri": f"s3://archive/{name}.mp3", "size_bytes": 1000, "version": f"v-{name}"} | change
    )


def shards(of, count, damage=None):
    return [
        Shard(
            recording=of,
            index=index,
            sample_rate_hz=RATE_HZ,
            start_sample=index * SHARD_SAMPLES,
            end_sample=(index + 1) * SHARD_SAMPLES,
            owned_start_sample=index * SHARD_SAMPLES,
            owned_end_sample=(index + 1) * SHARD_SAMPLES,
            is_last=index == count - 1,
            damage=damage if index == count - 1 else None,
        )
        for index in range(count)
    ]


def heard(shard, text=None):
    text = text or f"word{shard.index}"
    return ShardTranscript(
        shard=shard,
        words=(Word(text, 1.0, 1.5, 0.5), Word("end", 8.0, 8.48, 0.25)),
        model="tiny",
        model_revision="r1",
        tokens=(1, 2, 3),
        token_confidences=(0.5, 0.25, 1.0),
        speech=(Span(0.5, 9.0),),
        turn_ends_s=(9.5,),
        num_redecoded=1,
    )


def heard_all(of, count):
    return [heard(shard) for shard in shards(of, count)]


def failure(of, shard=None, **change):
    given = {"stage": "decode", "reason": "no_audio", "detail": "there is no audio in it"}
    return Failure(recording=of, shard=shard, **given | change)


def channels_of(of, count):
    return [replace(one) for one in of.split(count)]
