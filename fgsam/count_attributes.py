"""Table I for one data set, as a result record: `python -m fgsam.count_attributes --dataset NAME [--demo]`."""

import sys
import time

from common.command_line import command_line, find_data_root
from common.datasets import open_dataset
from common.errors import command
from common.program_record import write_program_record

from .attribute_tasks import PART_OF_TASK, read_attribute_table


@command
def main(argv: list[str] | None = None) -> None:
    started = time.monotonic()
    parser = command_line(__package__)
    parser.prog, parser.description = f"python -m {__package__}.count_attributes", "Count a data set's attribute tasks."
    arguments = parser.parse_args(argv)
    dataset = open_dataset(arguments.dataset, find_data_root(arguments), size="demo" if arguments.demo else "full")
    table = read_attribute_table(dataset)
    values = {task: len(found) for task, found in table.values.items()}
    scores = {"tasks": dict.fromkeys(values, 1), "values": values, "num_tasks": len(values)}
    settings = {"part_of_task": PART_OF_TASK}
    path = write_program_record(
        __package__, "count_attributes", dataset, scores=scores, settings=settings, started=started
    )
    print(f"{dataset.name}: {len(values)} attribute tasks, {', '.join(values)} ({path})")


if __name__ == "__main__":
    main(sys.argv[1:])
