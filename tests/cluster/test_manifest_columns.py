"""`prompt`, `prompt_audio` and `terms` of a manifest, through the command and Ray, to the model."""

import json
from functools import partial
from typing import Any

import pytest

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.shell.language_prompts import read_prompt
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.terms_config import Terms
from nightscribe.storage.locations import S3Config, open_store
from nightscribe.storage.parts import FOLDER, outcomes_of
from nightscribe.storage.tables import files
from nightscribe.transcription.transcriber import Clip, Transcriber
from tests.cluster.test_command import RATE_HZ, ROOT, rows, transcribe

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
]

STRENGTH = 8.0
COLUMNS: dict[str, dict[str, Any]] = {
    "alice.opus": {"prompt": "press five"},
    "daniel.opus": {"prompt_audio": str(ROOT / "samples/human-press-five.flac")},
    "bella.opus": {"terms": ["press six", "yankee"]},
    "human-press-six.flac": {},
}


def transcribed_directly(columns):
    """The tokens of every file, heard by one Transcriber in this process."""
    prompt_of = partial(read_prompt, DecodeConfig(), RATE_HZ, S3Config())
    transcriber = Transcriber.load(
        ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny")),
        EngineConfig(device="cpu", dtype="float32", num_slots=4),
        terms=Terms((), STRENGTH, are_in_clips=True),
    )
    clips = []
    for name, given in columns.items():
        samples_N, _ = read_waveform(ROOT / "samples" / name, DecodeConfig(), RATE_HZ)
        has_prompt = "prompt" in given or "prompt_audio" in given
        prompt = prompt_of(given.get("prompt", ""), given.get("prompt_audio"))
        terms = tuple(given.get("terms", ()))
        clips.append(Clip(name, samples_N, prompt=prompt if has_prompt else None, terms=terms))
    return {one.clip_id: one.tokens_T.tolist() for one in transcriber.transcribe(clips)}


def test_every_column_of_a_manifest_reaches_the_model_for_its_recording_alone(local_ray, tmp_path):
    manifest, output = tmp_path / "manifest.jsonl", tmp_path / "out"
    named = [{"uri": str(ROOT / "samples" / name), **given} for name, given in COLUMNS.items()]
    manifest.write_text("\n".join(map(json.dumps, named)))
    done = transcribe(manifest, output, local_ray, f"terms.strength={STRENGTH}")
    assert done.returncode == 0, done.stderr
    store = open_store(str(output), S3Config())
    shards = [one for entry in files(store, FOLDER) for one in outcomes_of(store, entry.key)]
    heard = {one.shard.recording.uri.rpartition("/")[2]: list(one.tokens) for one in shards}
    assert heard == transcribed_directly(COLUMNS)
    without = transcribed_directly({name: {} for name in COLUMNS})
    differing = {name for name in COLUMNS if heard[name] != without[name]}
    assert differing == {"alice.opus", "daniel.opus", "bella.opus"}
    told = {row["uri"].rpartition("/")[2]: row["terms"] for row in rows(output, "transcripts")}
    assert told["bella.opus"] == ["press six", "yankee"]
    assert told["alice.opus"] == []
