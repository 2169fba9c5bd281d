"""Speculative decoding: how many frames of a pass are accepted, and the cost of a wider pass.

    python -m ops.benchmarks.several_frames right models/tiny samples 2 3 4 6 8
    python -m ops.benchmarks.several_frames cost 1b 2 1,8,32 2 4 8    # size, layers, slots, frames

`right` transcribes every recording of a folder, long ones in pieces of a minute, and counts
accepted frames. `cost` times a step of one frame and passes of several in turns, with random
weights and full KV caches. The speed-up is accepted frames times the cost of a step over the cost
of a pass. Prints Markdown.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from nightscribe.benchmarks.measurements import in_turns, medians
from nightscribe.benchmarks.random_weights import config_of, draw
from nightscribe.engine.loop import Engine, step_engine
from nightscribe.engine.speculative import speculative_engine
from nightscribe.model.checkpoints.open import Checkpoint, open_checkpoint
from nightscribe.model.cpu_weights import pack
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.prompting import SpeechProcessor
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner
from nightscribe.transcription.transcriber import Clip, ClipTranscript, Transcriber, clip_adapter
from ops.benchmarks.precisions import clips_of

NUM_SLOTS, ROUND_STEPS, REPEATS = 8, 25, 7
CPU = torch.device("cpu")


class Counting:
    """How many steps the passes of a model accepted, in slots with enough frames left.

    Reads a round as soon as it is queued, as a CPU's engine does.
    """

    def __init__(self, model: SpeculativeRunner) -> None:
        self.num_steps = self.num_passes = 0
        self._model, self._run, model.run = model, model.run, self

    def __call__(self, drafts, codes):
        pending = self._run(drafts, codes)
        left_S = drafts.ends_S - drafts.bases_S
        is_busy_S = left_S >= self._model.num_passes * self._model.frames_per_pass
        self.num_steps += int(pending.wait().num_steps_S[is_busy_S].sum())
        self.num_passes += self._model.num_passes * int(is_busy_S.sum())
        return pending


def guess_padding(model: SpeculativeRunner) -> None:
    """Make a model draft only padding."""
    plain = model._write_draft

    def guess(tables, tokens_ST, num_steps_S):
        plain(tables, tokens_ST, num_steps_S)
        tables.text_ST[:, 1:] = model._language_model.config.padding_id

    model._write_draft = guess


def right(checkpoint_name: str, folder: str, *widths: str) -> None:
    checkpoint = open_checkpoint(checkpoint_name)
    clips = list(clips_of(Path(folder), checkpoint.config.mimi.sample_rate_hz))
    single = StepRunner(_speech(checkpoint), NUM_SLOTS, ROUND_STEPS)
    plain, plain_s = _outputs(step_engine(single, round_steps=ROUND_STEPS), checkpoint, clips)
    padding_id = checkpoint.config.language_model.padding_id
    tokens = np.concatenate([output.tokens_T for output in plain.values()])
    sys.stdout.write(f"{len(tokens)} tokens, {np.mean(tokens == padding_id):.1%} padding\n\n")
    sys.stdout.write("| frames of a pass | guesses | right | tokens alike | processor time |\n")
    sys.stdout.write("|--:|---|--:|--:|--:|\n")
    for width in map(int, widths):
        for guesses in ("padding", "the last pass, then padding"):
            model = SpeculativeRunner(
                _speech(checkpoint), NUM_SLOTS, width, -(-ROUND_STEPS // width)
            )
            if guesses == "padding":
                guess_padding(model)
            count = Counting(model)
            found, spent_s = _outputs(speculative_engine(model), checkpoint, clips)
            alike = [found[name].tokens_T == output.tokens_T for name, output in plain.items()]
            sys.stdout.write(
                f"| {width} | {guesses} | {count.num_steps / count.num_passes:.2f} "
                f"| {np.concatenate(alike).mean():.2%} | {spent_s / plain_s:.2f} |\n"
            )
            sys.stdout.flush()


def _speech(checkpoint: Checkpoint) -> SpeechToText:
    return SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        CPU,
        torch.float32,
    )


def _outputs(
    engine: Engine, checkpoint: Checkpoint, clips: list[Clip]
) -> tuple[dict[str, ClipTranscript], float]:
    interpreter = SpeechProcessor(
        config=checkpoint.config,
        tokenizer=checkpoint.tokenizer,
        domains={},
        default_domain=None,
    )
    transcriber = Transcriber(engine, clip_adapter(interpreter))
    began_s = time.process_time()
    output = {one.clip_id: one for one in transcriber.transcribe(clips)}
    return output, time.process_time() - began_s


def cost(size: str, num_layers: str, slots: str, *widths: str) -> None:
    config = config_of(size, int(num_layers)).language_model
    model = LanguageModel(config).eval().requires_grad_(False)
    draw(model)
    pack(model, max(map(int, slots.split(","))))
    names = " | ".join(f"{width} frames" for width in widths)
    sys.stdout.write(f"{size}, {num_layers} layers, float32, ring full, medians of {REPEATS}\n\n")
    sys.stdout.write(f"| slots | a step, ms | {names} |\n|--:|--:|{'--:|' * len(widths)}\n")
    for num_slots in map(int, slots.split(",")):
        passes = {width: _pass(model, num_slots, width) for width in (1, *map(int, widths))}
        times = {w: medians(elapsed) for w, elapsed in in_turns(passes, REPEATS, CPU).items()}
        step_s = times[1].cpu_s
        ratios = " | ".join(f"{times[int(w)].cpu_s / step_s:.2f}" for w in widths)
        sys.stdout.write(f"| {num_slots} | {step_s * 1e3:.1f} | {ratios} |\n")
        sys.stdout.flush()


def _pass(model: LanguageModel, num_slots: int, width: int):
    config = model.config
    codes = torch.randint(0, config.audio_card, (num_slots, width, config.num_codebooks))
    text = torch.randint(0, config.text_card, (num_slots, width))
    cache = model.empty_cache(num_slots, width)
    for kept in (cache.keys, cache.values):
        kept.data_LBHCE.normal_()
    cache.next_positions_B.fill_(2 * cache.capacity)
    never_S, reach = torch.zeros(num_slots, dtype=torch.bool), (cache.capacity,) * num_slots
    return lambda: model.extend(codes, text, cache, never_S, reach).logits_STV.argmax(-1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"right": right, "cost": cost}[sys.argv[1]](*sys.argv[2:])
