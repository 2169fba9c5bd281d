"""Example speech that is played ahead of recordings of its language."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.records import primary_language
from nightscribe.storage.locations import S3Config, open_file

if TYPE_CHECKING:
    from nightscribe.model.prompting import Prompt

KEPT_PROMPTS = 64
MAX_PROMPT_S = 30
HEX_DIGITS = 16

LanguagePrompts = dict[str, NDArray[np.int16]]


def read_prompts(files: Mapping[str, str], decode: DecodeConfig, rate_hz: int) -> LanguagePrompts:
    """The samples for each language, read here because workers may not reach the files."""
    prompts = {}
    for language, audio in files.items():
        samples_N = _samples_of(audio, decode, rate_hz)
        if len(samples_N) > MAX_PROMPT_S * rate_hz:
            duration_s = len(samples_N) / rate_hz
            raise ValueError(
                f"language_prompts.{language}={audio} lasts {duration_s:.0f} s; "
                f"at most {MAX_PROMPT_S} s are allowed"
            )
        prompts[primary_language(language)] = samples_N
    return prompts


def read_prompt(
    decode: DecodeConfig, rate_hz: int, s3: S3Config, text: str, audio: str | None
) -> "Prompt":
    """The prompt that a manifest gives one recording; on a worker, which keeps a few of them."""
    from nightscribe.model.prompting import Prompt

    if audio is None:
        return Prompt(text=text)
    return Prompt(text=text, samples_N=_fetched(audio, decode, rate_hz, s3))


@lru_cache(KEPT_PROMPTS)
def _fetched(audio: str, decode: DecodeConfig, rate_hz: int, s3: S3Config) -> NDArray[np.int16]:
    store, key = open_file(audio, s3)
    with NamedTemporaryFile(suffix=PurePosixPath(key).suffix) as copy:
        copy.write(store.read(key))
        copy.flush()
        samples_N = _samples_of(copy.name, decode, rate_hz)
    if len(samples_N) > MAX_PROMPT_S * rate_hz:
        raise ValueError(f"prompt_audio {audio} is longer than {MAX_PROMPT_S} s")
    return samples_N


def digests(prompts: LanguagePrompts) -> dict[str, str]:
    """A digest of the samples of each language, for the settings of a run."""
    return {
        language: sha256(samples_N.tobytes()).hexdigest()[:HEX_DIGITS]
        for language, samples_N in sorted(prompts.items())
    }


def _samples_of(audio: str, decode: DecodeConfig, rate_hz: int) -> NDArray[np.int16]:
    samples_N, outcome = read_waveform(Path(audio), decode, rate_hz)
    if not len(samples_N):
        raise ValueError(f"{audio} cannot be decoded: {outcome.detail} ({outcome.reason})")
    return samples_N
