"""A set of recording ids that holds a million of them in a few megabytes."""

import tracemalloc
from hashlib import sha256

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.storage import id_set
from nightscribe.storage.id_set import IdSet

IDS = st.builds(
    lambda number, channel: name(number) + ("" if channel is None else f"-{channel}"),
    st.integers(0, 30),
    st.none() | st.integers(0, 3) | st.just(255),
)


def name(number):
    return sha256(str(number).encode()).hexdigest()[:20]


@given(st.lists(st.lists(IDS, max_size=20), max_size=10), st.lists(IDS, min_size=1))
def test_it_is_a_set(added, asked):
    ours, right = IdSet(), set()
    for some in added:
        ours.update(some)
        right.update(some)
        assert [one in ours for one in asked] == [one in right for one in asked]
    assert ours.contains(asked).tolist() == [one in right for one in asked]
    assert len(ours) == len(right)


def test_a_channel_is_not_its_source():
    ours = IdSet()
    ours.add(f"{name(1)}-0")
    assert f"{name(1)}-0" in ours
    assert name(1) not in ours
    assert f"{name(1)}-256" not in ours


def test_an_id_takes_few_bytes(monkeypatch):
    monkeypatch.setattr(id_set, "MIN_RECENT", 512)
    names = [name(number) for number in range(20_000)]
    tracemalloc.start()
    ours = IdSet()
    for start in range(0, len(names), 100):
        ours.update(names[start : start + 100])
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes / len(names) < 40
    assert np.all(ours.contains(names))
