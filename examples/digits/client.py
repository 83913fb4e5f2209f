"""Send the held-out digits, as PNG pictures, through the ensemble `digits` and count the right answers.

Once over HTTP and once over gRPC, a few requests at a time, with Triton's own client library.  Exits with 1
if either accuracy is below 97 %, or if there is no server that serves the ensemble.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
import tritonclient.grpc.aio
import tritonclient.http.aio
from aiohttp import ClientError
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

MODEL = "digits"
HELD_OUT = Path(__file__).parent / "repository" / "held_out.npz"
LEAST_ACCURACY = 0.97
AT_ONCE = 8  # requests in flight: enough for the server to make batches of them
TIMEOUT_S = 30
SHOWN = 4
CLASSES_SHOWN = 2
SHADES = " ░▒▓█"  # from paper to ink


class NotServedError(Exception):
    """No server serves the ensemble, and the message says what is there instead."""


class Door:
    """One protocol's way to the server; its `library` is tritonclient's module for it."""

    def __init__(self, name: str, library: ModuleType, address: str) -> None:
        self.name = name
        self.address = address
        self._library = library
        self._client: Any = None

    async def __aenter__(self) -> Self:
        """Connect; raise NotServedError unless the model is ready behind this door."""
        self._client = self._library.InferenceServerClient(self.address)
        try:
            ready = await self._client.is_model_ready(MODEL)
        except (OSError, ClientError, InferenceServerException) as error:
            await self._client.close()
            raise NotServedError(
                f"no server answers {self.name} at {self.address} (`make serve` starts one): {error}"
            ) from error
        if not ready:
            await self._client.close()
            raise NotServedError(f"the server at {self.address} has no model `{MODEL}` that is ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._client.close()

    async def classify(self, pngs: list[bytes], class_count: int = 0) -> NDArray[Any]:
        """Ask for the probabilities of each picture, FP32 [n, 10].

        With a `class_count`, Triton's classification extension answers with as many of the likeliest classes
        instead: BYTES [n, class_count], each "probability:index:label".
        """
        encoded = self._library.InferInput("ENCODED", [len(pngs), 1], "BYTES")
        encoded.set_data_from_numpy(np.array(pngs, np.object_).reshape(-1, 1))
        wanted = self._library.InferRequestedOutput("PROBABILITIES", class_count=class_count)
        result = await self._client.infer(MODEL, [encoded], outputs=[wanted])
        answer: NDArray[Any] = result.as_numpy("PROBABILITIES")
        return answer


async def main() -> int:
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Classify the held-out digits over HTTP and gRPC.")
    parser.add_argument("--http", default="localhost:8000", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--grpc", default="localhost:8001", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument(
        "--held-out", type=Path, default=HELD_OUT, metavar="FILE", help="default: %(default)s"
    )
    arguments = parser.parse_args()
    try:
        with np.load(arguments.held_out) as held_out:
            pictures, digits = held_out["pictures"], held_out["digits"]
    except FileNotFoundError:
        print(f"error: {arguments.held_out} is not there; examples/digits/build.py makes it", file=sys.stderr)
        return 1
    doors = (
        Door("HTTP", tritonclient.http.aio, arguments.http),
        Door("gRPC", tritonclient.grpc.aio, arguments.grpc),
    )
    print(f"{len(digits)} held-out digits, each a PNG sent to the ensemble `{MODEL}`, {AT_ONCE} at a time:\n")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            accuracies = [await measure(door, pictures, digits) for door in doors]
            await show(doors[-1], pictures[:SHOWN])
    except TimeoutError:
        print(f"error: the server has not answered all in {TIMEOUT_S} s", file=sys.stderr)
        return 1
    except (NotServedError, OSError, ClientError, InferenceServerException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if min(accuracies) < LEAST_ACCURACY:
        print(f"error: the accuracy is below {LEAST_ACCURACY:.0%}", file=sys.stderr)
        return 1
    return 0


async def measure(door: Door, pictures: NDArray[np.uint8], digits: NDArray[np.int64]) -> float:
    """Classify all pictures, one a request; print accuracy, latency and throughput; return the accuracy."""
    turn = asyncio.Semaphore(AT_ONCE)
    latencies_s = []

    async def read(png: bytes) -> int:
        async with turn:
            asked = time.perf_counter()
            probabilities = await door.classify([png])
            latencies_s.append(time.perf_counter() - asked)
        return int(probabilities.argmax())

    pngs = [png_of(picture) for picture in pictures]
    async with door:
        started = time.perf_counter()
        answers = await asyncio.gather(*(read(png) for png in pngs))
        elapsed_s = time.perf_counter() - started
    accuracy = float(np.mean(np.array(answers) == digits))
    print(
        f"  {door.name}  {door.address:18} accuracy {accuracy:.1%}   "
        f"p50 latency {np.median(latencies_s) * 1e3:.1f} ms   {len(pngs) / elapsed_s:.0f} pictures/s"
    )
    return accuracy


async def show(door: Door, pictures: NDArray[np.uint8]) -> None:
    """Classify a few pictures in one request; print each above its likeliest classes."""
    async with door:
        classes = await door.classify([png_of(picture) for picture in pictures], CLASSES_SHOWN)
    print(f"\n{len(pictures)} of them as one batch, asked for the {CLASSES_SHOWN} likeliest classes:\n")
    shades = (255 - pictures.astype(int)) * len(SHADES) // 256
    for row in range(shades.shape[1]):
        print("   ".join("".join(SHADES[shade] * 2 for shade in picture[row]) for picture in shades))
    for rank in range(CLASSES_SHOWN):
        captions = (caption_of(answer[rank]) for answer in classes)
        print("   ".join(f"{caption:^16}" for caption in captions))


def png_of(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture, UINT8 [8, 8], as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def caption_of(answer: bytes) -> str:
    """Put "probability:index:label" in words."""
    probability, _, label = answer.decode().split(":")
    return f"{label} {float(probability):.1%}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
