"""A prefix of a bucket of an S3-compatible object store."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError
from botocore.session import get_session
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from nightscribe.options import check_options, option
from nightscribe.storage.errors import StorageError, one_sentence
from nightscribe.storage.listing import list_objects
from nightscribe.storage.store import Entry

PART_BYTES = 8 * 2**20
NUM_THREADS = 8
MAX_ATTEMPTS = 6
EMPTY_RANGE = 416
CHECKSUMS = ("when_supported", "when_required")
# Sources of credentials that ask a server.
REMOTE_SOURCES = ("iam-role", "container-role", "sso", "assume-role-with-web-identity")

ReadAt = Callable[[int, int], bytes]  # first byte, number of bytes

_client_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Config:
    """Access to an object store; keys come from the environment, a profile or the machine."""

    endpoint: str | None = option(None, "URL of the object store; null: Amazon S3", common=True)
    region: str | None = option(None, "region of the buckets")
    profile: str | None = option(None, "profile of the credentials file to use", common=True)
    anonymous: bool = option(False, "send no credentials, for public buckets")
    checksums: str = option(
        "when_supported",
        "when_supported, or when_required for older object stores",
        choices=CHECKSUMS,
    )
    acl: str | None = option(
        None, "canned ACL of written objects, such as bucket-owner-full-control"
    )
    connect_timeout_s: float = option(10.0, "timeout of a connection attempt", above=0)
    read_timeout_s: float = option(60.0, "timeout of a request without an answer", above=0)

    def __post_init__(self) -> None:
        check_options(self, "s3")
        if self.endpoint and "@" in urlsplit(self.endpoint).netloc:
            raise ValueError("s3.endpoint holds a password; give credentials by the environment")


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, StorageError) and error.is_transient


retry_transient = retry(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(MAX_ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.1, max=10),
    reraise=True,
)


class S3Store:
    """Objects under one prefix. An object is written whole, with one request."""

    def __init__(self, bucket: str, prefix: str, config: S3Config) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.config = config

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for found in list_objects(self._list_page, self.prefix + prefix):
            yield Entry(found["Key"].removeprefix(self.prefix), found["Size"], _etag(found))

    def stat(self, key: str) -> Entry:
        head = self._head(key)
        return Entry(key, head["ContentLength"], _etag(head))

    def age_s(self, key: str) -> float:
        head = self._head(key)
        now = _http_time_s(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        return now - head["LastModified"].timestamp()

    def read(self, key: str) -> bytes:
        first, size_bytes, version = self._range(key, 0, None)
        starts = range(PART_BYTES, size_bytes, PART_BYTES)
        return b"".join([first, *(self._range(key, start, version)[0] for start in starts)])

    def open(self, key: str) -> BinaryIO:
        entry = self.stat(key)

        def read_at(start: int, num_bytes: int) -> bytes:
            return self._range(key, start, entry.version, num_bytes)[0]

        return cast(BinaryIO, RangeFile(entry.size_bytes, read_at))

    def download(self, key: str, version: str, path: Path) -> None:
        with path.open("wb") as file, ThreadPoolExecutor(NUM_THREADS) as threads:
            size_bytes = self._copy_range(key, 0, version, file.fileno())
            starts = range(PART_BYTES, size_bytes, PART_BYTES)
            copies = [
                threads.submit(self._copy_range, key, start, version, file.fileno())
                for start in starts
            ]
            try:
                for copy in copies:
                    copy.result()
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    @retry_transient
    def write(self, key: str, data: bytes) -> None:
        with one_sentence(self.uri(key)):
            self._client.put_object(
                Bucket=self.bucket, Key=self.prefix + key, Body=data, **self._access
            )

    @retry_transient
    def write_if_absent(self, key: str, data: bytes) -> bool:
        try:
            with one_sentence(self.uri(key)):
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=self.prefix + key,
                    Body=data,
                    IfNoneMatch="*",
                    **self._access,
                )
        except StorageError as error:
            if error.reason != "changed":
                raise
        # A reply may be lost after the write, and older object stores ignore the condition.
        return self.read(key) == data

    @retry_transient
    def upload(self, path: Path, key: str) -> None:
        with one_sentence(self.uri(key)):
            self._client.upload_file(
                str(path),
                self.bucket,
                self.prefix + key,
                ExtraArgs=self._access,
                Config=TransferConfig(
                    multipart_chunksize=4 * PART_BYTES, max_concurrency=NUM_THREADS
                ),
            )

    @retry_transient
    def delete(self, key: str) -> None:
        with one_sentence(self.uri(key)):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def sweep(self) -> None:
        """Does nothing: ops/s3-lifecycle.json removes what killed writers left."""

    @property
    def _access(self) -> dict[str, str]:
        return {"ACL": self.config.acl} if self.config.acl else {}

    @property
    def _client(self) -> Any:
        connecting = asdict(self.config)
        del connecting["acl"]  # sent with each request
        with _client_lock, one_sentence(self.uri("")):
            return _client_of(**connecting)

    @retry_transient
    def _head(self, key: str) -> dict[str, Any]:
        with one_sentence(self.uri(key)):
            return self._client.head_object(Bucket=self.bucket, Key=self.prefix + key)

    @retry_transient
    def _range(
        self, key: str, start: int, version: str | None, num_bytes: int = PART_BYTES
    ) -> tuple[bytes, int, str]:
        """Some bytes, the size of the whole object and its version.

        The size is that of Content-Range: the Content-Length of a broken reply can be wrong.
        """
        condition = {"IfMatch": f'"{version}"'} if version else {}
        with one_sentence(self.uri(key)):
            try:
                reply = self._client.get_object(
                    Bucket=self.bucket,
                    Key=self.prefix + key,
                    Range=f"bytes={start}-{start + num_bytes - 1}",
                    **condition,
                )
            except ClientError as error:
                if _status(error) != EMPTY_RANGE:
                    raise
                return b"", 0, ""
            data = reply["Body"].read()
            size_bytes = int(reply["ContentRange"].rpartition("/")[2])
            expected_bytes = min(num_bytes, size_bytes - start)
            if len(data) != expected_bytes:
                raise IncompleteReadError(actual_bytes=len(data), expected_bytes=expected_bytes)
            return data, size_bytes, _etag(reply)

    def _copy_range(self, key: str, start: int, version: str, descriptor: int) -> int:
        data, size_bytes, _ = self._range(key, start, version)
        with one_sentence(self.uri(key)):
            os.pwrite(descriptor, data, start)
        return size_bytes

    @retry_transient
    def _list_page(self, prefix: str, delimiter: str, token: dict[str, str]) -> dict[str, Any]:
        with one_sentence(self.uri("")):
            return self._client.list_objects_v2(
                Bucket=self.bucket, Prefix=prefix, Delimiter=delimiter, **token
            )


def open_bucket(uri: str, config: S3Config) -> S3Store:
    """The store at s3://bucket/prefix."""
    parts = urlsplit(uri, allow_fragments=False)
    if parts.scheme != "s3" or not parts.netloc:
        raise StorageError("bad_location", uri)
    return S3Store(parts.netloc, uri.removeprefix(f"s3://{parts.netloc}"), config)


