"""Manifests of texts, and each text as the recording that it will become.

A plan, its generations, failures and tables know recordings: a text has the name of the audio file
that is made of it, the text as its reference, and everything else in `extra`.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nightscribe.records import Recording
from nightscribe.speech.requests import SpeechRequest
from nightscribe.storage.locations import S3Config, open_file
from nightscribe.storage.manifests import is_manifest, named_rows

FOLDER = "audio"
SPEAKER_CHANGE = "|"
CHARACTERS_PER_S = 15.0  # of English, to estimate durations
MIN_ESTIMATE_S = 1.0
OWN_COLUMNS = ("id", "text", "turns", "voice", "other_voice", "voices", "seed")
MAX_CELL_CHARACTERS = 2**24
MAX_NAME_BYTES, KEPT_NAME_CHARACTERS, HASH_DIGITS = 200, 40, 16
_UNSAFE = re.compile(r"[^\w .,@+=()-]|^\.")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDefaults:
    """What holds for texts whose row does not say it.

    `check` is called with each of the two voices that a text takes, and raises if there is none of
    that name. A manifest with voices in all its rows needs no other.
    """

    voice: str
    other_voice: str | None = None
    seed: int = 0
    check: Callable[[str], object] = str


def texts(
    source: str, s3: S3Config, defaults: TextDefaults, audio_uri: Callable[[str], str]
) -> Iterator[Recording]:
    """Every text of a manifest; `audio_uri` names the audio file of an id.

    Raises ValueError for a row without a text, or with an id that another row has.
    """
    if not is_manifest(source):
        raise ValueError(
            f"{source} is not a manifest: its name must end in .csv, .jsonl or .parquet"
        )
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    store, key = open_file(source, s3)
    seen: dict[bytes, int] = {}
    with store.open(key) as file:
        for number, (where, row) in enumerate(named_rows(source, file), start=1):
            name, about = _about(number, where, row, defaults)
            digest = hashlib.sha256(name.encode()).digest()[:HASH_DIGITS]
            if (earlier := seen.setdefault(digest, number)) != number:
                raise ValueError(f"{where}: row {earlier} has the id {name!r} too")
            yield _recording(about, audio_uri(name))


def audio_key(text_id: str, extension: str) -> str:
    """The key of the audio file of a text; other ids have other keys."""
    name = _UNSAFE.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), text_id)
    if len(name.encode()) > MAX_NAME_BYTES:
        digest = hashlib.sha256(text_id.encode()).hexdigest()[:HASH_DIGITS]
        name = f"{name[:KEPT_NAME_CHARACTERS]}%{digest}"
    return f"{FOLDER}/{name}.{extension}"


def request_of(recording: Recording) -> SpeechRequest:
    """What is to be spoken for a row of the plan."""
    about = json.loads(recording.extra or "{}")
    return SpeechRequest(
        request_id=about["id"],
        turns=tuple(about["turns"]),
        voices=tuple(about["voices"]),
        seed=about["seed"],
    )


def _about(
    number: int, where: str, row: Mapping[str, Any], defaults: TextDefaults
) -> tuple[str, dict[str, Any]]:
    """The id of a row, and everything about it."""
    given = {name: row[name] for name in OWN_COLUMNS if row.get(name) not in (None, "")}
    if "text" not in row and "turns" not in row:
        columns = ", ".join(map(str, row))
        raise ValueError(f"{where}: expected a column text or turns, got {columns:.80}")
    name = _clean(str(given.get("id", f"{number:06d}")))
    rest = {
        str(key): value
        for key, value in row.items()
        if key not in OWN_COLUMNS and value is not None
    }
    turns = _turns(given)
    return name, rest | {
        "id": name,
        "turns": turns,
        "voices": _voices(given, defaults, is_dialogue=len(turns) > 1),
        "seed": _seed(given.get("seed", defaults.seed), where),
    }


def _turns(given: Mapping[str, Any]) -> list[str]:
    turns = given.get("turns", given.get("text", ""))
    parts = turns if isinstance(turns, list) else str(turns).split(SPEAKER_CHANGE)
    return [_clean(str(part)) for part in parts]


def _voices(given: Mapping[str, Any], defaults: TextDefaults, is_dialogue: bool) -> list[str]:
    """A second voice would change the sound of the first."""
    if isinstance(named := given.get("voices"), list):
        return [_clean(str(one)) for one in named]
    other = given.get("other_voice", defaults.other_voice if is_dialogue else None)
    both = (given.get("voice", defaults.voice), other)
    for own, one in zip(("voice", "other_voice"), both, strict=True):
        if own not in given and one is not None:
            defaults.check(one)
    return [_clean(str(one)) for one in both if one is not None]


def _seed(value: Any, where: str) -> int:
    try:
        seed = int(value)
    except (TypeError, ValueError):
        seed = -1
    if not 0 <= seed < 2**31:
        raise ValueError(f"{where}: seed is {value!r:.40}, expected a whole number below 2^31")
    return seed


def _clean(text: str) -> str:
    """Half characters, which JSON can hold, as one that no text can be spoken with."""
    return _SURROGATE.sub("\ufffd", text)


def _recording(about: dict[str, Any], uri: str) -> Recording:
    said = [about["turns"], about["voices"], about["seed"]]
    text = " ".join(about["turns"])
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:HASH_DIGITS]
    return Recording(
        uri=uri,
        size_bytes=len(text.encode()),
        version=digest,
        expected_s=max(round(len(text) / CHARACTERS_PER_S, 1), MIN_ESTIMATE_S),
        text=text,
        extra=json.dumps(about, sort_keys=True, default=str, ensure_ascii=False),
    )
