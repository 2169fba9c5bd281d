"""On a GPU, texts are spoken by captured steps, and decoded beside them, as on a CPU.

On a pretended GPU, whose streams are watched for races.
"""

from dataclasses import replace

import numpy as np
import pytest

from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.model.cuda_graphs import CudaRuntime
from nightscribe.model.tts import text_machine
from nightscribe.model.tts.speech_runner import SpeechRunner
from nightscribe.speech.batch import Batch
from nightscribe.speech.config import SpeechConfig
from nightscribe.speech.requests import SpeechRequest
from nightscribe.speech.synthesizer import Synthesizer
from nightscribe.speech.voices import Voices
from tests.model.fake_cuda import Race, fake_cuda
from tests.speech.checkpoints import CROSS, PROMPT, write_speech_checkpoint, write_voice

# A pretended GPU looks at every operator.
pytestmark = pytest.mark.timeout(1500)

GUIDED = replace(CROSS, lookups=())
KINDS = {"cross": CROSS, "prompt": PROMPT, "guided": GUIDED}
NUM_SLOTS = 2
TURNS = [("one",), ("who", "he"), ('so <break time="0.2s"/> on',)]


PARAMS = ["cross", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("prompt", "guided"))]


@pytest.fixture(scope="module", params=PARAMS)
def synthesizer(request, tmp_path_factory):
    return synthesizer_of(KINDS[request.param], tmp_path_factory.mktemp(request.param))


def synthesizer_of(config, folder):
    write_speech_checkpoint(folder, config)
    for number, name in enumerate(("ann", "bob", "eve")):
        write_voice(folder, name, number)
        (folder / f"{name}.wav").touch()
    checkpoint = open_speech_checkpoint(str(folder))
    voices = Voices(checkpoint, str(folder), sound_of)
    sampling = SpeechConfig(device="cpu", num_slots=NUM_SLOTS, temperature=0.8, dtype="float32")
    return Synthesizer.load(checkpoint, voices, sampling, guidance=2.0)


def sound_of(path):
    rng = np.random.default_rng(len(path.stem))
    return (rng.standard_normal(20_000) * 3000).astype(np.int16)


def requests(synthesizer):
    has_vectors = synthesizer.speaker.model.config.speakers is not None
    for number, turns in enumerate(TURNS):
        names = ["ann", "bob", "eve", "ann"][number % 3 :][: 1 + (has_vectors and len(turns) > 1)]
        voices = tuple(names if has_vectors else [f"{name}.wav" for name in names])
        yield SpeechRequest(request_id=f"{number}", turns=turns, voices=voices, seed=number)


def spoken(synthesizer, frames_per_piece=25, **options):
    """Samples and words of each text, through slots that are taken again at once."""
    batch, waiting = Batch(synthesizer.speaker, NUM_SLOTS, **options), [*requests(synthesizer)]
    found = {}
    while waiting or batch.running:
        while waiting and not batch.is_full:
            batch.begin(waiting.pop(0), frames_per_piece)
        for utterance in batch.step():
            if utterance.is_complete:
                batch.remove(utterance)
                speech = synthesizer.speech_of(batch, utterance)
                found[speech.request.request_id] = speech
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("use_graphs", "frames_per_piece"), [(True, 25), (False, 1)])
def test_captured_steps_speak_the_same_and_never_race(
    synthesizer, use_graphs, frames_per_piece, monkeypatch
):
    monkeypatch.setattr(text_machine, "ROOM", 6)  # tables move while texts are spoken
    expected = spoken(synthesizer, frames_per_piece)
    with fake_cuda(monkeypatch) as watching:
        found = spoken(synthesizer, frames_per_piece, use_graphs=use_graphs)
    assert watching.num_calls > 5_000
    assert found.keys() == expected.keys() == {str(number) for number in range(len(TURNS))}
    for name, speech in found.items():
        assert speech.words == expected[name].words
        np.testing.assert_allclose(speech.samples_N, expected[name].samples_N, atol=1e-5)


def test_a_step_is_one_replay_and_nobody_waits_for_the_step_that_runs(synthesizer, monkeypatch):
    replays, waits = [], []
    with fake_cuda(monkeypatch):
        batch = Batch(synthesizer.speaker, NUM_SLOTS)
        for request in list(requests(synthesizer))[:NUM_SLOTS]:
            batch.begin(request, 25)
        for _ in range(8):  # captures both kinds of steps
            batch.step()
        runner = batch._runner
        for graph in runner._runtime._graphs.values():
            replay = graph.replay
            monkeypatch.setattr(
                graph, "replay", lambda replay=replay: (replays.append(1), replay())
            )
        monkeypatch.setattr(
            SpeechRunner, "_step", lambda *_: pytest.fail("a step was not captured")
        )
        newest = [queued.events for queued in batch._queued]
        wait = type(newest[0]).wait
        monkeypatch.setattr(
            type(newest[0]), "wait", lambda events: (waits.append(events), wait(events))[1]
        )
        batch.step()
    assert replays == [1]
    assert waits == newest  # the step before the one that was just queued
    assert len(batch._queued) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wait_event", "sync_streams"])
def test_a_decoder_that_does_not_wait_for_the_steps_is_caught(synthesizer, name, monkeypatch):
    monkeypatch.setattr(CudaRuntime, name, lambda *_: None)
    with fake_cuda(monkeypatch), pytest.raises(Race):
        spoken(synthesizer)


@pytest.mark.slow
def test_live_text_is_spoken_on_a_gpu_as_on_a_cpu(tmp_path, monkeypatch):
    """Whether its next word is here is asked of the step that runs."""
    synthesizer = synthesizer_of(CROSS, tmp_path)
    words = ["one", "who", "counts", "so"]
    request = SpeechRequest(request_id="live", turns=(), voices=("ann",), seed=4)

    def lived():
        batch = Batch(synthesizer.speaker, 1)
        utterance, waiting, heard = batch.begin(request, 1, False), list(words), []
        while not utterance.is_complete:
            if batch.is_idle:
                utterance.is_whole = not waiting
                if waiting:
                    batch.extend(utterance, f"{waiting.pop(0)} ")
            for one in batch.step():
                heard.append(one.take_samples())
        return np.concatenate(heard)

    expected_N = lived()
    (whole,) = synthesizer.speak([replace(request, turns=(" ".join(words),))])
    np.testing.assert_allclose(whole.samples_N, expected_N, atol=1e-5)
    with fake_cuda(monkeypatch):
        np.testing.assert_allclose(lived(), expected_N, atol=1e-5)
