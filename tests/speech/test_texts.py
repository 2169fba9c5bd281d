"""A manifest of texts becomes recordings, and each recording its text again."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightscribe.speech.texts import TextDefaults, audio_key, request_of, texts
from nightscribe.storage.locations import S3Config

DEFAULTS = TextDefaults(voice="ann", other_voice="bob", seed=3)


def read(path):
    found = texts(str(path), S3Config(), DEFAULTS, lambda name: f"/out/{name}.flac")
    return [(request_of(one), one) for one in found]


def jsonl(folder, *rows):
    path = folder / "texts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_csv_row_has_defaults_and_keeps_other_columns(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text('id,text,voice,seed,chapter\na,one two,,,I\nb,"who, me?|yes",cy,7,II\n')
    (first, recording), (second, _) = read(path)
    assert (first.turns, first.voices, first.seed) == (("one two",), ("ann",), 3)
    assert (second.turns, second.voices, second.seed) == (("who, me?", "yes"), ("cy", "bob"), 7)
    assert json.loads(recording.extra)["chapter"] == "I"
    assert (recording.uri, recording.text) == ("/out/a.flac", "one two")


def test_the_voices_of_the_command_are_looked_for_if_a_text_takes_them(tmp_path):
    def looked_for(*rows):
        asked = set()
        defaults = TextDefaults(voice="ann", other_voice="bob", check=asked.add)
        list(texts(str(jsonl(tmp_path, *rows)), S3Config(), defaults, str))
        return asked

    assert looked_for({"text": "one|two", "voice": "v", "other_voice": "w"}) == set()
    assert looked_for({"text": "one|two", "voices": ["v"]}) == set()
    assert looked_for({"text": "one"}, {"text": "two", "voice": "v"}) == {"ann"}
    assert looked_for({"text": "one|two", "voice": "v"}) == {"bob"}


def test_lists_of_turns_and_voices_are_read_from_json_and_parquet(tmp_path):
    rows = [{"id": "a", "turns": ["x | y", "z"], "voices": ["v", "w"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "texts.parquet")
    for path in (jsonl(tmp_path, *rows), tmp_path / "texts.parquet"):
        ((request, _),) = read(path)
        assert (request.turns, request.voices) == (("x | y", "z"), ("v", "w"))


def test_another_text_voice_or_seed_is_another_version_of_the_same_place(tmp_path):
    base = {"id": "a", "text": "one"}
    rows = [base, base | {"text": "two"}, base | {"voice": "v"}, base | {"seed": 4}]
    found = [read(jsonl(tmp_path, row))[0][1] for row in rows]
    assert len({one.recording_id for one in found}) == 4
    assert len({one.uri for one in found}) == 1


def test_rows_without_an_id_are_numbered(tmp_path):
    found = read(jsonl(tmp_path, {"text": "one"}, {"text": "two"}))
    assert [request.request_id for request, _ in found] == ["000001", "000002"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "row 1 has the id 'a' too"),
        ([{"id": "a", "words": "x"}], "expected a column text or turns"),
        ([{"text": "x", "seed": "much"}], "seed is 'much', expected a whole number"),
        ([{"text": "x", "seed": -1}], "seed is -1"),
    ],
)
def test_a_wrong_manifest_is_one_sentence(tmp_path, rows, sentence):
    with pytest.raises(ValueError, match="row") as raised:
        read(jsonl(tmp_path, *rows))
    assert sentence in str(raised.value)


def test_half_characters_and_empty_texts_are_kept_for_the_table_of_failures(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a\\ud800", "text": "\\udfff"}\n{"id": "b", "text": null}\n')
    (half, _), (empty, _) = read(path)
    assert (half.request_id, half.turns, empty.turns) == ("a\ufffd", ("\ufffd",), ("",))


def test_every_id_has_a_file_of_its_own_inside_the_folder():
    ids = ["a", "A", "../a", "a/b", "a%2Fb", ".", "..", "\u00e9", "x" * 500, "x" * 501, "a\n", "%"]
    keys = [audio_key(one, "flac") for one in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        folder, name = key.split("/")
        assert folder == "audio"
        assert not name.startswith(".")
        assert len(name.encode()) < 255
