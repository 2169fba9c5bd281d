"""A run's transcripts as files for people and players, in folders like those of the audio."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nightscribe.reading.documents import conversations, document
from nightscribe.records import Recording, Transcript
from nightscribe.rendering.document import RenderingConfig
from nightscribe.rendering.formats import FORMATS, SUFFIXES, render


@dataclass(frozen=True, slots=True)
class Export:
    """One file to be written; its name is that of the recording and this suffix."""

    recording: Recording
    suffix: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to export: which formats, in which shape, who the channels are."""

    formats: Sequence[str]
    rendering: RenderingConfig
    speakers: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError(f"formats names none; there are {', '.join(FORMATS)}")
        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")


class Names:
    """A name for every file of an archive, without suffix, such as players look for."""

    def __init__(self, uris: Iterable[str]) -> None:
        self._root: tuple[str, ...] | None = None
        self._stems: Counter[str] = Counter()
        for uri in dict.fromkeys(uris):
            parents = PurePosixPath(uri).parts[:-1]
            self._root = parents if self._root is None else _common(self._root, parents)
            self._stems[_without_suffix(uri)] += 1

    def relative(self, recording: Recording) -> str:
        """The file's name below the folder that holds all of them."""
        parts = PurePosixPath(self.beside(recording)).parts[len(self._root or ()) :]
        # In a bucket two dots are a name like any other; on a disk they lead elsewhere.
        return "/".join("__" if part == ".." else part for part in parts)

    def beside(self, recording: Recording) -> str:
        """The file's own name; its suffix stays where another file differs in nothing else."""
        stem = _without_suffix(recording.uri)
        name = recording.uri if self._stems[stem] > 1 else stem
        if recording.start_s or recording.end_s is not None:
            end = "" if recording.end_s is None else f"{recording.end_s:.10g}"
            name += f".{recording.start_s:.10g}-{end}"
        # One channel that a manifest asks for is read by itself, others of its file beside it.
        if recording.channel is not None and recording.num_channels is None:
            name += f".channel{recording.channel}"
        return name


def exports(transcripts: Iterable[Transcript], wanted: Wanted, names: Names) -> Iterator[Export]:
    """Every transcript in every wanted format, channels of one file as its speakers."""
    for channels in conversations(transcripts):
        recording = channels[0].recording
        name = PurePosixPath(names.relative(recording)).name
        spoken = document(name, channels, wanted.speakers)
        for format in wanted.formats:
            text = render(spoken, format, wanted.rendering)
            yield Export(recording, SUFFIXES[format], text)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def _without_suffix(uri: str) -> str:
    folder, slash, name = uri.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)
