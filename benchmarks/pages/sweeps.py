"""A sweep's scores beside what seeds alone change."""

from benchmarks.spec import Document, PaperSpec

from .evidence import noise_of_sweep
from .sources import Source


def noise_line(paper: PaperSpec, document: Document, source: Source) -> list[str]:
    """One Markdown line: the margin of two points with one seed each, in each ordered column. Nothing where all points
    are of the same networks, or where no row has two seeds."""
    source = source.of_one_age(document)
    trained = {row.run.label for row in document.rows if row.run and row.fits(source.kind)}
    if len(trained) < 2:
        return []
    margins = [
        f"{noise.margin(1, 1):.1f} ({column.title})"
        for column in document.columns
        if column.ordered and (noise := noise_of_sweep(paper, document, column, source))
    ]
    if not margins:
        return []
    up_to = ", ".join(margins)
    return [f"- By seeds alone, {source.title}: two points of one seed each differ by up to {up_to} in 19 of 20 cases."]
