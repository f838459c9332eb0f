"""`python -m benchmarks reproduce | publish | tables | speed`; see the Makefile for the usual ways to call it."""

import argparse
import sys

from common.errors import command


@command
def main(argv: list[str] | None = None) -> int:
    from . import pages, publish, reproduce, speed

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Reported and reproduced numbers.")
    commands = parser.add_subparsers(dest="command", required=True)
    reproduce.add_arguments(commands.add_parser("reproduce", help="run what a paper's tables need, then render them"))
    publish.add_arguments(commands.add_parser("publish", help="copy finished runs into the committed records"))
    commands.add_parser("tables", help="render the committed pages anew")
    speed.add_arguments(commands.add_parser("speed", help="measure training, inference and the data path"))
    arguments = parser.parse_args(argv)
    if arguments.command == "reproduce":
        return reproduce.main(arguments)
    if arguments.command == "publish":
        return publish.main(arguments)
    if arguments.command == "speed":
        return speed.main(arguments)
    for file in pages.write_committed_pages():
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
