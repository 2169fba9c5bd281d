"""Every block format is read as the gguf package reads it."""

import gguf
import numpy as np
import pytest

from nightscribe.model.checkpoints.gguf import BLOCK_FORMATS, dequantized

# Where the fp16 numbers of a block stand: any bits do elsewhere, but not a scale of infinity.
HALVES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
QUANTIZED = [kind_id for kind_id, kind in BLOCK_FORMATS.items() if kind.num_values > 1]


@pytest.mark.parametrize("kind_id", QUANTIZED, ids=lambda kind_id: BLOCK_FORMATS[kind_id].name)
def test_random_blocks_are_read_as_the_gguf_package_reads_them(kind_id):
    kind, theirs = BLOCK_FORMATS[kind_id], gguf.GGMLQuantizationType(kind_id)
    random = np.random.default_rng(kind_id)
    blocks = random.integers(0, 256, (200, kind.size_bytes), dtype=np.uint8)
    for place in HALVES.get(kind.name, (0,)):
        blocks[:, place : place + 2] = random.normal(size=(200, 1)).astype("<f2").view(np.uint8)
    ours = dequantized(blocks.flatten(), kind).numpy()
    np.testing.assert_array_equal(ours, gguf.quants.dequantize(blocks, theirs).flatten())


def test_names_and_sizes_are_those_of_the_format():
    for kind_id, kind in BLOCK_FORMATS.items():
        theirs = gguf.GGMLQuantizationType(kind_id)
        assert kind.name == theirs.name
        assert (kind.num_values, kind.size_bytes) == gguf.GGML_QUANT_SIZES[theirs]
