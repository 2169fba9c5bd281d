"""Text to speech compared with moshi: the same random weights, one process, in turns.

    python -m ops.benchmarks.speech FIGURES.md [SIZE [BATCHES [PARTS [DTYPES [TURNS]]]]]

SIZE is toy, small or medium; PARTS some of step, depth and decoder, e.g. small 1,8 step float32.

A frame is 80 ms of one text: "frames/s" of a batch are those of all its texts. `step` is what makes
the codes of a frame: backbone, decision about the text, depth transformer. `depth` and `decoder`
are parts of their own: the depth transformer, and codes to samples.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch

from nightscribe.benchmarks.report import Table
from nightscribe.model.cpu_weights import pack
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.tts.sampling import SpeechSampling
from nightscribe.model.tts.script import FlatScript, ScriptOptions, script_entries
from nightscribe.model.tts.text_to_speech import SpeechOptions, Text, TextToSpeech
from ops.benchmarks.speech_models import config_of, voice_of
from tests.model.reference import native, random_moshi_mimi
from tests.model.tts import peer as peers

TEXT = "the night is long"
WARM_UP_TEXT = "so"
DEFAULTS = ["1,8,32", "step,depth,decoder", "float32,bfloat16", "3"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one run, by the wall and by the CPU, and how many frames it made."""

    wall_s: float
    cpu_s: float
    num_frames: int


def timed(run: Callable[[], int]) -> Measured:
    wall_s, cpu_s = perf_counter(), process_time()
    num_frames = run()
    return Measured(perf_counter() - wall_s, process_time() - cpu_s, num_frames)


def our_steps(model: TextToSpeech, batch: int, text: str = TEXT) -> int:
    """All steps of a batch of equal texts, as the engine makes them."""
    config = model.config
    options = ScriptOptions(frame_rate_hz=peers.FRAME_RATE_HZ, has_speakers=True)
    entries = script_entries([text], peers.encode, options)
    state = model.initial_state(batch)
    voice = voice_of(config)
    for slot in range(batch):
        given = Text(
            script=FlatScript.of(entries, config.words_ahead),
            voices=[voice],
            values={"control": "ok", "cfg": "1.0"},
        )
        model.begin(state, slot, given)
    last, step, num_steps = config.audio_delay_steps + 4, 0, 1 << 30
    while step < num_steps:
        ends = model.step(state).ends_S
        step += 1
        if num_steps == 1 << 30 and bool((ends >= 0).all()):
            num_steps = int(ends.max()) + last
    return step * batch


def their_steps(peer: peers.Peer, batch: int, text: str = TEXT) -> int:
    theirs = peer.theirs()
    entries = [theirs.prepare_script([text], padding_between=1) for _ in range(batch)]
    voice = voice_of(peer.config)
    attributes = [peers.attributes(peer.config, [voice], "1.0") for _ in entries]
    result = theirs.generate(entries, attributes)
    return (len(result.frames) + peer.config.max_codebook_delay) * batch


def our_depth(model: TextToSpeech, batch: int, num_calls: int = 20) -> int:
    y_RD = torch.randn(batch, model.config.dim, dtype=model.backbone.text_head.weight.dtype)
    text_R = torch.full((batch,), 3)
    with torch.no_grad():
        for _ in range(num_calls):
            model.depth(
                y_RD, text_R, model.num_codebooks, lambda _, logits_RV: logits_RV.argmax(-1)
            )
    return num_calls * batch


def their_depth(peer: peers.Peer, batch: int, num_calls: int = 20) -> int:
    """Through their generator, whose depth transformer has state."""
    from moshi.models.lm import LMGen

    lm = peer.lm
    given = [peers.attributes(peer.config, [voice_of(peer.config)], "1.0") for _ in range(batch)]
    conditions = lm.condition_provider.prepare_and_provide(given)
    generator = LMGen(lm, temp=0.0, temp_text=0.0, use_sampling=False, condition_tensors=conditions)
    y = torch.randn(batch, 1, lm.dim, dtype=lm.text_linear.weight.dtype)
    text = torch.full((batch,), 3)
    with torch.no_grad(), generator.streaming(batch):
        for _ in range(num_calls):
            generator.depformer_step(text, y)
    return num_calls * batch


def our_decoder(decoder: MimiDecoder, codes_BFK: torch.Tensor, frames: int) -> int:
    decoder.decode(codes_BFK, decoder.initial_state(len(codes_BFK), frames))
    return codes_BFK.shape[0] * codes_BFK.shape[1]


