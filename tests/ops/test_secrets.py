"""Credentials are planted wherever a user may have them; afterwards everything written is searched.

One real run over a real S3 server, then the commands that read it. What is searched: terminal
output, the whole output folder with its tables read column by column, the logs of the program and
of Ray, and every temporary file that is left.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightscribe.storage.tables import read_table
from tests import s3_server as s3

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent
SIGNATURE = "planted-signature-1111"
PASSWORD = "planted-password-2222"
HUB_TOKEN = "hf_plantedtoken3333"
PROFILE_KEY = "planted-profile-key-4444"
SESSION_TOKEN = "planted-session-token-5555"
PLANTED = (SIGNATURE, PASSWORD, HUB_TOKEN, PROFILE_KEY, SESSION_TOKEN, s3.SECRET_KEY)
RECORDING = "samples/human-press-five.flac"
# Commands that read what `transcribe` has written.
OF_A_RUN = {"status", "report", "export"}


@pytest.fixture(scope="module")
def written(s3_server, tmp_path_factory):
    """Everything that a run and its readers wrote, by where it was found."""
    place = tmp_path_factory.mktemp("secrets")
    with tempfile.TemporaryDirectory(prefix="ns-") as temporary:  # Ray needs a short name
        return _everything(s3_server, place, Path(temporary))


def _everything(server, place, temporary) -> dict[str, bytes]:
    bucket, client = server.new_bucket(), server.client()
    client.upload_file(str(ROOT / RECORDING), bucket, "in/a.flac")
    client.put_object(Bucket=bucket, Key="in/list.jsonl", Body=_manifest(bucket).encode())
    environment = _environment(server, place, temporary)
    out, found = f"s3://{bucket}/out", {}
    config = ["model=tiny", "quiet=true", "log.raw=true", "intervals.heartbeat_s=1"]
    config += ["intervals.commit_s=0.2", "cluster.num_audio_workers=1", "cluster.in_process=never"]
    commands = {
        "plan": ["plan", f"s3://{bucket}/in/list.jsonl"],
        "transcribe": [
            "transcribe",
            f"input=s3://{bucket}/in/list.jsonl",
            f"output={out}",
            *config,
        ],
        "status": ["status", out],
        "report": ["report", out],
        "export": ["export", out, "formats=[json]", f"to={place}/exports"],
        "password": ["plan", "x", f"s3.endpoint=http://user:{PASSWORD}@127.0.0.1:9"],
        "signed": ["plan", f"https://user:{PASSWORD}@h/a.wav?X-Amz-Signature={SIGNATURE}"],
        "refused": ["status", f"https://user:{PASSWORD}@h/o?X-Amz-Signature={SIGNATURE}"],
    }

    def execute(name: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "nightscribe", *commands[name]],
            env=environment,
            cwd=ROOT,
            capture_output=True,
        )
        found[f"terminal of {name}"] = done.stdout + done.stderr
        found[f"exit code of {name}"] = str(done.returncode).encode()

    with ThreadPoolExecutor(max_workers=2) as two:
        for some in (commands.keys() - OF_A_RUN, commands.keys() & OF_A_RUN):
            list(two.map(execute, sorted(some, reverse=True)))
    for key in _keys(client, bucket):
        found[key] = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    for folder in (place, temporary):
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "profiles":
                found[str(path)] = path.read_bytes()
    return found


def _keys(client, bucket):
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="out/"):
        yield from (entry["Key"] for entry in page.get("Contents", []))


def _manifest(bucket: str) -> str:
    signed = f"https://user:{PASSWORD}@archive.example/b.wav?X-Amz-Signature={SIGNATURE}"
    uris = [f"s3://{bucket}/in/a.flac", signed, f"s3://{bucket}/in/gone.flac"]
    return "".join(json.dumps({"uri": uri}) + "\n" for uri in uris)


def _environment(server, place, temporary) -> dict[str, str]:
    profiles = place / "profiles"
    profiles.write_text(f"[night]\naws_access_key_id=k\naws_secret_access_key={PROFILE_KEY}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return (
        kept
        | server.environment
        | {
            "HF_TOKEN": HUB_TOKEN,
            "AWS_SHARED_CREDENTIALS_FILE": str(profiles),
            "RAY_AUTH_MODE": "disabled",
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(ROOT),
            "NIGHTSCRIBE_NOTE": SESSION_TOKEN,
        }
    )


def text_of(name: str, content: bytes) -> bytes:
    """What a reader sees: tables are compressed."""
    if not name.endswith(".parquet"):
        return content
    return json.dumps(read_table(io.BytesIO(content)).to_pylist(), default=str).encode()


@pytest.mark.parametrize("secret", PLANTED)
def test_no_secret_is_written_anywhere(written, secret):
    found = [name for name, content in written.items() if secret.encode() in text_of(name, content)]
    assert not found


def test_the_search_looked_at_everything(written):
    assert written["exit code of transcribe"] == b"0", written["terminal of transcribe"].decode()
    names = " ".join(written)
    for part in ("config.yaml", "status.json", "_run/plan/", "failures/", "transcripts/"):
        assert part in names
    for part in ("_run/report.html", "exports/", "logs/raw/", "index.json", "raylet.out"):
        assert part in names
    for name in ("password", "signed", "refused"):
        assert written[f"exit code of {name}"] == b"2"
        assert len(written[f"terminal of {name}"].splitlines()) == 1


def test_what_a_signed_address_names_is_a_failure_without_its_signature(written):
    tables = [
        text_of(name, content) for name, content in written.items() if "out/failures/" in name
    ]
    rows = [row for table in tables for row in json.loads(table)]
    by_uri = {row["uri"].rpartition("/")[2]: row["reason"] for row in rows}
    assert by_uri == {"b.wav": "bad_location", "gone.flac": "not_found"}
