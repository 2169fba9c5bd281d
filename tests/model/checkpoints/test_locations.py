"""The hub, played by a small server on this machine, and its cache without any server."""

import hashlib
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from nightscribe.model.checkpoints.locations import fetch, locate
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.checkpoints.settings import CheckpointError
from tests.model.checkpoints.weights import random_weights, write_native

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_notARealTokenButSecret"


class Hub(BaseHTTPRequestHandler):
    """Serves the files of one folder as the repository night/scribe; others are gated or absent."""

    folder: Path
    requests: list[tuple[str, str, str | None]]
    cut_after_bytes: int | None = None  # the next body is not sent whole

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_) -> None:
        """Say nothing."""

    def _answer(self, with_body: bool) -> None:
        self.requests.append((self.command, self.path, self.headers.get("Range")))
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        path = self.folder / name
        if repository == "night/gated":
            return self._refuse(403, "GatedRepo")
        if repository != "night/scribe":
            return self._refuse(404, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        return self._send(path.read_bytes(), with_body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes, with_body: bool) -> None:
        etag = hashlib.sha256(data).hexdigest()
        first = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if with_body:
            self.wfile.write(data[first : type(self).cut_after_bytes])
            type(self).cut_after_bytes = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_native(tmp_path_factory.mktemp("hub"), random_weights())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(folder, cache, monkeypatch):
    handler = type("OneHub", (Hub,), {"folder": folder, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield handler
    server.shutdown()
    server.server_close()


def refusal(location):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(location)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert TOKEN not in sentence
    return sentence


def test_a_repository_opens_pinned_to_its_commit(hub):
    checkpoint = open_checkpoint("night/scribe")
    assert (checkpoint.name, checkpoint.revision) == ("night/scribe", COMMIT)
    assert len(dict(checkpoint.language_model_tensors())) == len(random_weights().language_model)
    later = [
        path for _, path, _ in hub.requests if "/resolve/" in path and "config.json" not in path
    ]
    assert later
    assert all(f"/resolve/{COMMIT}/" in path for path in later)


def test_what_is_cached_needs_no_network(hub, monkeypatch):
    open_checkpoint("night/scribe")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_checkpoint("night/scribe").revision == COMMIT
    assert open_checkpoint(f"night/scribe@{COMMIT}").revision == COMMIT
    assert not hub.requests


def test_a_pinned_revision_is_the_one_asked_for(hub):
    open_checkpoint(f"night/scribe@{COMMIT}")
    # Other libraries of this process may ask the hub for other things.
    paths = [path for _, path, _ in hub.requests if "/resolve/" in path]
    assert paths
    assert all(f"/resolve/{COMMIT}/" in path for path in paths)


def test_a_file_of_another_repository_may_be_named(hub, folder, tmp_path):
    local = write_native(
        tmp_path / "local", random_weights(), mimi_name="hf://night/scribe/mimi.safetensors"
    )
    (local / "mimi.safetensors").unlink()
    checkpoint = open_checkpoint(str(local))
    assert len(list(checkpoint.mimi_tensors()))
    place, file_name = locate("hf://night/scribe/model.safetensors")
    assert fetch(place, file_name).read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_download_goes_on_where_the_connection_was_cut(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    data = (folder / "model.safetensors").read_bytes()
    hub.cut_after_bytes = 1 << 16
    place, _ = locate("night/scribe")
    assert fetch(place, "model.safetensors").read_bytes() == data
    assert [wanted for *_, wanted in hub.requests if wanted] == [f"bytes={1 << 16}-"]


def test_an_error_of_the_hub_becomes_one_sentence(hub):
    assert refusal("night/gated") == (
        "night/gated@main is gated: accept its terms on the hub, then set HF_TOKEN"
    )
    assert "the hub has no repository night/unknown" in refusal("night/unknown")
    assert refusal("night/scribe@v9") == "night/scribe has no revision 'v9'"


def test_a_missing_file_is_named(hub):
    place, _ = locate("night/scribe")
    with pytest.raises(CheckpointError, match=r"night/scribe@main has no file 'none.json'"):
        fetch(place, "none.json")


@pytest.mark.usefixtures("cache")
def test_offline_and_not_cached_is_one_sentence():
    assert refusal("night/scribe") == (
        "config.json of night/scribe@main is not in the local cache and the hub cannot be reached"
    )


def test_the_token_is_never_logged(hub, caplog):
    caplog.set_level(logging.DEBUG)
    open_checkpoint("night/scribe")
    assert TOKEN not in caplog.text
    assert TOKEN not in json.dumps(hub.requests)
