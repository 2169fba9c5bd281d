"""A real S3 server on loopback for tests: SeaweedFS, alone in a folder, ended by its process id."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
PORTS = ("master", "filer", "volume", "s3")
START_TIMEOUT_S = 60


@dataclass
class S3Server:
    """`with S3Server() as server:` then talk to `server.endpoint` with `server.environment`."""

    folder: Path = field(default_factory=lambda: Path(mkdtemp(prefix="s3-")))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach the server by the usual chain of credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
        )

    def new_bucket(self) -> str:
        """An empty bucket of its own."""
        bucket = f"test-{token_hex(6)}"
        self.client().create_bucket(Bucket=bucket)
        return bucket

    def __enter__(self) -> "S3Server":
        self._log = (self.folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            self._command(), stdout=self._log, stderr=self._log, cwd=self.folder
        )
        try:
            self._wait_until_it_writes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it holds nothing worth a polite end, which takes ten seconds
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        ports = free_ports(2 * len(PORTS))
        self.port = ports[2 * PORTS.index("s3")]
        flags = [f"-{name}.port={port}" for name, port in zip(PORTS, ports[::2], strict=True)]
        flags += [
            f"-{name}.port.grpc={port}" for name, port in zip(PORTS, ports[1::2], strict=True)
        ]
        keys = self.folder / "keys.json"
        keys.write_text(json.dumps(_identities()))
        return [
            *[weed(), "-logtostderr=true", "server", f"-dir={self.folder}", "-filer", "-s3"],
            *["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"],
            *[f"-s3.config={keys}", "-iam=false", "-s3.iam=false"],
            *["-s3.port.iceberg=0", "-s3.port.lance=0", "-filer.localSocket=", "-s3.localSocket="],
            *["-master.volumeSizeLimitMB=64", "-volume.max=500", "-volume.preStopSeconds=0"],
            *["-master.electionTimeout=1s", *flags],
        ]

    def _wait_until_it_writes(self) -> None:
        """The port answers before objects can be written."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                bucket = self.new_bucket()
                self.client().put_object(Bucket=bucket, Key="ready", Body=b"1")
                return
            except (BotoCoreError, ClientError):
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    log = (self.folder / "server.log").read_text(errors="replace")
                    raise RuntimeError(f"the S3 server did not start:\n{log[-3000:]}") from None
                time.sleep(0.2)


def weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _identities() -> dict:
    return {
        "identities": [
            {
                "name": "tests",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "List", "Tagging", "Write"],
            }
        ]
    }


def use(server: S3Server, monkeypatch) -> None:
    """Let this process find the server by the usual chain of credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
