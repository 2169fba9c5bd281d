"""From the name of a checkpoint to a listener, on the machine of an actor."""

from typing import Any

from pipeline.cluster.rows import CutShard
from pipeline.engine.config import EngineConfig
from pipeline.guards.config import GuardsConfig
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.open import open_model
from pipeline.records import ShardTranscript
from pipeline.redecoding import hear_attentively
from pipeline.transcriber import Clip, Transcriber


class TranscriberListener:
    """A Transcriber, told what it is called."""

    def __init__(
        self,
        transcriber: Transcriber,
        model: str,
        model_revision: str,
        guards: GuardsConfig,
        keep_tokens: bool = False,
    ) -> None:
        self._transcriber, self._guards = transcriber, guards
        self._model, self._model_revision = model, model_revision
        self._keep_tokens = keep_tokens

    @property
    def has_died(self) -> bool:
        return self._transcriber.has_died

    @property
    def tally(self) -> Any:
        return self._transcriber.engine.tally

    async def hear(self, cut: CutShard) -> ShardTranscript:
        shard = cut.shard
        clip = Clip(shard.shard_id, cut.samples_N, shard.recording.domain)
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
            num_redecoded=len(better.cured),
            model=self._model,
            model_revision=self._model_revision,
        )


def load_listener(
    model: ModelConfig, engine: EngineConfig, guards: GuardsConfig, keep_tokens: bool
) -> TranscriberListener:
    """Open the checkpoint and put it on its device, with as many slots as fit."""
    return TranscriberListener(
        Transcriber.load(model, engine),
        model.name,
        open_model(model).revision,
        guards,
        keep_tokens,
    )
