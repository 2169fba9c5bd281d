"""References from manifests, and from a hub that a local server imitates."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants

from nightscribe.reading import references as references_module
from nightscribe.reading.references import Reference, read_references
from nightscribe.records import Word
from nightscribe.storage.locations import S3Config
from tests.reading.runs import recording

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMED = [{"text": "well", "start_s": 0.5, "end_s": 0.75}, {"word": "then", "start": 1, "end": 1.5}]
WORDS = (Word("well", 0.5, 0.75, 1.0), Word("then", 1.0, 1.5, 1.0))


class Hub(BaseHTTPRequestHandler):
    """Serves the files of one folder as the data set night/spoken."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "night/spoken" not in path:
            return self._send(b"", 404, {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/datasets/"):
            files = [p.relative_to(self.folder) for p in self.folder.rglob("*.*")]
            tree = [{"type": "file", "path": f.as_posix(), "size": 1, "oid": "0"} for f in files]
            return self._send(json.dumps(tree).encode())
        file = self.folder / path.partition("/resolve/")[2].partition("/")[2]
        return self._send(file.read_bytes(), headers={"ETag": f'"{file.name}"'})

    def _send(self, data, status=200, headers=None) -> None:
        self.send_response(status)
        sent = {"X-Repo-Commit": COMMIT, "Content-Length": str(len(data))} | (headers or {})
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Serving", (Hub,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(references_module, "HfApi", lambda: HfApi(endpoint=address))
    yield folder
    server.shutdown()
    server.server_close()


def of(references, uri, **more):
    return references.of_file(recording(uri, **more))


def test_timed_words_are_read_from_every_kind_of_manifest(tmp_path):
    rows = {"uri": "a.wav", "text": "well then", "words": TIMED}
    (tmp_path / "a.jsonl").write_text(json.dumps(rows))
    quoted = json.dumps(TIMED).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'uri,text,words\na.wav,well then,"{quoted}"\n')
    spelt = [{"text": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in WORDS]
    table = pa.Table.from_pylist([rows | {"words": spelt}])
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        found = of(read_references(f"{tmp_path}/{name}", None, S3Config()), f"{tmp_path}/a.wav")
        assert found == Reference("well then", WORDS), name


def test_words_alone_are_a_text_and_bad_ones_name_their_row(tmp_path):
    manifest = tmp_path / "a.jsonl"
    manifest.write_text(json.dumps({"uri": "/a.wav", "words": TIMED}))
    found = read_references(str(manifest), None, S3Config())
    assert of(found, "/a.wav").text == "well then"
    manifest.write_text(json.dumps({"uri": "/a.wav", "words": [{"text": "no time"}]}))
    with pytest.raises(ValueError, match=r"row 1: words is .* expected a list of"):
        read_references(str(manifest), None, S3Config())


def test_spans_and_channels_have_their_own_references(tmp_path):
    manifest = tmp_path / "a.csv"
    manifest.write_text(
        "uri,start,end,channel,text\n/a.wav,0,5,,one\n/a.wav,5,9,,two\n/a.wav,,,1,r"
    )
    found = read_references(str(manifest), None, S3Config())
    assert of(found, "/a.wav", start_s=5.0, end_s=9.0).text == "two"
    assert of(found, "/a.wav") is None
    assert found.of_channel(recording("/a.wav", channel=1, num_channels=2)).text == "r"
    assert found.of_channel(recording("/a.wav", channel=0, num_channels=2)) is None


def test_references_of_a_data_set_match_by_file_name(hub):
    (hub / "data").mkdir()
    rows = [
        {"audio": {"bytes": b"sound", "path": "1-one.flac"}, "transcription": "one", "id": 7},
        {"audio": {"bytes": b"sound", "path": "1-two.flac"}, "transcription": "two", "id": 8},
    ]
    pq.write_table(pa.Table.from_pylist(rows), hub / "data/test-00000-of-00001.parquet")
    (hub / "data/train.csv").write_text("file_name,text\n1-one.flac,other\n")
    found = read_references("night/spoken", "test", S3Config())
    assert of(found, "s3://somewhere/1-one.flac").text == "one"
    assert of(found, "/converted/1-two.wav").text == "two"
    assert of(found, "/converted/3.wav") is None


def test_a_data_set_of_audio_beside_json_lines(hub):
    line = {"file_name": "test/a.mp3", "sentence": "well then", "words": TIMED}
    (hub / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    found = read_references(f"hf://datasets/night/spoken@{COMMIT}", None, S3Config())
    assert of(found, "/x/a.mp3") == Reference("well then", WORDS)


def test_a_local_file_is_not_looked_up_on_the_hub():
    with pytest.raises(ValueError, match=r"alice.opus is neither a manifest"):
        read_references("samples/alice.opus", None, S3Config())


def test_an_invalid_reference_is_an_error_of_one_sentence(hub, tmp_path):
    with pytest.raises(ValueError, match="the hub has no data set night/unknown"):
        read_references("night/unknown", None, S3Config())
    with pytest.raises(ValueError, match="has no table of split dev"):
        read_references("night/spoken", "dev", S3Config())
    with pytest.raises(ValueError, match=r"neither a manifest .* nor a data set"):
        read_references(f"{tmp_path}/truth.txt", None, S3Config())
    (hub / "metadata.csv").write_text("file_name,text\na.mp3,one\nb/a.mp3,two\n")
    with pytest.raises(ValueError, match="row 2: a second file is named a; name a split"):
        read_references("night/spoken", None, S3Config())
