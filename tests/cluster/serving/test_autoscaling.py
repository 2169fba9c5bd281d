"""How many engines the sessions need."""

from types import SimpleNamespace

import pytest

from nightscribe.cluster.serving.autoscaling import LOAD, engines_wanted


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [([0.0], 1), ([1.0], 1), ([1.01], 2), ([0.5, 0.5], 1), ([0.9, 0.7], 2), ([0.1] * 10, 1)],
)
def test_all_sessions_have_room(loads, wanted):
    by_replica = dict(enumerate(loads))
    context = SimpleNamespace(aggregated_metrics={LOAD: by_replica}, target_num_replicas=7)
    assert engines_wanted(context) == (wanted, {})


@pytest.mark.parametrize("metrics", [None, {}, {LOAD: {}}])
def test_without_figures_nothing_changes(metrics):
    context = SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=7)
    assert engines_wanted(context) == (7, {})
