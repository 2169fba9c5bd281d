"""Headers of GGUF files: what other programs write into them, and what no program would."""

import struct

import gguf
import numpy as np
import pytest

from nightscribe.model.checkpoints.gguf import ALIGNMENT_KEY, ARRAY, open_gguf
from nightscribe.model.checkpoints.settings import CheckpointError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("alignment", [None, 8, 256])
def test_values_of_every_kind_lie_before_the_tensors(tmp_path, alignment):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "kyutai")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_string("general.name", "a name of no length that divides anything")
    for form in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{form}")(f"a.{form}", 7)
    writer.add_float32("a.float32", 0.5)
    writer.add_float64("a.float64", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_array("tokenizer.ggml.tokens", ["<unk>", "a", "longer"])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.nested", [[1, 2], [3]])
    writer.add_tensor("first", VALUES)
    writer.add_tensor("second", VALUES + 10)
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()
    opened = open_gguf(tmp_path / "a.gguf")
    assert np.array_equal(opened["first"].read(), VALUES)
    assert np.array_equal(opened["second"].read(), VALUES + 10)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(*values: bytes, magic: bytes = b"GGUF", version: int = 3, num_tensors: int = 0) -> bytes:
    return magic + struct.pack("<IQQ", version, num_tensors, len(values)) + b"".join(values)


BROKEN = "broken or truncated GGUF header"
TENSOR = text("a") + struct.pack("<I", 1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(magic=b"GGML"), "is not a GGUF file"),
        (header(version=1), "is GGUF version 1, expected 2 or 3"),
        (header(text("a") + struct.pack("<I", 99)), BROKEN),
        (header(text("a") + struct.pack("<IIQ", ARRAY, 0, 2**60)), BROKEN),
        (
            header(text("a") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 5000),
            BROKEN,
        ),
        (header(text(ALIGNMENT_KEY) + struct.pack("<II", 4, 0)), BROKEN),
        (header(text(ALIGNMENT_KEY) + struct.pack("<I", 8) + text("32")), BROKEN),
        (header(num_tensors=1) + text("a") + struct.pack("<I", 5), BROKEN),
        (header(num_tensors=1) + TENSOR + struct.pack("<QIQ", 1, 77, 0), "has GGUF type 77"),
        (header(num_tensors=1) + TENSOR + struct.pack("<QIQ", 31, 8, 0), "does not fill Q8_0"),
        (header(num_tensors=1) + TENSOR + struct.pack("<QIQ", 9, 0, 0), "is truncated"),
    ],
)
def test_a_header_that_no_program_writes_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        open_gguf(path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened: No such file"):
        open_gguf(tmp_path / "none.gguf")
