"""Clients that share memory with the server: Triton's own helpers, over both protocols."""

import mmap
import os
import queue
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.utils.shared_memory as shm
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .clients import LIBRARIES, Client
from .house import Server, serving
from .test_perf_analyzer import COUNTS, LOADS, measure
from .test_perf_analyzer import pytestmark as needs_perf_analyzer

PAGE = mmap.ALLOCATIONGRANULARITY
ROW = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)
DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
HANDLE = b64encode(bytes(64))

Share = Callable[..., tuple[str, Any]]


@pytest.fixture(scope="module")
def sharing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve all models to clients who may share memory."""
    log = tmp_path_factory.mktemp("sharing") / "server.log"
    with serving(repository, log, "--allow-client-shm=true") as server:
        yield server


@pytest.fixture(params=LIBRARIES)
def sharer(request: pytest.FixtureRequest, sharing: Server) -> Iterator[Client]:
    """Connect each of Triton's clients in turn; what it registered is forgotten afterwards."""
    with Client(request.param, sharing) as client:
        yield client
        client.call("unregister_system_shared_memory")


@pytest.fixture
def share() -> Iterator[Share]:
    """Return a function that makes a segment and registers it; the segments go after the test."""
    handles: list[Any] = []

    def share_(client: Client, *arrays: np.ndarray[Any, Any], size: int = PAGE) -> tuple[str, Any]:
        name = f"test_{uuid.uuid4().hex}"
        handle = shm.create_shared_memory_region(name, f"/{name}", size)
        handles.append(handle)
        shm.set_shared_memory_region(handle, arrays)
        client.call("register_system_shared_memory", name, f"/{name}", size)
        return name, handle

    yield share_
    for handle in handles:
        shm.destroy_shared_memory_region(handle)


def lying(client: Client, name: str, array: np.ndarray[Any, Any], region: str, offset: int = 0) -> Any:  # noqa: ANN401
    """Return an input that lies in a region."""
    tensor = client.library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_shared_memory(region, array.nbytes, offset)
    return tensor


def wanted(client: Client, name: str, region: str, size: int, offset: int = 0) -> Any:  # noqa: ANN401
    """Return an output that is wanted in a region."""
    output = client.library.InferRequestedOutput(name)
    output.set_shared_memory(region, size, offset)
    return output


def regions(client: Client) -> list[str]:
    """Return the names of the regions that the server tells of."""
    told = client.tell("get_system_shared_memory_status")
    return [each["name"] for each in told] if client.is_http else sorted(told.get("regions", {}))


def held(server: Server, region: str) -> int:
    """Return how many files the server has open of a segment, and how many mappings it has of it."""
    process = Path(f"/proc/{server.process.pid}")
    links = [file.readlink() for file in (process / "fd").iterdir() if file.is_symlink()]
    return sum(link.name == region for link in links) + (process / "maps").read_text().count(region)


def test_tensors_travel_through_memory_both_ways(sharer: Client, share: Share) -> None:
    given, _ = share(sharer, ROW, ONES)
    taken, results = share(sharer)
    answer = sharer.infer(
        "add_sub",
        lying(sharer, "INPUT0", ROW, given),
        lying(sharer, "INPUT1", ONES, given, 64),
        outputs=[wanted(sharer, "OUTPUT0", taken, 64), wanted(sharer, "OUTPUT1", taken, 80, 128)],
    )
    assert shm.get_contents_as_numpy(results, np.int32, [16]).tolist() == (ROW + 1)[0].tolist()
    assert shm.get_contents_as_numpy(results, np.int32, [16], 128).tolist() == (ROW - 1)[0].tolist()
    told = answer.get_response(**({} if sharer.is_http else {"as_json": True}))
    shape = [1, 16] if sharer.is_http else ["1", "16"]
    assert told["outputs"] == [
        {"name": name, "datatype": "INT32", "shape": shape} for name in ("OUTPUT0", "OUTPUT1")
    ]
    if not sharer.is_http:
        assert told["raw_output_contents"] == ["", ""]


