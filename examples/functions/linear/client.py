"""Ask for the images of many vectors at once, and see that the layer is linear."""

import asyncio
import sys

import numpy as np

from deuteron import AsyncioModelClient


async def main(url: str) -> None:
    """Send every vector as a request of its own; the server puts them side by side."""
    rng = np.random.default_rng(7)
    vectors = rng.random((64, 20), np.float32)
    async with AsyncioModelClient(url, "linear") as client:
        (origin,) = (await client.infer_batch(np.zeros((1, 20), np.float32)))["images"]
        answers = await asyncio.gather(*map(client.infer_sample, vectors))
        total = (await client.infer_sample(vectors.sum(axis=0)))["images"]
    images = np.stack([answer["images"] for answer in answers])
    assert np.allclose((images - origin).sum(axis=0), total - origin, atol=1e-3)
    print(f"{len(images)} images, of shape {images[0].shape}")


asyncio.run(main(sys.argv[1] if sys.argv[1:] else "localhost"))
