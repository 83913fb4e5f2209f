"""What is shown when the server has come up: what it serves, where it listens, and a command to try.

People get a table on standard output; where the log is for machines, they get an event for each of its rows.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from shlex import quote
from textwrap import wrap
from typing import Final

import orjson
import structlog

from ..actors.records import IndexEntry
from ..actors.repository import Repository
from ..actors.servable import Servable
from ..proto.config.model_config import InputSpec
from ..proto.datatypes import Datatype
from .listening import UNIX
from .logs import printable
from .settings import LogFormat, Settings

log: Final = structlog.stdlib.get_logger(__name__)

HTTP_SERVICE: Final = "HTTPService"

STATUS_WIDTH: Final = 110
"""Characters of a line of a status; a longer one takes several."""
MAX_SAMPLE_ELEMENTS: Final = 64
"""Elements of an input that still fit into a command line one likes to paste."""
_NO_SAMPLE: Final = frozenset({Datatype.BYTES, Datatype.FP16, Datatype.BF16})


def show(repository: Repository, settings: Settings, addresses: Mapping[str, str]) -> None:
    """Show the models with their states and the addresses by service, `HTTPService` and so on."""
    entries = repository.index() if repository.live else []
    if settings.log.format is LogFormat.JSON:
        for entry in entries:
            log.info("model", model=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return
    lines = [*table([("Model", "Version", "Status"), *map(_row, entries)]), ""]
    lines += [f"{service:<22} {address}" for service, address in addresses.items()]
    certificate = settings.http_tls.certificate if settings.http_tls.enabled else None
    command = command_to_try(repository.served(), addresses.get(HTTP_SERVICE), certificate)
    if command:
        lines += ["", "Try:", f"  {command}"]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose first row is its head, in the form of Triton's tables.

    A cell may have several lines.
    """
    head, *body = [list(zip_longest(*(cell.split("\n") for cell in row), fillvalue="")) for row in rows]
    widths = [max(map(len, column)) for column in zip(*head, *chain(*body), strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def written(lines: Iterable[Sequence[str]]) -> Iterator[str]:
        for cells in lines:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            yield f"| {' | '.join(padded)} |"

    return [rule, *written(head), rule, *written(chain(*body)), rule]


def _row(entry: IndexEntry) -> tuple[str, str, str]:
    version = "-" if entry.version is None else str(entry.version)
    status = f"{entry.state}: {entry.reason}" if entry.reason else entry.state or "not loaded"
    lines = [line for part in status.splitlines() for line in wrap(printable(part), STATUS_WIDTH)]
    return printable(entry.name), version, "\n".join(lines)


def command_to_try(models: Iterable[Servable], address: str | None, certificate: Path | None = None) -> str:
    """Return a `curl` line that one of the models answers, the one that asks for least; empty for none."""
    samples = [(model.name, body) for model in models if (body := _sample(model))]
    if address is None or not samples:
        return ""
    name, body = min(samples, key=lambda sample: (len(sample[1]), sample[0]))
    scheme, trust = ("http", "") if certificate is None else ("https", f"--cacert {quote(str(certificate))} ")
    host, _, port = address.rpartition(":")
    place, over = f"{host}:{port}", ""
    if address.startswith(UNIX):
        place, over = "localhost", f"--unix-socket {quote(address.removeprefix(UNIX))} "
    elif host in ("", "0.0.0.0", "::"):  # noqa: S104 - read, not bound
        place = f"localhost:{port}"
    elif ":" in host:
        place = f"[{host}]:{port}"
    return f"curl -s {trust}{over}{quote(f'{scheme}://{place}/v2/models/{name}/infer')} -d {quote(body)}"


def _sample(model: Servable) -> str:
    """Return a request that counts up through every input of a model, empty where there is no short one."""
    config = model.config
    if config.decoupled or config.sequence_batching is not None:
        return ""
    shapes = [_sample_shape(spec, batching=config.max_batch_size > 0) for spec in config.inputs]
    too_large = any(math.prod(shape) > MAX_SAMPLE_ELEMENTS for shape in shapes)
    if too_large or any(spec.datatype in _NO_SAMPLE for spec in config.inputs):
        return ""
    inputs = [
        {
            "name": spec.name,
            "datatype": spec.datatype.wire_name,
            "shape": shape,
            "data": [number % 2 == 1 if spec.datatype is Datatype.BOOL else number for number in range(size)],
        }
        for spec, shape, size in zip(config.inputs, shapes, map(math.prod, shapes), strict=True)
        if not spec.optional
    ]
    return orjson.dumps({"inputs": inputs}).decode() if inputs else ""


def _sample_shape(spec: InputSpec, *, batching: bool) -> list[int]:
    return [1] * batching + [max(1, dim) for dim in spec.dims]