def test_memory_and_messages_mix_in_one_request(sharer: Client, share: Share) -> None:
    given, _ = share(sharer, ROW)
    taken, results = share(sharer)
    answer = sharer.infer(
        "add_sub",
        lying(sharer, "INPUT0", ROW, given),
        sharer.tensor("INPUT1", ONES),
        outputs=[sharer.output("OUTPUT0"), wanted(sharer, "OUTPUT1", taken, 64)],
    )
    assert answer.as_numpy("OUTPUT0").tolist() == (ROW + 1).tolist()
    assert shm.get_contents_as_numpy(results, np.int32, [16]).tolist() == (ROW - 1)[0].tolist()


def test_strings_travel_through_memory(sharer: Client, share: Share) -> None:
    strings = np.array([b"", b"deuteron", b"\xff\0"], dtype=np.object_)
    spelt = b"".join(len(each).to_bytes(4, "little") + each for each in strings)
    given, _ = share(sharer, np.frombuffer(spelt, np.uint8))
    taken, results = share(sharer)
    tensor = sharer.library.InferInput("INPUT_BYTES", [1, 3], "BYTES")
    tensor.set_shared_memory(given, len(spelt))
    sharer.infer("everything", tensor, outputs=[wanted(sharer, "OUTPUT_BYTES", taken, PAGE)])
    assert shm.get_contents_as_numpy(results, np.object_, [3]).tolist() == strings.tolist()


def test_a_region_may_begin_at_any_page(sharer: Client, share: Share) -> None:
    name, handle = share(sharer, size=4 * PAGE)
    shm.set_shared_memory_region(handle, [ROW], offset=3 * PAGE)
    sharer.call("register_system_shared_memory", "late", f"/{name}", PAGE, offset=3 * PAGE)
    answer = sharer.infer("add_sub", lying(sharer, "INPUT0", ROW, "late"), sharer.tensor("INPUT1", ONES))
    assert answer.as_numpy("OUTPUT0").tolist() == (ROW + 1).tolist()


def test_regions_are_listed_by_name_until_they_are_forgotten(sharer: Client, share: Share) -> None:
    names = sorted(share(sharer)[0] for _ in range(3))
    assert regions(sharer) == names
    told = sharer.tell("get_system_shared_memory_status", names[0])
    one = told[0] if sharer.is_http else told["regions"][names[0]]
    assert (one["key"], int(one["byte_size"])) == (f"/{names[0]}", PAGE)
    sharer.call("unregister_system_shared_memory", names[0])
    assert regions(sharer) == names[1:]
    sharer.call("unregister_system_shared_memory", names[0])
    sharer.call("unregister_system_shared_memory")
    assert regions(sharer) == []


def test_a_region_can_go_as_soon_as_the_answer_is_there(
    sharer: Client, share: Share, sharing: Server
) -> None:
    for _ in range(20):
        given, _ = share(sharer, ROW)
        sharer.infer("add_sub", lying(sharer, "INPUT0", ROW, given), sharer.tensor("INPUT1", ONES))
        sharer.call("unregister_system_shared_memory", given)
        assert regions(sharer) == []


def test_a_region_forgotten_during_a_request_lasts_until_its_answer(share: Share, sharing: Server) -> None:
    array = np.array([[5, 6]], np.int32)
    with Client("grpc", sharing) as client:
        given, _ = share(client, array)
        taken, results = share(client)
        done: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.call(
            "async_infer",
            "slow",
            [lying(client, "INPUT0", array, given)],
            callback=lambda result, error: done.put((result, error)),
            outputs=[wanted(client, "OUTPUT0", taken, 8)],
        )
        client.call("unregister_system_shared_memory")
        assert done.get(timeout=10)[1] is None
        assert regions(client) == []
        assert shm.get_contents_as_numpy(results, np.int32, [2]).tolist() == [5, 6]
        client.infer("slow", client.tensor("INPUT0", array))
        assert (held(sharing, given), held(sharing, taken)) == (0, 0)


