"""One stage of the script: its arguments, and its tables, each written when it is measured."""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from nightscribe.benchmarks.report import Table
from nightscribe.model.device import device_of

log = logging.getLogger(__name__)

STAGES = "stages"  # the folder of their files


@dataclass(slots=True, kw_only=True)
class Stage:
    """What is measured on which device, and what was measured or failed so far."""

    name: str
    folder: Path
    sizes: Sequence[str]
    device: torch.device
    tables: list[Table] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, words: Sequence[str]) -> Self:
        """From the words of a command line: FOLDER SIZES DEVICE."""
        folder, sizes, device = words
        place = Path(folder) / STAGES
        place.mkdir(parents=True, exist_ok=True)
        return cls(name=name, folder=place, sizes=sizes.split(","), device=device_of(device))

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def measure(
        self, what: str, tables: Callable[..., Table | Iterable[Table]], *arguments: Any
    ) -> None:
        """Write each table as it comes; an error ends this measurement, not the stage."""
        try:
            measured = tables(*arguments)
            for table in [measured] if isinstance(measured, Table) else measured:
                self.tables.append(table)
                self.write()
        except Exception as error:
            log.warning("%s failed", what, exc_info=True)
            first_line = (str(error).splitlines() or [""])[0]
            self.failures.append(f"{what}: {type(error).__name__}: {first_line}")
            self.write()

    def write(self) -> None:
        """All tables so far, to read and to summarize."""
        text = "\n".join(table.markdown() for table in self.tables)
        failures = "".join(f"- not measured, {failure}\n" for failure in self.failures)
        (self.folder / f"{self.name}.md").write_text(text + failures)
        document = {"tables": [asdict(one) for one in self.tables], "failures": self.failures}
        (self.folder / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n")

    def end(self) -> None:
        """Exit code 1 if anything failed; the terminal gets the tables."""
        sys.stdout.write((self.folder / f"{self.name}.md").read_text())
        sys.exit(1 if self.failures else 0)


def tables_of(folder: Path, name: str) -> list[Table]:
    """The tables that a stage wrote; none if it is lost."""
    path = folder / STAGES / f"{name}.json"
    if not path.exists():
        return []
    return [
        Table(
            title=one["title"],
            columns=tuple(one["columns"]),
            rows=[tuple(row) for row in one["rows"]],
            notes=tuple(one["notes"]),
        )
        for one in json.loads(path.read_text())["tables"]
    ]


def failures_of(folder: Path, name: str) -> list[str]:
    path = folder / STAGES / f"{name}.json"
    return json.loads(path.read_text())["failures"] if path.exists() else []


def records_of(tables: Iterable[Table]) -> list[dict]:
    """Every row of some tables, by the names of its columns, with the title of its table."""
    return [
        dict(zip(table.columns, row, strict=True)) | {"title": table.title}
        for table in tables
        for row in table.rows
    ]
