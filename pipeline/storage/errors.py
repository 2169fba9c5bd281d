"""Errors of files and object stores, as a reason code and one sentence.

The sentences name the file and the kind of error. They never repeat the text of a server or a
library, which may contain a key, a token or a signed address.
"""

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from nightscribe.errors import NightscribeError

NOT_FOUND = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
DENIED = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
CHANGED = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
BUSY = {"429", "500", "502", "503", "504", "InternalError", "RequestTimeout", "SlowDown"}

# Object stores refuse requests whose signing clock differs from theirs by more.
MAX_SKEW_S = 900.0

SENTENCES = {
    "not_found": "there is no such file",
    "denied": "access is not allowed",
    "clock": "the clock of this machine is wrong and the object store refuses it; correct it",
    "no_credentials": "no credentials were found in the environment, the profile or the machine",
    "changed": "the file has changed since it was planned",
    "outside": "a link that leads out of the folder is not followed; name its target instead",
    "busy": "the object store kept failing or asking to slow down",
    "unreachable": "the object store cannot be reached",
    "timeout": "the object store did not answer in time",
    "truncated": "the connection ended before the file did",
    "no_space": "there is no space left",
    "bad_location": "this is not the name of a file or a bucket",
    "io": "reading or writing failed",
}
# Where the code of an object store says more than our reason.
SENTENCES_OF_CODE = {"NoSuchBucket": "there is no such bucket"}
DISK_NOTES = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "check the owner and the mode of the file and its folder",
    errno.EPERM: "check the owner and the mode of the file and its folder",
}
TRANSIENT = {"busy", "clock", "unreachable", "timeout", "truncated"}


class StorageError(NightscribeError):
    """A file that could not be listed, read or written."""

    fault = "environment"

    def __init__(self, reason: str, uri: str, note: str = "") -> None:
        self.reason = reason
        super().__init__(reason, uri, note)

    def __str__(self) -> str:
        return f"{self.args[1]}: {self.sentence}"

    @property
    def sentence(self) -> str:
        """What happened, without the name of the file."""
        reason, _, note = self.args
        sentence = SENTENCES_OF_CODE.get(note, SENTENCES[reason])
        return sentence + (f" ({note})" if note else "")

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.reason in TRANSIENT


@contextmanager
def one_sentence(uri: str) -> Iterator[None]:
    """Turn whatever disk or S3 raises inside into a StorageError about this file."""
    try:
        yield
    except boto.ClientError as error:
        raise StorageError(*_of_reply(error, uri)) from None
    except (OSError, boto.BotoCoreError, ResponseParserError) as error:
        raise StorageError(_of_exception(error), uri, _note(error)) from None


def _of_reply(error: boto.ClientError, uri: str) -> tuple[str, str, str]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    note = code if re.fullmatch(r"\w{1,60}", code) else ""
    for reason, codes in (
        ("not_found", NOT_FOUND),
        ("denied", DENIED),
        ("changed", CHANGED),
        ("busy", BUSY),
    ):
        if code in codes or status in codes:
            if reason == "denied":
                return _of_denial(error, uri, note)
            return reason, uri, note
    return "io", uri, note


def _of_denial(error: boto.ClientError, uri: str, code: str) -> tuple[str, str, str]:
    if _is_clock_wrong(error):
        return "clock", uri, code
    return "denied", uri, f"check the credentials and their policy: {code or 'no code was sent'}"


def _is_clock_wrong(error: boto.ClientError) -> bool:
    """By the date of the reply: some replies have no body with the cause."""
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return bool(date) and abs(parsedate_to_datetime(date).timestamp() - time.time()) > MAX_SKEW_S


def _of_exception(error: BaseException) -> str:
    for reason, kinds in _REASON_OF_KIND.items():
        if isinstance(error, kinds):
            return reason
    return _REASON_OF_NUMBER.get(getattr(error, "errno", None), "io")


def _note(error: BaseException) -> str:
    """What a disk says beside the reason, or which endpoint was asked."""
    endpoint = getattr(error, "kwargs", {}).get("endpoint_url")
    if endpoint:
        asked = urlsplit(str(endpoint))  # its path and query are those of the request
        return f"at {asked.scheme}://{asked.netloc.rpartition('@')[2]}"
    return DISK_NOTES.get(getattr(error, "errno", None) or 0, "")


_REASON_OF_NUMBER: dict[int | None, str] = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.ELOOP: "not_found",
    errno.EROFS: "denied",
    errno.ENAMETOOLONG: "bad_location",
}
_REASON_OF_KIND: dict[str, tuple[type[BaseException], ...]] = {
    "no_credentials": (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.ProfileNotFound,
        boto.TokenRetrievalError,
    ),
    "timeout": (boto.ConnectTimeoutError, boto.ReadTimeoutError, TimeoutError),
    "truncated": (
        boto.IncompleteReadError,
        boto.ResponseStreamingError,
        boto.FlexibleChecksumError,
        ResponseParserError,
    ),
    "unreachable": (boto.HTTPClientError, boto.ConnectionError, ConnectionError),
    "bad_location": (boto.ParamValidationError, boto.InvalidRegionError, NotADirectoryError),
    "not_found": (FileNotFoundError,),
    "denied": (PermissionError,),
}
