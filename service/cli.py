"""The command `deuteron`: reads a command line, then serves; imports nothing heavy before it has to."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent, wrap
from typing import Final

from .. import __version__
from .arguments import read_settings
from .option import Option, Presence, default_of
from .options import GROUPS
from .values import OptionError

_WIDTH: Final = 100

USAGE: Final = dedent("""\
    deuteron serves models over Triton's protocols.

    Usage:
      deuteron serve --model-repository=<path> [options]
      deuteron serve --help     all options, with their defaults
      deuteron check <repository>  look for faults in a repository without serving it
      deuteron --version

    A model repository is a directory with one directory for each model:

      models/
        classifier/
          config.pbtxt          what the model takes and gives; often not needed
          1/                    version 1
            model.onnx

    deuteron serve --model-repository=models then answers HTTP at port 8000 and gRPC at port 8001,
    and tells its metrics at port 8002.
    """)

EXAMPLES: Final = dedent("""\
    Examples:
      Serve all models of a directory:
        deuteron serve --model-repository=models
      Only one of them, and let clients load the others:
        deuteron serve --model-repository=models --model-control-mode=explicit --load-model=classifier
      On this machine only, with a log for machines:
        deuteron serve --model-repository=models --http-address=127.0.0.1 --grpc-address=127.0.0.1 \\
          --log-format=json
      Names may be shortened as long as they are unambiguous, and values may follow after a space:
        deuteron serve --model-rep models --http-p 9000
    """)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the program's own, and return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = words[0] if words else "--help"
    match command:
        case "--help" | "-h" | "help":
            sys.stdout.write(USAGE)
            return 0
        case "--version":
            sys.stdout.write(f"deuteron {__version__}\n")
            return 0
        case "serve":
            return _serve(words[1:], os.environ)
        case "check":
            from .check.command import check  # noqa: PLC0415 - heavy, and only now needed

            return check(words[1:])
    hint = (
        "Options belong to a command: deuteron serve …"
        if command.startswith("--")
        else f"No command {command!r}."
    )
    sys.stderr.write(f"{hint}\n\n{USAGE}")
    return 1


def _serve(words: Sequence[str], environment: Mapping[str, str]) -> int:
    if "--help" in words or "-h" in words:
        sys.stdout.write(serve_help())
        return 0
    try:
        settings = read_settings(words, environment)
    except OptionError as error:
        sys.stderr.write(f"{error}\n\nSee: deuteron serve --help\n")
        return 1
    from .app import run  # noqa: PLC0415 - what serves is heavy, and only now needed

    return run(settings)


def serve_help() -> str:
    """Return the help of `deuteron serve`: usage, every option by group, examples."""
    return "\n".join(("Usage: deuteron serve --model-repository=<path> [options]", *_groups(), "", EXAMPLES))


def _groups() -> Iterator[str]:
    for group in GROUPS:
        served = [option for option in group.options if option.presence is Presence.SERVED]
        if served:
            yield f"\n{group.title}:"
        for option in served:
            yield from _described(option)
    yield "\nKnown from Triton, accepted, and without effect here:"
    yield from _listed(Presence.INERT)
    yield "\nKnown from Triton, and refused because this version cannot do it:"
    yield from _listed(Presence.ABSENT)


def _described(option: Option) -> Iterator[str]:
    value = f"=<{option.kind.metavar}>" if option.kind.metavar else ""
    yield f"  --{option.name}{value}"
    shown = "" if option.repeatable else _shown(option)
    text = f"{option.help} Default: {shown}." if shown else option.help
    yield from wrap(text, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _listed(presence: Presence) -> list[str]:
    names = [
        f"--{option.name}" for group in GROUPS for option in group.options if option.presence is presence
    ]
    return wrap(", ".join(names), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _shown(option: Option) -> str:
    default = default_of(option)
    match default:
        case bool() if "|" in option.kind.metavar:
            return option.kind.metavar.split("|")[default]
        case bool():
            return str(default).lower()
        case int() | float():
            return f"{default:g}" if isinstance(default, float) else str(default)
        case str() | Path():
            return str(default)
    return str(getattr(default, "value", ""))
