"""From the name of a checkpoint to a listener, on the machine of an actor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightscribe.cluster.rows import CutShard
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.prompting import Prompt
from nightscribe.records import ShardTranscript, primary_language
from nightscribe.transcription.retry import hear_attentively
from nightscribe.transcription.transcriber import Clip, Transcriber


class TranscriberListener:
    """A Transcriber, told what it is called."""

    def __init__(
        self,
        transcriber: Transcriber,
        model: str,
        model_revision: str,
        guards: GuardsConfig,
        keep_tokens: bool = False,
        primers: Mapping[str, Prompt] | None = None,
    ) -> None:
        self._transcriber, self._guards = transcriber, guards
        self._model, self._model_revision = model, model_revision
        self._keep_tokens, self._primers = keep_tokens, primers or {}

    @property
    def has_died(self) -> bool:
        return self._transcriber.has_died

    @property
    def tally(self) -> Any:
        return self._transcriber.engine.stats

    async def hear(self, cut: CutShard) -> ShardTranscript:
        shard = cut.shard
        primer = self._primers.get(primary_language(shard.recording.language or ""))
        clip = Clip(shard.shard_id, cut.samples_N, shard.recording.domain, primer)
        heard, better = await hear_attentively(
            self._transcriber, clip, cut.speech, shard.sample_rate_hz, self._guards
        )
        kept = slice(None) if self._keep_tokens else slice(0)
        return ShardTranscript(
            shard=shard,
            words=better.words,
            tokens=tuple(heard.tokens_T[kept].tolist()),
            token_confidences=tuple(heard.confidences_T[kept].tolist()),
            speech=cut.speech,
            turn_ends_s=heard.turn_ends_s,
            num_redecoded=len(better.fixed_stalls),
            model=self._model,
            model_revision=self._model_revision,
        )


def load_listener(
    model: ModelConfig,
    engine: EngineConfig,
    guards: GuardsConfig,
    keep_tokens: bool,
    primers: Mapping[str, np.ndarray],
) -> TranscriberListener:
    """Open the checkpoint and put it on its device, with as many slots as fit.

    Before recordings of a language it hears that language's primer, as samples at its own rate.
    """
    return TranscriberListener(
        Transcriber.load(model, engine),
        model.name,
        open_model(model).revision,
        guards,
        keep_tokens,
        {language: Prompt(samples_N=samples_N) for language, samples_N in primers.items()},
    )
