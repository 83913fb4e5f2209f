"""The programs of docs/library.md and of the README run as they stand; only the doors are closed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/library.md")

PROGRAMS = [
    pytest.param(program, id=f"{page}:{number}")
    for page in PAGES
    for number, program in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    )
    if "from deuteron import" in program
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_documentation_runs(program: str) -> None:
    # A program that would serve for ever asks its model instead, without a port that others may have.
    program = program.replace("Server()", "Server(doors=False)")
    program = program.replace("server.serve()", "assert server.is_alive() and server.index()")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
