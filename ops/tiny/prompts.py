"""The human telephone prompts of two Debian packages, to test with and never to train on.

    apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722
    python -m ops.tiny.prompts FOLDER_OF_PACKAGES PROMPTS

Writes the folders `development`, which may choose between states of training, and `test`, which
chooses nothing, each with `transcripts.tsv`. No text is in both.
"""

import argparse
import csv
import gzip
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLUMNS = ("file", "transcript_normalised")


def normalised(text: str) -> str:
    """Lower case, digits and signs as they are said, no punctuation."""
    text = text.lower().replace("*", " star ").replace("#", " pound ").replace(".m.", " m ")
    text = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text)
    return " ".join(re.sub(r"[^a-z' ]", " ", text).split())


def is_development(text: str) -> bool:
    """Half of the texts, by a digest, so that the split never moves."""
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 0


def transcripts(listing: str) -> dict[str, str]:
    """Name to text of the package's list, whose comments begin with a semicolon."""
    rows = (line.split(":", 1) for line in listing.splitlines() if not line.startswith(";"))
    return {row[0].strip(): normalised(row[1]) for row in rows if len(row) == 2}


def prompts(unpacked: Path) -> Iterator[tuple[Path, str]]:
    """Recordings and what they say."""
    (listing,) = unpacked.rglob("core-sounds-en.txt.gz")
    said = transcripts(gzip.decompress(listing.read_bytes()).decode("latin-1"))
    (folder,) = unpacked.rglob("en_US_f_Allison")
    for path in sorted(folder.rglob("*.g722")):
        text = said.get(str(path.relative_to(folder).with_suffix("")))
        if text:
            yield path, text


def write_prompts(packages: Path, folder: Path) -> None:
    rows: dict[str, list[tuple[str, str]]] = {"development": [], "test": []}
    with tempfile.TemporaryDirectory() as unpacked:
        for package in packages.glob("asterisk-core-sounds-en*.deb"):
            subprocess.run(["dpkg", "-x", str(package), unpacked], check=True)
        for path, text in prompts(Path(unpacked)):
            part = "development" if is_development(text) else "test"
            name = f"{path.parent.name}-{path.stem}.flac"
            _decode(path, folder / part / name)
            rows[part].append((name, text))
    for part, some in rows.items():
        with (folder / part / "transcripts.tsv").open("w", encoding="utf-8") as table:
            csv.writer(table, delimiter="\t").writerows([COLUMNS, *some])


def _decode(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-loglevel", "error", "-y", "-f", "g722", "-i", str(source), str(target)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.prompts")
    parser.add_argument("packages", type=Path)
    parser.add_argument("prompts", type=Path)
    arguments = parser.parse_args()
    write_prompts(arguments.packages, arguments.prompts)
