"""From the name of a checkpoint to a listener, on the machine of an actor."""

from pipeline.cluster.actor import TranscriberListener
from pipeline.engine.config import EngineConfig
from pipeline.guards.config import GuardsConfig
from pipeline.model.checkpoints.model_config import ModelConfig
from pipeline.model.checkpoints.open import open_model
from pipeline.transcriber import Transcriber


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
