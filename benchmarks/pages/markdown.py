"""Markdown as GitHub reads it: tables with unpadded cells, anchors, contents."""

from collections.abc import Iterable, Sequence


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """The lines of a table. left: how many columns are aligned to the left; numbers are aligned to the right."""
    alignment = [":-" if position < left else "-:" for position in range(len(headers))]
    return [f"| {' | '.join(line)} |" for line in (headers, alignment, *rows)]


def anchor(heading: str) -> str:
    """The link target that GitHub gives a heading."""
    return "".join(letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def contents(headings: Iterable[str]) -> str:
    """Links to the headings of a page, in one paragraph."""
    return " · ".join(f"[{heading}](#{anchor(heading)})" for heading in headings)


def joined(values: Iterable, word: str = "or") -> str:
    """The different values in order, once each: `5, 7 or 11`."""
    texts = list(dict.fromkeys(str(value) for value in values))
    return f" {word} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
