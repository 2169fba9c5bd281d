"""`nightscribe serve`: live speech-to-text and text-to-speech, on one machine or on Ray Serve."""

import asyncio
import logging
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.cluster.serving.config import RayServeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.errors import NightscribeError
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.shell.config import Job, configurations
from nightscribe.jobs.shell.logs import JsonLines
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.options import check_options, group, option
from nightscribe.runs.config import ClusterConfig, RayConfig
from nightscribe.serving.config import ServingConfig
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig

LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Serve speech-to-text and text-to-speech in the protocols of moshi-server and OpenAI."""

    log_format: str = option("json", "format of log lines", choices=LOG_FORMATS, common=True)
    serving: ServingConfig = group(ServingConfig, "address, keys and limits")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits, for files")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards, for files")
    tts: SpeechModelConfig = group(
        lambda: SpeechModelConfig(checkpoint=""), "which text-to-speech model; none: no speech"
    )
    speech: SpeechConfig = group(SpeechConfig, "device, precision and sampling of speech")
    voice: str = option(
        "expresso/ex03-ex01_happy_001_channel1_334s.wav",
        "voice where a client names none: see nightscribe speak",
    )
    serve: RayServeConfig = group(RayServeConfig, "engines and fronts on Ray Serve")
    ray: RayConfig = group(RayConfig, "which Ray cluster, for serve.ray=true")

    def __post_init__(self) -> None:
        check_options(self)
        if self.serve.ray and self.tts.checkpoint:
            raise ValueError("serve.ray=true serves no text-to-speech model: leave out tts")
        if self.serve.ray and not self.model.checkpoint:
            raise ValueError("serve.ray=true needs a speech-to-text model: set model=NAME")


def run_serve(config: ServeConfig) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    log_to_stderr(config.log_format)
    return _serve_on_ray(config) if config.serve.ray else _serve_here(config)


def _serve_here(config: ServeConfig) -> int:
    from nightscribe.serving.front import Server, run_server, run_speech_server

    def on_start(server: Server) -> None:
        _say(config, server.url, f", {server.backend.engine.num_slots} slots")

    if config.model.checkpoint:
        return asyncio.run(run_server(_settings(config), on_start))
    speech = _speech(config)
    if speech is None:
        raise ValueError("there is nothing to serve: set model=NAME, tts=NAME, or both")
    return asyncio.run(run_speech_server(speech, config.serving, config.decode, on_start))


def _speech(config: ServeConfig) -> Any:
    from nightscribe.serving.speaking import SpeechSettings

    if not config.tts.checkpoint:
        return None
    return SpeechSettings(tts=config.tts, speech=config.speech, voice=config.voice)


def _serve_on_ray(config: ServeConfig) -> int:
    from nightscribe.cluster.ray_session import connected

    settings = _engine_settings(config)
    with connected(config.ray, ClusterConfig()):
        from nightscribe.cluster.serving.application import run

        return run(settings, lambda url: _say(config, url, " on Ray Serve"))


def application(arguments: dict[str, Any]) -> Any:
    """What Ray Serve imports where it runs the application itself, as KubeRay's RayService does.

    The only argument is `words`: those of the command line.
    """
    from nightscribe.cluster.serving.application import application

    (config,) = configurations(JOB, [*arguments["words"]])
    return application(_engine_settings(config))


def _engine_settings(config: ServeConfig) -> Any:
    try:
        from nightscribe.cluster.serving.engine_node import EngineSettings
    except ModuleNotFoundError as error:
        raise NightscribeError(
            f"serve.ray=true needs Ray Serve ({error.name} is missing): "
            "pip install 'nightscribe[rayserve]'"
        ) from None
    return EngineSettings(
        server=_settings(config),
        scale=config.serve,
        start_logs=partial(log_to_stderr, config.log_format),
    )


def _settings(config: ServeConfig) -> Any:
    from nightscribe.serving.front import ServerSettings

    return ServerSettings(
        model=config.model,
        engine=config.engine,
        serving=config.serving,
        decode=config.decode,
        guards=config.guards,
        speech=_speech(config),
    )


def _say(config: ServeConfig, url: str, more: str) -> None:
    name = config.model.name if config.model.checkpoint else config.tts.checkpoint
    sys.stdout.write(f"{name} on {url}{more}\n")
    sys.stdout.flush()


def log_to_stderr(format: str) -> None:
    """Log lines of the server; nothing of what was said is in them unless asked for."""
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("nightscribe").setLevel(logging.INFO)


JOB = Job(name="serve", config=ServeConfig, run=run_serve)
