"""How many engines and fronts serve, and when engines are added and taken away."""

from dataclasses import dataclass

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class RayServeConfig:
    """Engines and fronts on a Ray cluster."""

    ray: bool = option(
        False, "serve on Ray Serve: an engine on each GPU, and fronts at serving.port", common=True
    )
    min_engines: int = option(1, "engines that always run", minimum=1, common=True)
    max_engines: int = option(1, "most engines, as the sessions need them", minimum=1, common=True)
    target_share: float = option(
        0.7, "share of the slots in use above which an engine is added", above=0, maximum=1
    )
    upscale_delay_s: float = option(10.0, "how long more engines must be needed", minimum=0)
    downscale_delay_s: float = option(600.0, "how long fewer must suffice", minimum=0)
    drain_s: float = option(
        3600.0, "time that the sessions of an engine that is taken away get to end", minimum=0
    )
    fronts: int = option(2, "fronts, which send clients to engines", minimum=1)
    gpus_per_engine: float | None = option(
        None, "GPUs per engine; null: 1, or 0 with engine.device=cpu", minimum=0
    )
    cpus_per_engine: float = option(2.0, "CPUs per engine: its front and its engine", minimum=0)
    engine_port: int = option(
        8100,
        "an engine listens on the first free port from this one on; 0: any",
        minimum=0,
        maximum=65000,
    )
    address: str | None = option(
        None,
        "where clients are sent, with {host} and {port} of the engine, for a gateway before "
        "the engines; null: to the engine",
    )

    def __post_init__(self) -> None:
        check_options(self, "serve")
        if self.max_engines < self.min_engines:
            raise ValueError(
                f"serve.max_engines is {self.max_engines}, less than serve.min_engines, "
                f"which is {self.min_engines}"
            )
        if self.address is not None:
            _check_address(self.address)


def _check_address(address: str) -> None:
    try:
        address.format(host="host", port=1)
    except (IndexError, KeyError, ValueError):
        raise ValueError(
            f"serve.address may hold {{host}} and {{port}} and no other braces, got {address!r}"
        ) from None
    if "://" in address:
        raise ValueError(f"serve.address must be HOST:PORT/PATH without a scheme, got {address!r}")
