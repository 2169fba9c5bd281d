"""LoRA adapters: what training added to the weights of another checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from nightscribe.model.checkpoints.errors import CheckpointError
from nightscribe.model.checkpoints.stored import Inventory, Read, Shape


@dataclass(frozen=True, slots=True)
class Adapter:
    """For some tensors two narrow matrices, for others (embeddings) all their new numbers."""

    tensors: Inventory
    rank: int
    scaling: float

    def merged(self, reads: Mapping[str, Read], shapes: Mapping[str, Shape]) -> dict[str, Read]:
        """Every tensor as it is after the training; refuses an adapter for another model."""
        result = {name: self._merged(name, read, shapes[name]) for name, read in reads.items()}
        self.tensors.refuse_rest()
        if all(result[name] is reads[name] for name in reads):
            raise CheckpointError(f"{self.tensors.path} holds no adapter")
        return result

    def _merged(self, name: str, read: Read, shape: Shape) -> Read:
        if name in self.tensors:
            return self.tensors.take(name, shape).read
        stem = name.removesuffix("_weight").removesuffix(".weight")
        down_name, up_name = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        if down_name not in self.tensors and up_name not in self.tensors:
            return read
        down = self.tensors.take(down_name, (self.rank, shape[1]))
        up = self.tensors.take(up_name, (shape[0], self.rank))

        def read_merged() -> Tensor:
            change = up.read().float() @ down.read().float()
            return change.mul_(self.scaling).add_(read())

        return read_merged
