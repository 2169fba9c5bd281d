from collections import defaultdict
from pathlib import Path

from tests.distribution import ROOT, group_of


def paths_by_group() -> dict[str, list[str]]:
    groups = defaultdict(list)
    for path in sorted(Path(ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT))
        groups[group_of(name)].append(name)
    return groups


def test_files_that_share_a_ray_or_a_server_are_one_group():
    groups = paths_by_group()
    assert "tests/cluster/test_driver.py" in groups["local_ray"]
    assert "tests/cluster/serving/test_application.py" in groups["local_ray"]
    assert "tests/serving/test_kyutai.py" in groups["tests/serving/"]
    assert "tests/ops/test_wheel.py" in groups["installed"]


def test_every_other_file_is_a_group_of_its_own():
    groups = paths_by_group()
    alone = {name: paths for name, paths in groups.items() if name.endswith(".py")}
    assert all(paths == [name] for name, paths in alone.items())
    assert "tests/cluster/test_kills.py" in alone
    assert len(alone) > 200
