"""The peers: the real Triton and the real perf_analyzer, both taken out of wheels into `.peers/`.

The wheel of pytriton carries `tritonserver` with its python backend; an older wheel of tritonclient carries
the `perf_analyzer` binary, which needs two shared libraries that the first wheel brings along under hashed
names. They live in a virtual environment of their own: deuteron is measured against them and needs neither.

    python bench/peers.py                    install what is absent, check it, print the versions
    python bench/peers.py triton FLAG...     become the real tritonserver
    python bench/peers.py perf FLAG...       become the real perf_analyzer
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from servers import Launch, ServerError, serving

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(__file__).resolve().parent / "models"

# The stub of the python backend misreads the arrays of numpy 2, and takes numpy from the first python3 on
# PATH.
PINS: Mapping[str, str] = {"nvidia-pytriton": "0.7.0", "tritonclient": "2.49.0", "numpy": "1.26.4"}

# What perf_analyzer links to, and the pattern under which pytriton's wheel carries it.
LIBRARIES: Mapping[str, str] = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


class PeersError(Exception):
    """The peers cannot be installed or do not run on this machine."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Where the installed peers lie and how each is started."""

    home: Path

    @property
    def environment(self) -> Path:
        """The peers' own virtual environment."""
        return self.home / "venv"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return self.environment / "lib" / f"python{python_version()}" / "site-packages"

    @property
    def tritonserver(self) -> Path:
        """The folder with `bin/`, `backends/` and `caches/`."""
        return self.packages / "pytriton" / "tritonserver"

    @property
    def libraries(self) -> Path:
        """The folder with perf_analyzer's libraries under their plain names."""
        return self.home / "lib"

    @property
    def record(self) -> Path:
        """The file that is written last: what was installed and seen to run."""
        return self.home / "versions.json"

    def triton(self) -> Launch:
        """Say how the real server is started; ports, addresses and repository are still to be added."""
        return Launch(
            command=(
                str(self.tritonserver / "bin" / "tritonserver"),
                f"--backend-directory={self.tritonserver / 'backends'}",
                f"--cache-directory={self.tritonserver / 'caches'}",
            ),
            environment={
                "LD_LIBRARY_PATH": str(python_libraries()),
                "PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            },
        )

    def perf_analyzer(self) -> Launch:
        """Say how the real load generator is started."""
        return Launch(
            command=(str(self.environment / "bin" / "perf_analyzer"),),
            environment={"LD_LIBRARY_PATH": str(self.libraries)},
        )


def python_version() -> str:
    """Return the running interpreter's version as the stubs and site-packages spell it, such as 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def python_libraries() -> Path:
    """Return the folder of libpython, to which the stub is linked; raises PeersError if there is none."""
    folder = Path(sysconfig.get_config_var("LIBDIR"))
    name = f"libpython{python_version()}.so.1.0"
    for candidate in (folder, folder / str(sysconfig.get_config_var("MULTIARCH"))):
        if (candidate / name).exists():
            return candidate
    raise PeersError(
        f"{name} is not in {folder}: the python backend needs a Python built with --enable-shared"
    )


def ensure(home: Path = ROOT / ".peers") -> tuple[Peers, Mapping[str, str]]:
    """Install the peers unless the record says that these very pins ran; return them and their versions.

    Raises PeersError.
    """
    peers = Peers(home)
    wanted = {**PINS, "python": python_version()}
    if peers.record.exists():
        record = json.loads(peers.record.read_text())
        if record["wanted"] == wanted:
            return peers, record["versions"]
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise PeersError("the real Triton and perf_analyzer exist as wheels for x86-64 Linux only")
    install(peers)
    versions = check(peers)
    peers.record.write_text(json.dumps({"wanted": wanted, "versions": versions}, indent=2) + "\n")
    return peers, versions


def install(peers: Peers) -> None:
    """Build the environment anew and put stub and libraries where the binaries look for them."""
    say(f"installing the real Triton and perf_analyzer into {peers.home} (about 300 MB, once)")
    peers.home.mkdir(parents=True, exist_ok=True)
    (peers.home / ".gitignore").write_text("*\n")
    venv.create(peers.environment, clear=True, with_pip=True)
    pins = [f"{name}=={version}" for name, version in PINS.items()]
    # Without their dependencies: both wheels are here for their binaries, not for their Python parts.
    pip = [str(peers.environment / "bin" / "python"), "-m", "pip", "install", "--no-deps", *pins]
    if subprocess.run(pip, check=False).returncode:
        raise PeersError("pip could not install " + ", ".join(pins))
    stub = peers.tritonserver / "python_backend_stubs" / python_version() / "triton_python_backend_stub"
    if not stub.exists():
        raise PeersError(f"the wheel has no python-backend stub for Python {python_version()}")
    shutil.copy2(stub, peers.tritonserver / "backends" / "python")
    peers.libraries.mkdir(exist_ok=True)
    for plain, pattern in LIBRARIES.items():
        hashed = next((peers.packages / "nvidia_pytriton.libs").glob(pattern))
        shutil.copy2(hashed, peers.libraries / plain)


def check(peers: Peers) -> dict[str, str]:
    """Run both binaries once and return their versions; raises PeersError with what they printed."""
    say("checking that both run")
    launch = peers.perf_analyzer()
    answer = subprocess.run(
        [*launch.command, "--version"],
        env=launch.full_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise PeersError(f"perf_analyzer does not run: {answer.stdout}{answer.stderr}")
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        try:
            with serving("triton", peers.triton(), MODELS, Path(folder)) as server:
                triton = str(server.get_json("/v2")["version"])
        except ServerError as error:
            raise PeersError(str(error)) from error
    versions = {
        "triton": triton,
        "perf_analyzer": PINS["tritonclient"],
        "nvidia-pytriton": PINS["nvidia-pytriton"],
    }
    say("ready: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    return versions


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"peers: {text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Install and check, or become one of the peers."""
    try:
        peers, versions = ensure()
    except PeersError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    launches = {"triton": peers.triton, "perf": peers.perf_analyzer}
    if not arguments:
        print(json.dumps(versions, indent=2))
        return 0
    if arguments[0] not in launches:
        print(__doc__, file=sys.stderr)
        return 2
    launch = launches[arguments[0]]()
    return os.execve(launch.command[0], [*launch.command, *arguments[1:]], launch.full_environment())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
