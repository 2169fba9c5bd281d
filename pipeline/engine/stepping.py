"""Hears a step after the other: a stream's steps are known when it is admitted.

The host is one round ahead: while a round runs it plans the next, has its chunk encoded and its
steps queued, and only then reads what the first one said.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from nightscribe.engine.encoder_prefetch import Ahead
from nightscribe.engine.loop import Engine, Tally
from nightscribe.engine.scheduler import Round, Segment, Slots, Source, buckets_of
from nightscribe.engine.step_model import Answers, Said, StepModel
from nightscribe.engine.stream import Heard, Listening


def stepping_engine(
    model: StepModel, *, round_steps: int = 25, reproducible: bool = False
) -> Engine:
    """An engine that looks at what was said every `round_steps` steps.

    A `reproducible` one always runs over all slots: in fewer bits than float32, too, what a stream
    says then depends on no neighbour.
    """
    buckets = buckets_of(model, reproducible)
    return Engine(buckets[-1], lambda tally: _Stepping(model, buckets, round_steps, tally))


class _Stepping:
    """The round that runs, and everything that earlier ones said about unfinished streams."""

    def __init__(
        self, model: StepModel, buckets: Sequence[int], round_steps: int, tally: Tally
    ) -> None:
        self._model, self._tally = model, tally
        self._slots = Slots(buckets, round_steps)
        self._ahead = Ahead(model.frame_samples, round_steps)
        self._codes: list[Any] = []
        self._listening: dict[int, Listening] = {}  # by identity of the stream
        self._planned: Round | None = None
        self._running: tuple[Round, Said] | None = None

    def admit(self, source: Source) -> bool:
        """Plan the next round; whether there is one, or one to read."""
        self._planned = self._slots.plan(source, wait=self._running is None)
        return self._planned is not None or self._running is not None

    def exchange(self) -> Iterator[Heard]:
        """Queue the planned round, then read the one before it."""
        before, self._running = self._running, self._launched(self._planned)
        if before is not None:
            yield from self._read(*before)

    def _launched(self, planned: Round | None) -> tuple[Round, Said] | None:
        self._count(planned)
        if planned is None:
            return None
        if planned.moves:
            sources, targets = zip(*planned.moves, strict=True)
            self._model.move(sources, targets)
        chunk, steps = self._ahead.prepare(planned)
        self._codes = [*self._codes[-1:], self._model.encode(chunk)]
        return planned, self._model.run(steps, self._codes)

    def _count(self, planned: Round | None) -> None:
        if planned is None:
            self._tally.slots_busy = 0.0
            return
        self._tally.slots_busy = planned.num_live_steps / planned.num_steps
        self._tally.add_round(
            num_steps=planned.num_steps,
            num_slots=planned.num_slots,
            num_live_steps=planned.num_live_steps,
        )

    def _read(self, planned: Round, said: Said) -> Iterator[Heard]:
        answers = said.wait()
        for segment in planned.segments:
            listening = self._listening.get(id(segment.stream))
            if listening is None:
                listening = Listening(segment.stream, self._model.num_heads)
                self._listening[id(segment.stream)] = listening
            _write(listening, segment, answers)
            if segment.is_last:
                yield self._listening.pop(id(segment.stream)).heard()


def _write(listening: Listening, segment: Segment, answers: Answers) -> None:
    span = slice(segment.round_step, segment.round_step + segment.num_steps), segment.slot
    listening.write(
        slice(segment.first_step, segment.end_step),
        answers.tokens_TS[span],
        answers.confidences_TS[span],
        answers.heads_TSH[span],
    )