@lru_cache
def _client_of(
    *,
    endpoint: str | None,
    region: str | None,
    profile: str | None,
    anonymous: bool,
    checksums: str,
    connect_timeout_s: float,
    read_timeout_s: float,
) -> Any:
    """One client per process and configuration: it is safe to share and slow to create."""
    return boto3.Session(profile_name=profile, region_name=region).client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version=UNSIGNED if anonymous else None,
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=4 * NUM_THREADS,
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _etag(answer: dict[str, Any]) -> str:
    return answer["ETag"].strip('"')


def _http_time_s(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


class RangeFile(io.RawIOBase):
    """A remote file that reads only what is asked for; every read is one request."""

    def __init__(self, size_bytes: int, read_at: ReadAt) -> None:
        self._size_bytes = size_bytes
        self._read_at = read_at
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}
        self._position = origin[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        num_bytes = min(len(buffer), max(self._size_bytes - self._position, 0))
        if num_bytes:
            buffer[:num_bytes] = self._read_at(self._position, num_bytes)
        self._position += num_bytes
        return num_bytes


def source_of_credentials(profile: str | None = None) -> str | None:
    """Where this machine has credentials, such as "env"; None if it has none.

    Nothing is sent: sources that would ask a server are left out.
    """
    session = get_session()
    if profile is not None:
        session.set_config_variable("profile", profile)
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD not in REMOTE_SOURCES and provider.load() is not None:
            return str(provider.METHOD)
    return None
