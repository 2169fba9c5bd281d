"""The Ray Data graph that the Python page shows runs as it stands there."""

import pytest

from tests.documents import ROOT
from tests.test_documents import SNIPPETS

# Ray reads its own settings in a way that it warns of.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_the_graph_of_the_page_transcribes_every_row(local_ray):
    (snippet,) = [one for one in SNIPPETS if "import ray" in one]
    names = {"__name__": "readme"}
    exec(
        compile(
            snippet.replace("models/tiny", str(ROOT / "models/tiny")), "docs/python.md", "exec"
        ),
        names,
    )
    assert sorted(row["name"] for row in names["rows"]) == ["0.wav", "1.wav", "2.wav", "3.wav"]
