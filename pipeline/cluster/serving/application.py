"""The application of Ray Serve: fronts, engines, the directory; and a command that runs it."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException

from nightscribe.cluster.serving.autoscaling import engines_wanted
from nightscribe.cluster.serving.directory import EngineDirectory
from nightscribe.cluster.serving.engine_node import EngineNode, EngineSettings
from nightscribe.cluster.serving.front import Front
from nightscribe.errors import NightscribeError

NAME, DIRECTORY = "nightscribe", "directory"
# Ray Serve ends a replica this long after its sessions should have ended.
KILL_AFTER_S = 60.0
LOAD_WINDOW_S = 15.0
MAX_REQUESTS = 1000
FRONT_CPUS = 0.1
HEALTH_CHECK_S = 3.0  # three errors, and an engine is replaced
STOP_CHECK_S = 0.2


class ServeError(NightscribeError):
    """Ray Serve could not start the engines."""

    fault = "environment"


def application(settings: EngineSettings) -> serve.Application:
    """Everything that is deployed, bound together."""
    directory = known_engines()
    return fronts(settings, directory, _engines(settings, directory))


def known_engines() -> serve.Application:
    deployed = serve.deployment(
        name=DIRECTORY, max_ongoing_requests=MAX_REQUESTS, ray_actor_options={"num_cpus": 0}
    )
    return deployed(EngineDirectory).bind()


def fronts(settings: EngineSettings, directory: Any, engines: Any) -> serve.Application:
    """What proxies call; the engines are bound to it so that they are deployed, too."""
    deployed = serve.deployment(
        name="front",
        num_replicas=settings.scale.fronts,
        max_ongoing_requests=MAX_REQUESTS,
        ray_actor_options={"num_cpus": FRONT_CPUS},
    )
    server = settings.server
    return deployed(Front).bind(server.serving, server.model.name, directory, engines)


def _engines(settings: EngineSettings, directory: Any) -> serve.Application:
    scale = settings.scale
    deployed = serve.deployment(
        name="engine",
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.min_engines,
            max_replicas=scale.max_engines,
            upscale_delay_s=scale.upscale_delay_s,
            downscale_delay_s=scale.downscale_delay_s,
            look_back_period_s=LOAD_WINDOW_S,
            policy=AutoscalingPolicy(policy_function=engines_wanted),
        ),
        health_check_period_s=HEALTH_CHECK_S,
        graceful_shutdown_timeout_s=scale.drain_s + KILL_AFTER_S,
        ray_actor_options={"num_gpus": _gpus(settings), "num_cpus": scale.cpus_per_engine},
    )
    return deployed(EngineNode).bind(settings, directory)


def _gpus(settings: EngineSettings) -> float:
    asked = settings.scale.gpus_per_engine
    if asked is not None:
        return asked
    return 0.0 if settings.server.engine.device == "cpu" else 1.0


def run(settings: EngineSettings, on_start: Callable[[str], None]) -> int:
    """Serve on the Ray that this process is connected to until SIGTERM or Ctrl-C."""
    check_gpus(_gpus(settings))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serving = settings.server.serving
    serve.start(
        proxy_location=ProxyLocation.EveryNode,
        http_options=HTTPOptions(host=serving.host, port=serving.port),
    )
    try:
        serve.run(application(settings), name=NAME, route_prefix="/")
    except (RayError, RayServeException, RuntimeError) as error:
        serve.delete(NAME)
        raise ServeError(f"Ray Serve did not start: {' '.join(str(error).split())}") from error
    on_start(f"http://{serving.host}:{serving.port}")
    while not stop.wait(STOP_CHECK_S):
        pass
    _end(serving.drain_s)
    return 0


def check_gpus(gpus: float) -> None:
    """Without one, Ray Serve would wait for it and say nothing."""
    if gpus and not ray.cluster_resources().get("GPU"):
        raise ServeError("Ray has no GPU; with engine.device=cpu the engines run on CPUs")


def _end(drain_s: float) -> None:
    """Let every session end by itself for a while, then end the application."""
    directory = serve.get_deployment_handle(DIRECTORY, NAME)
    directory.drain.remote(drain_s).result()
    deadline_s = time.monotonic() + drain_s
    while _num_sessions(directory) and time.monotonic() < deadline_s:
        time.sleep(STOP_CHECK_S)
    serve.delete(NAME)


def _num_sessions(directory: Any) -> int:
    return sum(one["num_used"] for one in directory.engines.remote().result())
