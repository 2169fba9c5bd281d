"""`nightscribe serve`: live speech-to-text over sockets, on one machine without Ray."""

import asyncio
import logging
import sys
from dataclasses import dataclass, replace

from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.logs import JsonLines
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.options import check_options, group, option
from nightscribe.serving.config import ServingConfig

LOG_FORMATS = ("text", "json")
# A stream that is behind makes at most this many steps while others wait.
LIVE_ROUND_STEPS = 4
CPU_SLOTS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """Serve live speech-to-text in the protocols of moshi-server and OpenAI."""

    log_format: str = option("json", "format of log lines", choices=LOG_FORMATS, common=True)
    serving: ServingConfig = group(ServingConfig, "address, keys and limits")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits, for files")
    guards: GuardsConfig = group(GuardsConfig, "thresholds of the guards, for files")

    def __post_init__(self) -> None:
        check_options(self)


def run_serve(config: ServeConfig) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from nightscribe.serving.front import Server, ServerSettings, run_server

    log_to_stderr(config.log_format)
    settings = ServerSettings(
        model=config.model,
        engine=live_engine(config.engine),
        serving=config.serving,
        decode=config.decode,
        guards=config.guards,
    )

    def on_start(server: Server) -> None:
        slots = server.backend.engine.num_slots
        sys.stdout.write(f"{config.model.name} on {server.url}, {slots} slots\n")
        sys.stdout.flush()

    return asyncio.run(run_server(settings, on_start))


def live_engine(asked: EngineConfig) -> EngineConfig:
    """One frame a pass, short rounds, and on a CPU few slots: each costs its time."""
    from nightscribe.model.device import device_of

    num_slots = asked.num_slots
    if num_slots is None and device_of(asked.device).type == "cpu":
        num_slots = CPU_SLOTS
    round_steps = min(asked.round_steps, LIVE_ROUND_STEPS)
    return replace(asked, frames_per_pass=1, round_steps=round_steps, num_slots=num_slots)


def log_to_stderr(format: str) -> None:
    """Log lines of the server; nothing of what was said is in them unless asked for."""
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("nightscribe").setLevel(logging.INFO)


JOB = Job(name="serve", config=ServeConfig, run=run_serve)
