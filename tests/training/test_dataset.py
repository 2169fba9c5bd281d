import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightscribe.training.dataset import (
    Example,
    SpokenWord,
    read_manifest,
    samples_of,
    timed_tokens,
)
from tests.training.models import small_model, tokenizer, tokenizer_model


def manifest(tmp_path, *rows):
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_manifest_is_read_relative_to_its_folder(tmp_path):
    row = {
        "audio": "a.wav",
        "words": [{"text": "low", "start_s": 0.1, "end_s": 0.3}],
        "domain": "calls",
    }
    (example,) = read_manifest(manifest(tmp_path, row))
    assert example.path == tmp_path / "a.wav"
    assert example.text == "low"
    assert example.words == (SpokenWord("low", 0.1, 0.3),)
    assert example.domain == "calls"


def test_the_columns_of_other_manifests_mean_the_same(tmp_path):
    row = {"uri": "a.wav", "reference": "low", "start": 1.5, "end": 2}
    ours = {"audio": "a.wav", "text": "low", "start_s": 1.5, "end_s": 2}
    first, second = read_manifest(manifest(tmp_path, row, ours))
    assert first == second


def test_a_spreadsheet_is_a_manifest_as_for_transcribe(tmp_path):
    ours = {"audio": "a.wav", "text": "low", "start_s": 61.5, "end_s": 62}
    (tmp_path / "m.csv").write_text("uri;text;start;end\na.wav;low;1:01,5;1:02\n")
    pq.write_table(pa.Table.from_pylist([ours]), tmp_path / "m.parquet")
    (expected,) = read_manifest(manifest(tmp_path, ours))
    assert read_manifest(tmp_path / "m.csv") == read_manifest(tmp_path / "m.parquet") == [expected]
    (tmp_path / "m.csv").write_text("uri,text\na.wav,low\nb.wav,\n")
    with pytest.raises(ValueError, match=r"m.csv row 2: the key 'text' is missing"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "low"}, "key 'audio' is missing"),
        ({"audio": "a.wav"}, "key 'text' is missing"),
        (["a.wav", "low"], "expected an object with audio and text, got "),
        (
            {"audio": "a.wav", "text": "low", "start_s": 3, "end_s": 1},
            "the span from 3 to 1 s is empty",
        ),
        (
            {
                "audio": "a.wav",
                "text": "high",
                "words": [{"text": "low", "start_s": 0, "end_s": 1}],
            },
            "differ",
        ),
        ({"audio": "a.wav", "words": [{"text": "low", "start_s": 2, "end_s": 1}]}, "spans"),
    ],
)
def test_an_error_in_a_line_names_its_number(tmp_path, row, said):
    path = manifest(tmp_path, {"audio": "a.wav", "text": "low"}, row)
    with pytest.raises(ValueError, match=f"line 2: .*{said}"):
        read_manifest(path)


def test_a_file_of_another_kind_is_no_manifest(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    with pytest.raises(ValueError, match=r"notes.txt, line 1: this is not JSON; a manifest has"):
        read_manifest(path)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_manifest_may_have_a_byte_order_mark_and_any_line_ends(tmp_path, ends):
    texts = ["one\u2028two", "three\x85four"]
    rows = [json.dumps({"audio": "a.wav", "text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "m.jsonl").write_bytes(("\ufeff" + ends.join(rows) + ends).encode())
    assert [example.text for example in read_manifest(tmp_path / "m.jsonl")] == texts


def test_an_empty_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no examples"):
        read_manifest(manifest(tmp_path))


def test_consecutive_examples_of_one_file_decode_it_once(tmp_path):
    decoded = []

    def decode(path):
        decoded.append(path.name)
        return np.arange(48000, dtype=np.int16)

    spans = [("a.wav", 0.0, 0.5), ("a.wav", 0.5, None), ("b.wav", 0.0, 1.0)]
    examples = [
        Example(path=tmp_path / name, text="low", start_s=start_s, end_s=end_s)
        for name, start_s, end_s in spans
    ]
    lengths = [len(samples_N) for samples_N in samples_of(examples, decode, 24000)]
    assert lengths == [12000, 36000, 24000]
    assert decoded == ["a.wav", "b.wav"]


def test_words_that_the_vocabulary_cannot_write_are_refused(tmp_path):
    words = (SpokenWord("l\u00f6w", 0.1, 0.3),)
    example = Example(path=tmp_path / "a.wav", text="l\u00f6w", words=words)
    with pytest.raises(ValueError, match="cannot write 'l\u00f6w'"):
        timed_tokens(example, np.zeros(9), tokenizer(tokenizer_model()), small_model())
