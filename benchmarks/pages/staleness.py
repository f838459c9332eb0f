"""Which records are stale: the source, the settings, the starting weights or the generator of synthetic images have
changed since they were made."""

from functools import cached_property

from benchmarks.spec import PaperSpec, RunSpec
from common.datasets import reader_of
from common.datasets.synthetic.difficulty import generator_version
from common.errors import UserError
from common.paper import load_paper
from common.paths import package_folder
from common.pretrained import weights_hash
from common.runs.record import Record
from common.runs.settings import load_settings, settings_hash
from common.runs.source import source_hash


class Today:
    """A paper's current source and settings, each hashed once."""

    def __init__(self, spec: PaperSpec):
        self.paper = spec.paper
        self.runs: dict[str, RunSpec] = {row.run.label: row.run for d in spec.documents for row, _ in d.runs()}
        self.sources: dict[str, str] = {}
        self.settings: dict[tuple, str | None] = {}

    def change(self, record: Record) -> str:
        """What has changed since the record's run, as `source code and settings`; nothing if nothing has."""
        run = self.runs.get(record.variant)
        if run is None or package_folder(self.paper) is None:
            return ""  # on no page, or without code to compare with
        changed = []
        if record.source_hash != self.source_of(run.module(self.paper)):
            changed.append("source code")
        if record.config_hash is not None and record.config_hash != self.settings_of(run, record):
            changed.append("settings")
        if record.config.get("pretrained") == "synthetic" and record.weights != self.synthetic_weights:
            changed.append("starting weights")
        if record.kind != "real" and record.data.generator_version != generator_version(reader_of(record.dataset).NAME):
            changed.append("images")
        return " and ".join(filter(None, [", ".join(changed[:-1]), *changed[-1:]]))

    @cached_property
    def synthetic_weights(self) -> str | None:
        return weights_hash("synthetic")

    def source_of(self, module: str) -> str:
        if module not in self.sources:
            self.sources[module] = source_hash(module)
        return self.sources[module]

    def settings_of(self, run: RunSpec, record: Record) -> str | None:
        """The hash of the current settings of the record's run; None if config.yaml no longer allows them."""
        key = (run.label, record.dataset, record.kind == "demo")
        if key not in self.settings:
            self.settings[key] = self._settings_of(run, record.dataset, demo=record.kind == "demo")
        return self.settings[key]

    def _settings_of(self, run: RunSpec, dataset: str, *, demo: bool) -> str | None:
        paper = load_paper(self.paper)
        try:
            settings = load_settings(
                paper.settings.Settings,
                package_folder(self.paper),
                dataset=dataset,
                demo=demo,
                variant=run.variant,
                overrides=run.set,
            )
        except UserError:
            return None  # a variant or a key was removed
        if run.program != "train":
            settings = paper.module(run.program).program_settings(settings)
        return settings_hash(settings)
