"""Ray Data reads the tables as the outputs page shows."""

import warnings

import pytest

from tests.storage.test_outputs_page import output, result_of, snippet

__all__ = ["output"]


@pytest.mark.ray
def test_ray_data_sums_the_hours(local_ray, output):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        rows = result_of(snippet("python", "ray.data", output))
    assert {row["language"]: row["sum(duration_s)"] for row in rows} == {"en": 60.0, "is": 40.0}
