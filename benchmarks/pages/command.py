"""`python -m benchmarks tables`: render the committed pages from the committed records."""

import argparse

from .committed import write_committed_pages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def main(arguments: argparse.Namespace) -> int:
    for file in write_committed_pages():
        print(file)
    return 0