def their_decoder(mimi, codes_BKF: torch.Tensor, frames: int) -> int:
    with torch.no_grad(), mimi.streaming(len(codes_BKF)):
        for piece in codes_BKF.split(frames, dim=-1):
            mimi.decode(piece)
    return codes_BKF.shape[0] * codes_BKF.shape[-1]


def in_turns(
    runs: dict[str, Callable[[], int]], warm_ups: list[Callable[[], int]], turns: int
) -> dict[str, Measured]:
    """The median of some turns of each, after what does not count."""
    for warm_up in warm_ups:
        warm_up()
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            found[name].append(timed(run))
    return {
        name: Measured(
            median(one.wall_s for one in some),
            median(one.cpu_s for one in some),
            some[0].num_frames,
        )
        for name, some in found.items()
    }


def row(what: str, batch: int, dtype: str, found: dict[str, Measured]) -> tuple:
    ours, theirs = found["ours"], found["moshi"]
    rates = [one.num_frames / one.wall_s for one in (ours, theirs)]
    cpu = [one.num_frames / one.cpu_s for one in (ours, theirs)]
    shown = [f"{rate:,.1f}" for rate in rates]
    return (what, dtype, batch, *shown, f"{rates[0] / rates[1]:.2f}", f"{cpu[0] / cpu[1]:.2f}")


Row = tuple[str | float | int | None, ...]


def model_rows(
    size: str, batches: list[int], parts: list[str], dtypes: list[str], turns: int
) -> Iterator[Row]:
    for name in dtypes:
        config = config_of(size)
        peer = peers.random_peer(config, 3, -2.5)
        options = SpeechOptions(sampling=SpeechSampling(temperature=0.0))
        tensors = list(peers.native(peer.lm.state_dict(), config))
        model = TextToSpeech.load(config, tensors, "cpu", DTYPES[name], options)
        peer.lm.to(DTYPES[name])
        peer.lm.condition_provider.float()  # as in published checkpoints
        for batch in batches:
            if "step" in parts:
                runs = {
                    "ours": partial(our_steps, model, batch),
                    "moshi": partial(their_steps, peer, batch),
                }
                warm_ups = [partial(run, text=WARM_UP_TEXT) for run in runs.values()]
                yield row("step", batch, name, in_turns(runs, warm_ups, turns))
            if "depth" in parts:
                runs = {
                    "ours": partial(our_depth, model, batch),
                    "moshi": partial(their_depth, peer, batch),
                }
                yield row("depth", batch, name, in_turns(runs, [*runs.values()], turns))


def decoder_rows(size: str, batches: list[int], turns: int) -> Iterator[Row]:
    config = config_of(size).mimi
    mimi = random_moshi_mimi(config, seed=2)
    decoder = MimiDecoder.load(config, native(mimi.state_dict()), "cpu")
    pack(decoder, 25 * config.positions_per_frame)  # as the engine does
    for batch in batches:
        for frames in (1, 25):
            shape = (batch, 25, config.num_codebooks)
            codes_BFK = torch.randint(0, config.codebook_size, shape)
            runs = {
                "ours": partial(our_decoder, decoder, codes_BFK, frames),
                "moshi": partial(their_decoder, mimi, codes_BFK.mT.contiguous(), frames),
            }
            short_BFK = codes_BFK[:, :frames]
            warm_ups = [
                partial(our_decoder, decoder, short_BFK, frames),
                partial(their_decoder, mimi, short_BFK.mT.contiguous(), frames),
            ]
            what = f"decoder, {frames} frames a call"
            yield row(what, batch, "float32", in_turns(runs, warm_ups, turns))


def rows_of(
    size: str, batches: list[int], parts: list[str], dtypes: list[str], turns: int
) -> Iterator[Row]:
    yield from model_rows(size, batches, parts, dtypes, turns)
    if "decoder" in parts:
        yield from decoder_rows(size, batches, turns)


def main(path: Path, size: str, *given: str) -> None:
    words = [*given, *DEFAULTS[len(given) :]]
    batches, parts, dtypes = (word.split(",") for word in words[:3])
    turns = int(words[3])
    rows: list[Row] = []
    table = Table(
        title=f"Text to speech beside moshi: {size}",
        columns=("what", "dtype", "texts", "frames/s", "moshi", "ratio", "ratio by CPU time"),
        rows=rows,
        notes=(
            f"Random weights; greedy; {torch.get_num_threads()} threads; both in one process, in "
            f"turns, the median of {turns}.",
        ),
    )
    for one in rows_of(size, [*map(int, batches)], parts, dtypes, turns):
        rows.append(one)
        path.write_text(table.markdown())
        sys.stdout.write(f"{one}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(sys.argv[2:] or ["small"]))
