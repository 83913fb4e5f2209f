"""The small convolutional network that reads a handwritten digit: its data, its training, its two exports.

The digits are those scikit-learn ships: 1797 pictures of 8x8 pixels, made by counting the inked pixels in
each 4x4 block of a 32x32 scan.  A fifth of them is held out, always the same fifth, and never trained on.
Ink is 1 and paper is 0 throughout; an image is FP32 [1, 8, 8] and an answer is ten probabilities.

Importing this module imports PyTorch, scikit-learn and ONNX, which takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0
EPOCHS = 16
BATCH_SIZE = 64
MAX_LEARNING_RATE = 8e-3
LABEL_SMOOTHING = 0.1
MOST_INK = 16  # inked pixels in a 4x4 block of the scan

# The oldest pair with every operator used here in its present form: old runtimes read the file too.
ONNX_OPSET = 13
ONNX_IR_VERSION = 7


@dataclass(frozen=True, slots=True)
class Digits:
    """Images FP32 [n, 1, 8, 8] and the digit, 0 to 9, that each one shows, INT64 [n]."""

    images: torch.Tensor
    digits: torch.Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.digits)


def split_digits() -> tuple[Digits, Digits]:
    """Load the digits and part them into those to train on and those held out."""
    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(
        images.reshape(-1, 1, 8, 8).astype(np.float32) / MOST_INK,
        digits,
        test_size=0.2,
        stratify=digits,
        random_state=SEED,
    )
    train_images, held_images, train_digits, held_digits = (torch.from_numpy(part) for part in parts)
    return Digits(train_images, train_digits), Digits(held_images, held_digits)


def new_network() -> nn.Sequential:
    """Make an untrained network that maps images to ten logits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )


def train(
    data: Digits, held_out: Digits, progress: Callable[[int, float, float], None]
) -> tuple[nn.Sequential, float]:
    """Train a network; return it, with the softmax on top, and its accuracy on the held-out digits.

    `progress(epoch, loss, accuracy)` is called after each epoch.
    """
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the layers are too small for a second thread to pay
    network = new_network()
    optimizer = torch.optim.AdamW(network.parameters())
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    steps_per_epoch = -(-len(data) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LEARNING_RATE, EPOCHS * steps_per_epoch)
    measured = 0.0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(data)), BATCH_SIZE):
            loss = criterion(network(shift(data.images[rows])), data.digits[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        measured = accuracy(network, held_out)
        progress(epoch, total / len(data), measured)
    return nn.Sequential(*network, nn.Softmax(dim=1)).eval(), measured


def shift(images: torch.Tensor) -> torch.Tensor:
    """Shift images by up to one pixel each way, all alike: digits drawn elsewhere are not centred so well."""
    down, right = (int(offset) for offset in torch.randint(0, 3, (2,)))
    return nn.functional.pad(images, (1, 1, 1, 1))[..., down : down + 8, right : right + 8]


@torch.inference_mode()
def accuracy(network: nn.Module, data: Digits) -> float:
    """Measure the share of images of which the network names the digit."""
    network.eval()
    return float((network(data.images).argmax(dim=1) == data.digits).float().mean())


def save_pictures(data: Digits, path: Path) -> None:
    """Write `pictures`, as one would scan them, dark on white, UINT8 [n, 8, 8], and `digits`, INT64 [n]."""
    ink = data.images.squeeze(1).numpy()
    np.savez_compressed(path, pictures=np.rint(255 * (1 - ink)).astype(np.uint8), digits=data.digits.numpy())


def save_torchscript(network: nn.Sequential, path: Path) -> None:
    """Write the network as TorchScript."""
    with warnings.catch_warnings():
        # PyTorch recommends torch.export instead; TorchScript is what this model is here to show.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), path)


def save_onnx(network: nn.Sequential, path: Path) -> None:
    """Write the network as an ONNX graph from IMAGE [batch, 1, 8, 8] to PROBABILITIES [batch, 10]."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "IMAGE"
    for index, layer in enumerate(layer for layer in network if not isinstance(layer, nn.Dropout)):
        operator, attributes = _onnx_operator(layer)
        parameters = [
            numpy_helper.from_array(parameter.detach().numpy(), f"{operator}_{index}.{name}")
            for name, parameter in layer.named_parameters()
        ]
        result = "PROBABILITIES" if isinstance(layer, nn.Softmax) else f"{operator}_{index}"
        node = helper.make_node(operator, [value, *(parameter.name for parameter in parameters)], [result])
        node.attribute.extend(helper.make_attribute(*attribute) for attribute in attributes.items())
        nodes.append(node)
        weights += parameters
        value = result
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("IMAGE", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("PROBABILITIES", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    opset = helper.make_opsetid("", ONNX_OPSET)
    model = helper.make_model(
        graph, opset_imports=[opset], ir_version=ONNX_IR_VERSION, producer_name="deuteron"
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _onnx_operator(layer: nn.Module) -> tuple[str, dict[str, int | list[int]]]:
    """Name the ONNX operator that computes `layer`, with its attributes."""
    match layer:
        case nn.Conv2d():
            return "Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        case nn.ReLU():
            return "Relu", {}
        case nn.MaxPool2d():
            return "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}
        case nn.Flatten():
            return "Flatten", {"axis": 1}
        case nn.Linear():
            return "Gemm", {"transB": 1}
        case nn.Softmax():
            return "Softmax", {"axis": 1}
    raise TypeError(f"no ONNX operator is known for {layer}")
