"""The command `deuteron check`: its options, and how findings are shown."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import dedent
from typing import Final

import orjson

from ...proto.errors import InferError
from .checker import Checker
from .finding import Finding, Severity

CLEAN: Final = 0
FAULTY: Final = 1
UNUSABLE: Final = 2
"""The exit status of a command line or a repository that cannot be used."""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line of `deuteron check`."""
    reader = argparse.ArgumentParser(
        prog="deuteron check",
        description="Look for faults in model repositories without serving them: complaints about "
        "configurations with file, line and column, missing files, ensembles that do not fit their models.",
        epilog=dedent("""\
            exit status:
              0  nothing is wrong (with --strict: and nothing is doubtful)
              1  a model could not be loaded
              2  the command line or a repository cannot be used

            Code of models is compiled and never run, so a Python model without a complete configuration
            is looked at only as far as that goes.
            """),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reader.add_argument("repository", nargs="+", type=Path, help="a model repository; those served together")
    reader.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    reader.add_argument("--strict", action="store_true", help="take warnings for errors")
    reader.add_argument(
        "--model-config-name", default="", metavar="NAME", help="prefer configs/NAME.pbtxt to config.pbtxt"
    )
    reader.add_argument(
        "--disable-auto-complete-config",
        action="store_true",
        help="take configurations as they are, as the server's option of this name does",
    )
    return reader


def check(words: Sequence[str]) -> int:
    """Run `deuteron check` and return its exit status."""
    options = parser().parse_args(words)
    try:
        checker = Checker(
            options.repository,
            config_name=options.model_config_name,
            auto_complete=not options.disable_auto_complete_config,
        )
    except InferError as error:
        sys.stderr.write(f"{error.message}\n")
        return UNUSABLE
    findings = []
    for finding in checker.check():
        findings.append(finding)
        _show(f"{_json(finding) if options.json else finding}\n")
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = len(findings) - errors
    sys.stderr.write(f"{len(checker.models)} models, {errors} errors, {warnings} warnings\n")
    return FAULTY if errors or (options.strict and warnings) else CLEAN


def _show(line: str) -> None:
    """Write a line; who reads no further, as `head` does, is no reason to complain."""
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json(finding: Finding) -> str:
    return orjson.dumps({**asdict(finding), "severity": finding.severity.value}).decode()
