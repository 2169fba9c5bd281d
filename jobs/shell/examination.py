"""What a run makes of each whole transcript. A module of its own: workers import it by its name."""

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.inspection import add_inspection
from nightscribe.records import Transcript
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.diarization import add_speakers


def examined(transcript: Transcript, guards: GuardsConfig, speakers: SpeakersConfig) -> Transcript:
    """With its speakers, and then with what is suspicious about it."""
    return add_inspection(add_speakers(transcript, speakers), guards)
