"""`python -m benchmarks COMMAND`, where COMMAND is a key of COMMANDS; usually called by the Makefile."""

import argparse
import importlib
import sys

from common.errors import command

COMMANDS = {  # name -> (module with add_arguments(parser) and main(arguments), help)
    "reproduce": ("benchmarks.reproduce.command", "run what a paper's tables need, then render them"),
    "publish": ("benchmarks.publish", "copy finished runs to the committed records"),
    "tables": ("benchmarks.pages.command", "render the committed pages"),
    "tables-here": ("benchmarks.pages.here", "render the pages of this machine's runs from what has finished"),
    "speed": ("benchmarks.speed.command", "measure training, inference, the data path, scoring and re-ranking"),
    "start": ("benchmarks.start.command", "learn the starting weights of the demo (an hour or more)"),
    "gpu": ("benchmarks.gpu.command", "check on a GPU: the same results as on a CPU, speed, one epoch of each paper"),
}


@command
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Reported and reproduced numbers.")
    commands = parser.add_subparsers(dest="command", required=True)
    asked = next((word for word in (sys.argv[1:] if argv is None else argv) if word in COMMANDS), None)
    for name, (module, text) in COMMANDS.items():
        subparser = commands.add_parser(name, help=text)
        if name == asked:  # the others' modules take seconds to import
            importlib.import_module(module).add_arguments(subparser)
    arguments = parser.parse_args(argv)
    return importlib.import_module(COMMANDS[arguments.command][0]).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
