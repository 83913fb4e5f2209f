"""What the bench asks of the machine: its description, CPU time spent by a process tree and by everybody."""

import os
import platform
import resource
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")  # of /proc's times, per second


def describe() -> dict[str, Any]:
    """Describe the machine that the figures belong to."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": cores(), "memory_gib": round(memory, 1), "kernel": platform.release()}


def cores() -> int:
    """Return how many cores the machine has."""
    return os.cpu_count() or 1


def busy_seconds() -> float:
    """Return the CPU time that all cores have spent on anything so far."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    user, nice, system, _idle, _iowait, *interrupts_and_steal = (int(value) for value in fields[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) / TICKS


def waited_for_seconds() -> float:
    """Return the CPU time of the processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tree_seconds(root: int) -> float:
    """Return the CPU time of process `root`, its living descendants and the dead ones they waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The second field is the name in parentheses and may itself hold spaces and parentheses.
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(entry.name)
        children.setdefault(int(fields[1]), []).append(pid)
        ticks[pid] = sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
    total, frontier = 0, [root]
    while frontier:
        pid = frontier.pop()
        total += ticks.get(pid, 0)
        frontier.extend(children.get(pid, ()))
    return total / TICKS