def test_streams_share_memory_too(share: Share, sharing: Server) -> None:
    with Client("grpc", sharing) as client:
        given, _ = share(client, np.array([7, 8, 9], np.int32))
        taken, results = share(client)
        told: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.call("start_stream", callback=lambda result, error: told.put((result, error)))
        tensor = tritonclient.grpc.InferInput("IN", [3], "INT32")
        tensor.set_shared_memory(given, 12)
        outputs = [wanted(client, "OUT", taken, 4), client.output("INDEX")]
        client.call("async_stream_infer", "repeat", [tensor], outputs=outputs)
        answers = [told.get(timeout=10) for _ in range(3)]
        client.call("stop_stream")
    assert [(error, result.as_numpy("INDEX").tolist()) for result, error in answers] == [
        (None, [index]) for index in range(3)
    ]
    assert shm.get_contents_as_numpy(results, np.int32, [1]).tolist() == [9]


def test_bad_parts_are_refused_in_tritons_words(sharer: Client, share: Share) -> None:
    given, _ = share(sharer, ROW)
    plain = sharer.tensor("INPUT1", ONES)
    for region, offset, complaint in (
        ("nowhere", 0, "Unable to find shared memory region: 'nowhere'"),
        (given, PAGE, f"Invalid offset for shared memory region: '{given}'"),
        (given, PAGE - 63, f"Invalid offset + byte size for shared memory region: '{given}'"),
        (given, 2**63 - 1, f"Invalid offset for shared memory region: '{given}'"),
    ):
        tensor = lying(sharer, "INPUT0", ROW, region, offset)
        assert sharer.refusal("infer", "add_sub", [tensor, plain])[1] == complaint
        output = wanted(sharer, "OUTPUT0", region, 64, offset)
        refusal = sharer.refusal("infer", "add_sub", [sharer.tensor("INPUT0", ROW), plain], outputs=[output])
        assert refusal[1] == complaint
    tensor = sharer.library.InferInput("INPUT0", [1, 16], "INT32")
    tensor.set_shared_memory(given, 128)
    assert sharer.refusal("infer", "add_sub", [tensor, plain])[1].endswith(
        "input byte size mismatch for input 'INPUT0' for model 'add_sub'. Expected 64, got 128"
    )
    output = wanted(sharer, "OUTPUT0", given, 63)
    refusal = sharer.refusal("infer", "add_sub", [sharer.tensor("INPUT0", ROW), plain], outputs=[output])
    assert refusal[1] == (
        "shared memory size specified with the request for output 'OUTPUT0' (63 bytes) should be at least "
        "64 bytes to hold the results"
    )


def test_a_client_that_cuts_its_segment_short_harms_nobody(sharer: Client, share: Share) -> None:
    given, _ = share(sharer, ROW)
    os.truncate(f"/dev/shm/{given}", 0)
    refusal = sharer.refusal(
        "infer", "add_sub", [lying(sharer, "INPUT0", ROW, given), sharer.tensor("INPUT1", ONES)]
    )
    assert refusal[1] == f"Invalid offset + byte size for shared memory region: '{given}'"
    assert sharer.call("is_server_ready")


def test_what_may_not_be_registered_is_refused_in_tritons_words(sharer: Client, share: Share) -> None:
    given, _ = share(sharer)
    for name, key, size, complaint in (
        (given, f"/{given}", PAGE, f"shared memory region '{given}' already in manager"),
        ("r", "/no_such_segment", 8, "Unable to open shared memory region: '/no_such_segment'"),
        ("r", "/../proc/self/mem", 8, "Unable to open shared memory region: '/../proc/self/mem'"),
        ("r", f"/{given}", PAGE + 1, "failed to register shared memory region 'r': invalid args"),
        ("r", f"/{given}", 2**63, "failed to register shared memory region 'r': invalid args"),
        ("r", "//", 8, "cannot register shared memory region 'r' - invalid shm key '//'"),
    ):
        assert sharer.refusal("register_system_shared_memory", name, key, size)[1] == complaint
    assert regions(sharer) == [given]
    unknown = sharer.refusal("get_system_shared_memory_status", "r")[1]
    assert unknown == "Unable to find system shared memory region: 'r'"


