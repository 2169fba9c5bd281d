"""One Ray for all tests of the cluster."""

import gc
import os
import warnings
from pathlib import Path
from tempfile import mkdtemp

import pytest
from tenacity import retry, retry_if_exception_message, stop_after_attempt

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def local_ray():
    import ray

    from nightscribe.cluster.ray_session import INTERNAL_SETTINGS, START_ATTEMPTS

    os.environ.pop("RAY_ADDRESS", None)
    os.environ["PYTHONPATH"] = str(ROOT)
    for name, value in INTERNAL_SETTINGS.items():
        os.environ.setdefault(name, value)
    # A busy machine may need more than the half minute that Ray waits.
    start = retry(
        retry=retry_if_exception_message(match=".*timed out during startup"),
        stop=stop_after_attempt(START_ATTEMPTS),
        before_sleep=lambda _: ray.shutdown(),
        reraise=True,
    )(_start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start(ray)
    yield ray
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray does not wait for the processes it ends
        ray.shutdown()
        gc.collect()


def _start(ray):
    ray.init(
        "local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
        _temp_dir=mkdtemp(prefix="ray-"),
    )
