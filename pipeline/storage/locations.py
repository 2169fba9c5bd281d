"""From a location, as users write it, to a store."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from nightscribe.storage.errors import StorageError
from nightscribe.storage.local import LocalStore
from nightscribe.storage.s3 import S3Config, S3Store, open_bucket
from nightscribe.storage.store import Store

__all__ = ["S3Config", "local_path", "open_file", "open_store", "public"]


def open_store(uri: str, s3: S3Config) -> Store:
    """The store of a folder: s3://bucket/prefix, file:///folder or a plain path."""
    if uri.startswith("s3://"):
        return open_bucket(uri, s3)
    return LocalStore(local_path(uri))


def open_file(uri: str, s3: S3Config) -> tuple[Store, str]:
    """The store that holds a file, and the key of the file in it."""
    if uri.startswith("s3://"):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return S3Store(bucket, "", s3), key
    path = local_path(uri)
    return LocalStore(path.parent), path.name


def local_path(uri: str) -> Path:
    """The path of a plain name or a file:// name."""
    if uri.startswith("file://"):
        uri = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    elif "://" in uri:
        raise StorageError("bad_location", public(uri), "a location begins with s3:// or is a path")
    if "\0" in uri:
        raise StorageError("bad_location", uri.replace("\0", "?"), "a path contains no zero byte")
    return Path(uri)


def public(uri: str) -> str:
    """An address without its secrets: the password before the host, the signature at the end."""
    if "://" not in uri or uri.startswith(("s3://", "file://")):
        return uri
    scheme, _, rest = uri.partition("://")
    host, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