def test_a_client_that_cuts_and_mends_its_segment_all_the_time_harms_nobody(
    share: Share, sharing: Server
) -> None:
    """Memory that is mapped and cut off ends a process with a signal that Python cannot catch."""
    large = np.zeros((8, 1 << 17), np.float32)
    over = threading.Event()

    def cut_and_mend(*segments: str) -> None:
        while not over.is_set():
            for segment in segments:
                os.truncate(f"/dev/shm/{segment}", 0)
                os.truncate(f"/dev/shm/{segment}", large.nbytes)

    with Client("http", sharing) as http, Client("grpc", sharing) as client:
        given, _ = share(client, large, size=large.nbytes)
        taken, _ = share(client, size=large.nbytes)
        hostile = threading.Thread(target=cut_and_mend, args=(given, taken))
        hostile.start()
        try:
            told = {
                refusal(
                    asker,
                    "echo",
                    lying(asker, "INPUT0", large, given),
                    wanted(asker, "OUTPUT0", taken, large.nbytes),
                )
                for _ in range(60)
                for asker in (http, client)
            }
        finally:
            over.set()
            hostile.join()
            http.call("unregister_system_shared_memory")
    beyond = "Invalid offset + byte size for shared memory region: "
    assert {text.partition("'")[0] for text in told} <= {"", beyond}
    assert beyond in {text.partition("'")[0] for text in told}
    assert sharing.process.poll() is None


def refusal(client: Client, model: str, tensor: InferInput, output: InferRequestedOutput) -> str:
    """Ask; return the message of the error, nothing where there was none."""
    try:
        client.infer(model, tensor, outputs=[output])
    except InferenceServerException as error:
        return str(error.message())
    return ""


def test_there_is_no_memory_of_gpus(sharer: Client, share: Share) -> None:
    given, _ = share(sharer)
    assert sharer.tell("get_cuda_shared_memory_status") in ([], {})
    assert sharer.refusal("get_cuda_shared_memory_status", given)[1] == (
        f"The region named '{given}' is registered as system shared memory, not CUDA shared memory"
    )
    assert sharer.refusal("register_cuda_shared_memory", "g", HANDLE, 0, 8)[1] == (
        "failed to register CUDA shared memory region: 'g', GPUs not supported"
    )
    sharer.call("unregister_cuda_shared_memory")
    assert regions(sharer) == [given]


def test_nothing_is_shared_unless_the_operator_allows_it(client: Client) -> None:
    segment = f"test_{uuid.uuid4().hex}"
    handle = shm.create_shared_memory_region(segment, f"/{segment}", 64)
    try:
        for method, *arguments in (
            ("register_system_shared_memory", "r", f"/{segment}", 64),
            ("unregister_system_shared_memory", "r"),
            ("unregister_system_shared_memory",),
            ("register_cuda_shared_memory", "r", HANDLE, 0, 64),
            ("unregister_cuda_shared_memory",),
        ):
            status = "501" if client.is_http else "StatusCode.UNIMPLEMENTED"
            assert client.refusal(str(method), *arguments) == (status, DISABLED)
        assert regions(client) == []
    finally:
        shm.destroy_shared_memory_region(handle)


@needs_perf_analyzer
@pytest.mark.parametrize("load", ["http", "http, asynchronous", "grpc", "grpc streams"])
def test_perf_analyzer_measures_through_memory(sharing: Server, load: str) -> None:
    protocol, model, flags = LOADS[load]
    failures = sharing.read_metric("nv_inference_request_failure")
    said = measure(sharing, protocol, model, f"{flags} --shared-memory system".split())
    assert COUNTS[0] in said
    assert sharing.read_metric("nv_inference_request_failure") == failures
