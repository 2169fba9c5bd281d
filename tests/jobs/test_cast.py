"""What `nightscribe cast` prints."""

import numpy as np
from rich.console import Console

from nightscribe.jobs.cast import _table
from nightscribe.storage.voices import CastMember, StoredVoice


def test_the_file_of_a_clip_is_shown_whole_on_a_narrow_terminal(capsys):
    uri = "file:///archive/2019/hearing-%C3%A4-0017-second-day.flac"
    voice = StoredVoice("r", 1, "speaker-1", uri, None, 30.0, np.ones(2, np.float32), 1.0, 3.0)
    member = CastMember("r", "speaker-1", "voice-0001", None, 1.0)
    Console(width=80).print(_table([voice], [member], 5))
    title, *lines = capsys.readouterr().out.splitlines()
    column = title.index("clip in")
    shown = "".join(line[column:].strip() for line in lines)
    assert shown == "/archive/2019/hearing-\u00e4-0017-second-day.flac at 1.0-3.0 s"
