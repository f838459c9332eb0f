"""Table I for one data set, as a result record: `--dataset NAME --demo`, or `--data-root DIR` for the real data."""

import argparse
import time

from common.errors import command
from common.runs import opening, record

from .attribute_tasks import PART_OF_TASK, read_attribute_table


@command
def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.count_attributes", description="Count a data set's attribute tasks."
    )
    opening.add_dataset_arguments(parser)
    dataset = opening.dataset_of(parser.parse_args(argv))
    values = read_attribute_table(dataset).num_values
    scores = {"tasks": dict.fromkeys(values, 1), "values": values, "num_tasks": len(values)}
    settings = {"part_of_task": PART_OF_TASK}
    file = record.write_program_record(
        __package__, "count_attributes", dataset, scores=scores, settings=settings, started=started
    )
    print(f"{dataset.name}: {len(values)} attribute tasks, {', '.join(values)} ({file})")


if __name__ == "__main__":
    main()
