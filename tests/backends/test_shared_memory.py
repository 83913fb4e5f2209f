"""Segments of shared memory that belong to somebody else, well meant or not."""

import errno
import mmap
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deuteron.backends.shared_memory import DIRECTORY, open_region
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.shared_memory import RegionPart

PAGE = mmap.ALLOCATIONGRANULARITY
WHOLE = RegionPart("r", 0, PAGE)
BEYOND = "Invalid offset + byte size for shared memory region: 'r'"


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a path where a segment may be made; whatever is there is gone after the test."""
    path = Path(DIRECTORY) / f"test_{uuid.uuid4().hex}"
    yield path
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@pytest.fixture
def segment(place: Path) -> Path:
    """Make a segment of two pages, the second one full of ones."""
    place.write_bytes(bytes(PAGE) + b"\1" * PAGE)
    return place


def refusal(key: str, offset: int = 0, byte_size: int = PAGE) -> tuple[Fault, str]:
    with pytest.raises(InferError) as refused:
        open_region("r", key, offset, byte_size)
    return refused.value.fault, refused.value.message


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_was_read_stays_what_it_was(segment: Path) -> None:
    region = open_region("r", f"/{segment.name}", PAGE, PAGE)
    part = RegionPart("r", 8, 8)
    before = region.read(part)
    with segment.open("r+b") as file:
        file.seek(PAGE + 8)
        file.write(b"\7")
    assert before == b"\1" * 8
    assert region.read(part) == b"\7" + b"\1" * 7


def test_what_is_written_lands_in_the_segment_and_nowhere_else(segment: Path) -> None:
    region = open_region("r", segment.name, PAGE, PAGE)
    room = region.destination(RegionPart("r", 16, 8))
    assert room.byte_size == 8
    room.write(memoryview(b"\2\3\4"))
    expected = bytearray(bytes(PAGE) + b"\1" * PAGE)
    expected[PAGE + 16 : PAGE + 19] = b"\2\3\4"
    assert segment.read_bytes() == expected


def test_a_region_holds_one_descriptor_and_outlives_its_name(segment: Path) -> None:
    before = descriptors()
    region = open_region("r", segment.name, 0, PAGE)
    segment.unlink()
    assert region.read(WHOLE) == bytes(PAGE)
    assert descriptors() == before + 1
    del region
    assert descriptors() == before


def test_an_output_keeps_its_region(segment: Path) -> None:
    before = descriptors()
    room = open_region("r", segment.name, 0, PAGE).destination(WHOLE)
    room.write(b"\5")
    assert segment.read_bytes()[0] == 5
    del room
    assert descriptors() == before


@pytest.mark.parametrize(
    "key",
    [
        "no_such_segment",
        ".",
        "..",
        "/../proc/self/mem",
        "../proc/self/mem",
        "/proc/self/mem",
        "/dev/shm/x",
        "x/../../etc/passwd",
        "x\0y",
        "k" * 300,
    ],
)
def test_a_key_that_is_no_segment_cannot_be_opened(key: str) -> None:
    assert refusal(key) == (Fault.INTERNAL, f"Unable to open shared memory region: '{key}'")


def test_links_pipes_and_directories_are_no_segments(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(bytes(PAGE))
    unable = (Fault.INTERNAL, f"Unable to open shared memory region: '{place.name}'")
    before = descriptors()
    place.symlink_to(target)
    assert refusal(place.name) == unable
    place.unlink()
    place.symlink_to("/proc/self/mem")
    assert refusal(place.name) == unable
    place.unlink()
    os.mkfifo(place)
    assert refusal(place.name) == unable
    place.unlink()
    place.mkdir()
    assert refusal(place.name) == unable
    assert descriptors() == before


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (0, 2 * PAGE + 1),
        (PAGE, PAGE + 1),
        (2 * PAGE, 1),
        (2**63 - 1, 1),
        (2**63, PAGE),
        (2**64 - PAGE, PAGE),
        (0, 2**63),
        (PAGE, 2**64 - 1),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_a_range_beyond_its_segment_is_refused(segment: Path, offset: int, byte_size: int) -> None:
    before = descriptors()
    invalid = (Fault.INVALID_ARG, "failed to register shared memory region 'r': invalid args")
    assert refusal(segment.name, offset, byte_size) == invalid
    assert descriptors() == before


@pytest.mark.parametrize(("offset", "byte_size"), [(0, 0), (2 * PAGE, 0), (1, 8), (PAGE - 1, 1)])
def test_a_range_that_cannot_be_mapped_is_refused(segment: Path, offset: int, byte_size: int) -> None:
    before = descriptors()
    fault, message = refusal(segment.name, offset, byte_size)
    assert fault is Fault.INVALID_ARG
    assert message == (
        f"failed to register shared memory region 'r': unable to process address space"
        f"{os.strerror(errno.EINVAL)}"
    )
    assert descriptors() == before


def test_a_segment_cut_short_is_an_error_of_whoever_uses_it(segment: Path) -> None:
    region = open_region("r", segment.name, 0, 2 * PAGE)
    room = region.destination(RegionPart("r", PAGE, PAGE))
    os.truncate(segment, PAGE)
    assert len(region.read(WHOLE)) == PAGE
    for use in (
        lambda: region.read(RegionPart("r", PAGE, 1)),
        lambda: region.read(RegionPart("r", 0, 2 * PAGE)),
        lambda: region.destination(RegionPart("r", 0, PAGE + 1)),
        lambda: room.write(b"\1"),
    ):
        with pytest.raises(InferError) as refused:
            use()
        assert (refused.value.fault, refused.value.message) == (Fault.INVALID_ARG, BEYOND)
    assert segment.stat().st_size == PAGE


def test_what_one_call_does_not_read_another_does(segment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: pread(descriptor, min(size, 3000), at))
    region = open_region("r", segment.name, 0, 2 * PAGE)
    assert region.read(RegionPart("r", 8, 2 * PAGE - 8)) == bytes(PAGE - 8) + b"\1" * PAGE


def test_a_machine_without_memory_left_is_an_error_and_not_the_end(
    segment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = open_region("r", segment.name, 0, PAGE).destination(WHOLE)

    def full(descriptor: int, raw: memoryview, at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InferError) as refused:
        room.write(b"\1")
    assert refused.value.fault is Fault.INTERNAL
    assert refused.value.message == "unable to write to shared memory region 'r': No space left on device"
