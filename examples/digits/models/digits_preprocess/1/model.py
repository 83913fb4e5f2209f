"""Turn encoded pictures of dark ink on white paper into the images the network reads."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 4096 * 4096  # a small file can claim to be a vast picture


class TritonPythonModel:
    """ENCODED BYTES [n, 1] to IMAGE FP32 [n, 1, 8, 8], ink 1 and paper 0."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request with its images, or with an error that names the bad picture."""
        return [respond(request) for request in requests]


def respond(request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
    """Answer one request."""
    encoded = pb_utils.get_input_tensor_by_name(request, "ENCODED").as_numpy().ravel()
    images = np.empty((len(encoded), 1, 8, 8), np.float32)
    for index, data in enumerate(encoded):
        try:
            images[index, 0] = decode(data)
        except UnidentifiedImageError:
            return refuse(f"ENCODED[{index}] is neither a PNG nor a JPEG picture")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return refuse(f"ENCODED[{index}] is a picture that cannot be read: {error}")
    return pb_utils.InferenceResponse([pb_utils.Tensor("IMAGE", images)])


def refuse(message: str) -> pb_utils.InferenceResponse:
    """Answer one request with an error that is the client's."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))


def decode(data: bytes) -> NDArray[np.float32]:
    """Decode one picture to ink FP32 [8, 8]; raise one of several errors if it cannot be."""
    with Image.open(BytesIO(data), formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width}x{picture.height} pixels are more than {MOST_PIXELS}")
        # Averaging over boxes is how the 8x8 digits were once made from larger scans.
        grey = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
    return 1 - np.asarray(grey, np.float32) / 255
