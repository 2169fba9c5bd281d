"""The host's part of a round is measured on rounds whose every slot holds a clip."""

from ops.benchmarks import host_round


def test_every_part_is_measured(monkeypatch):
    monkeypatch.setattr(host_round, "NUM_ROUNDS", 4)
    monkeypatch.setattr(host_round, "WARM_UP_ROUNDS", 1)
    parts = host_round.measure(num_slots=16, clip_s=1)
    assert tuple(parts) == host_round.PARTS
    assert min(parts.values()) > 0
