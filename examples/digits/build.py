"""Build the example model repository: train the network, put every model in its place, in seconds.

What people wrote (configurations, Python models) lies under `models/` and is copied; what can be computed
(weights, labels, held-out digits) is computed.  The repository is written beside its destination and then
renamed, so a server never meets half of one.  It carries a stamp, the digest of all it was built from: while
the stamp is right, building again does nothing, and knows so before anything slow is imported.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
MODELS = HERE / "models"
STAMP = ".stamp"
HELD_OUT = "held_out.npz"  # for the client; a server looks at directories only
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LABELLED_MODELS = ("digits", "digits_onnx", "digits_torchscript")
LEAST_ACCURACY = 0.975


class BuildError(Exception):
    """The repository cannot be built, and the message says why."""


def main() -> int:
    """Build what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description="Build the example model repository.")
    parser.add_argument("--output", type=Path, default=HERE / "repository", help="default: %(default)s")
    output = parser.parse_args().output.absolute()
    stamp = digest(sources())
    if is_current(output, stamp):
        (output / STAMP).touch()  # for make, which compares times
        say(f"{output} is up to date")
        return 0
    try:
        refuse_foreign(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as workplace:
            fresh = Path(workplace, "fresh")
            shutil.copytree(MODELS, fresh, ignore=shutil.ignore_patterns("__pycache__"))
            compute(fresh)
            (fresh / STAMP).write_text(stamp)
            if output.exists():
                output.rename(Path(workplace, "stale"))
            fresh.rename(output)
    except (BuildError, OSError) as error:
        say(f"error: {error}")
        return 1
    models = sorted(path.name for path in output.iterdir() if path.is_dir())
    say(f"{output} is ready: {', '.join(models)}")
    return 0


def say(text: str) -> None:
    """Print one line of progress, now, with the seconds since the start."""
    print(f"[{time.perf_counter() - STARTED:4.1f} s] {text}", flush=True)


def sources() -> list[Path]:
    """List all files the repository is built from, in a fixed order."""
    written = (path for path in MODELS.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return [HERE / "build.py", HERE / "network.py", *sorted(written)]


def digest(paths: list[Path]) -> str:
    """Compute one SHA-256 of the names and contents of files."""
    total = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path.relative_to(HERE).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def is_current(output: Path, stamp: str) -> bool:
    """Tell whether `output` was built from sources with this stamp."""
    try:
        return (output / STAMP).read_text() == stamp
    except OSError:
        return False


def refuse_foreign(output: Path) -> None:
    """Raise BuildError if something is in the way that this script did not build."""
    if output.exists() and not (output / STAMP).is_file() and not is_empty_directory(output):
        raise BuildError(f"{output} exists and was not built by this script; it is left as it is")


def is_empty_directory(path: Path) -> bool:
    """Tell whether `path` is a directory with nothing in it."""
    return path.is_dir() and next(path.iterdir(), None) is None


def compute(repository: Path) -> None:
    """Train the network and add all that is computed to a copy of `models/`."""
    say("importing PyTorch and scikit-learn ...")
    net = importlib.import_module("network")  # not at the head: an up-to-date repository need not pay for it
    data, held_out = net.split_digits()
    say(f"training a small CNN on {len(data)} handwritten digits; {len(held_out)} are held out")

    def progress(epoch: int, loss: float, accuracy: float) -> None:
        say(f"  epoch {epoch:2}/{net.EPOCHS}   loss {loss:.3f}   held-out accuracy {accuracy:.1%}")

    trained, accuracy = net.train(data, held_out, progress)
    if accuracy < LEAST_ACCURACY:
        raise BuildError(f"held-out accuracy {accuracy:.1%} is below {LEAST_ACCURACY:.1%}")

    say("writing the models ...")
    for model in repository.iterdir():
        (model / "1").mkdir(exist_ok=True)  # a model without files has its version directory too
    net.save_onnx(trained, repository / "digits_onnx" / "1" / "model.onnx")
    net.save_torchscript(trained, repository / "digits_torchscript" / "1" / "model.pt")
    for labelled in LABELLED_MODELS:
        (repository / labelled / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    net.save_pictures(held_out, repository / HELD_OUT)


STARTED = time.perf_counter()

if __name__ == "__main__":
    sys.exit(main())
