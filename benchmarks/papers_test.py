"""What every paper folder must do: work as a copy, run without the other papers, and report mistakes clearly."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from benchmarks.spec import known_papers, load_spec
from common.datasets import reader_of
from common.datasets.synthetic import make_dataset
from common.evaluation.report import evaluate_main
from common.paper import images_per_epoch, load_paper
from common.paths import REPOSITORY
from common.runs import open_run

PAPERS = known_papers()
BY_PAPER = [pytest.param(paper, marks=pytest.mark.xdist_group(paper)) for paper in PAPERS]  # in one process each
OFFLINE = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
DATA_SETS = {paper: load_spec(paper).demo_data_sets[0] for paper in PAPERS}  # the default of its train.py


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A root with each paper's data set, at tiny size."""
    root = tmp_path_factory.mktemp("data")
    others = ["regdb"] if "sysu_mm01" in DATA_SETS.values() else []
    for name in dict.fromkeys([*(reader_of(dataset).NAME for dataset in DATA_SETS.values()), "dukemtmcreid", *others]):
        make_dataset(root / name, like=name, size="tiny")
    return root


def copy_paper(place, paper, name):
    """Copy a paper's folder, with a link to common, into `place`; returns the place."""
    (place / "common").symlink_to(REPOSITORY / "common")
    shutil.copytree(REPOSITORY / paper, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture(scope="module", params=BY_PAPER)
def copied_run(request, tmp_path_factory, tiny):
    """A copied paper after one epoch on tiny data: (name of the paper, place, run directory)."""
    place = copy_paper(tmp_path_factory.mktemp(request.param), request.param, "my_idea")
    done = train(place, "my_idea", "--demo", "--data-root", tiny, "--set", "num_epochs=1")
    assert done.returncode == 0, done.stderr
    (result,) = (place / "reid_runs" / "my_idea").glob("*/result.json")
    return request.param, place, result.parent


def train(folder, package, *arguments, **environment):
    """Run a paper's train.py in a folder, offline and away from the checkout's own runs and data."""
    return run_module(folder, f"{package}.train", "--device", "cpu", *arguments, **environment)


def run_module(folder, module, *arguments, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "PYTHONPATH")}
    places = {name: str(folder / name.lower()) for name in ("REID_RUNS", "REID_DATA", "TORCH_HOME")}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env=clean | places | OFFLINE | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def test_a_copied_folder_trains_at_once_in_its_own_run_directory(copied_run):
    paper, place, directory = copied_run
    assert json.loads((directory / "result.json").read_text())["paper"] == "my_idea"
    assert not (place / "reid_runs" / paper).exists()


def test_an_epoch_trains_on_as_many_images_as_estimates_and_the_progress_bar_expect(copied_run, tiny):
    paper, _, directory = copied_run
    modules = load_paper(paper)
    record = json.loads((directory / "result.json").read_text())

    def planned(**changes):
        changes = [f"{key}={value}" for key, value in {"num_epochs": 1, **changes}.items()]
        options = ["--demo", "--data-root", str(tiny), "--dataset", DATA_SETS[paper], "--device", "cpu"]
        options += ["--set", *changes]
        return open_run(paper, modules.settings.Settings, options)

    trained = record["images_per_second"] * record["seconds"]["train"]  # both are rounded
    assert trained == pytest.approx(images_per_epoch(modules, planned()), rel=0.1)
    in_pairs = hasattr(planned().settings, "pairs_per_batch")
    run = planned(**{"pairs_per_batch": 10} if in_pairs else {"images_per_identity": 3})
    batches = list(modules.train.sampler_of(run).batches(1))
    images = sum(len(batch.first if in_pairs else batch) for batch in batches)
    assert images_per_epoch(modules, run) == images != len(run.dataset.train)


def test_a_copied_folders_tests_test_the_copy(tmp_path):
    place = copy_paper(tmp_path, "ndmf_net", "my_idea")
    shutil.copyfile(REPOSITORY / "pyproject.toml", place / "pyproject.toml")
    model = place / "my_idea" / "model.py"
    model.write_text(model.read_text().replace("x * attention[..., None]", "x + attention[..., None]"))  # eq. 2
    done = run_module(place, "pytest", "-k", "test_pcam_is_eq_1_to_3 or test_sam_is_eq_4_and_5", "my_idea")
    assert done.returncode == 1 and "5 failed, 1 passed" in done.stdout, done.stdout


def test_a_finished_run_is_scored_again_and_on_another_data_set(copied_run, tiny):
    paper, place, directory = copied_run
    name = DATA_SETS[paper]
    multi_query = ["--multi-query"] if name == "market1501" else []
    done = run_module(place, "my_idea.evaluate", directory, "--rerank", "--device", "cpu", *multi_query)
    assert done.returncode == 0, done.stderr
    (folder,) = (directory / "evaluation").glob(f"{name}-tiny")
    found = json.loads((folder / "scores.json").read_text())
    trained = json.loads((directory / "result.json").read_text())["scores"]
    first, reranked = list(found["scores"].values())[:2]
    assert first["mAP"] == pytest.approx(trained["mAP"], abs=1e-6) and first["rank1"] == trained["rank1"]
    assert reranked != first and ("multi_query" in found["scores"]) == bool(multi_query)
    assert f"{100 * first['mAP']:.1f}" in (folder / "table.md").read_text()
    for figure in ("cmc.png", "retrieval.png"):
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    other = "regdb" if name == "sysu_mm01" else "dukemtmcreid"
    done = run_module(place, "my_idea.evaluate", directory, "--dataset", other, "--data-root", tiny, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (directory / "evaluation" / f"{other}-tiny" / "scores.json").is_file()


@pytest.mark.parametrize("paper", PAPERS)
def test_a_folder_without_a_run_of_the_paper_is_refused(paper, tmp_path, capsys):
    def refused():
        with pytest.raises(SystemExit) as stop:
            evaluate_main(paper, load_paper(paper).evaluate.load_run, [str(tmp_path)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert f"{tmp_path} is not a run directory" in refused()
    (tmp_path / "run.json").write_text(json.dumps({"paper": "x"}))
    assert f"{tmp_path} holds a run of x, not of {paper}" in refused()


@pytest.fixture
def offline_main(tmp_path, monkeypatch, capsys):
    """Run a paper's train.py in this process, offline and away from the checkout's runs and data: offline_main(paper,
    words) returns what it printed to stderr."""
    for name in ("REID_RUNS", "REID_DATA", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DATA_ROOT", raising=False)

    def run(paper, words):
        with pytest.raises(SystemExit) as stop:
            load_paper(paper).train.main(["--device", "cpu", *map(str, words)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--data-root", "nowhere"], ["{dataset}", "nowhere", "{landmark}"]),
        (["--demo", "--set", "num_epoch=1"], ["num_epoch", "did you mean 'num_epochs'?"]),
        (["--demo", "--set", "num_epochs=-1"], ["num_epochs", "-1", "greater than or equal to 0"]),
        (["--demo", "--variant", "ful"], ["unknown variant 'ful'", "did you mean 'full'?"]),
        (["--demo", "--dataset", "market1502"], ["market1502", "market1501"]),
    ],
    ids=["data set missing", "unknown key", "value out of range", "unknown variant", "unknown data set"],
)
def test_a_mistake_gives_one_message_and_exit_code_2(paper, arguments, messages, tmp_path, offline_main):
    names = {"dataset": DATA_SETS[paper], "landmark": reader_of(DATA_SETS[paper]).LANDMARKS[0]}
    printed = offline_main(paper, arguments)
    for message in messages:
        assert (message.format_map(names) if "{" in message else message) in printed
    assert printed.count("error:") == 1
    assert not (tmp_path / "reid_runs").exists()


@pytest.mark.parametrize("paper", PAPERS)
def test_weights_that_cannot_be_fetched_are_reported_with_what_can_be_done(paper, tiny, offline_main):
    printed = offline_main(paper, ["--demo", "--data-root", tiny, "--set", "pretrained=imagenet"])
    assert printed.count("error:") == 1
    for part in ("pretrained: imagenet", "download.pytorch.org", "pretrained=none", "checkpoints"):
        assert part in printed


# ------------------------------------------------------------------ one paper alone, and a new one


def copy_repository(place, papers=()):
    """Copy the suite with only these papers and no published records; returns the place."""
    ignored = shutil.ignore_patterns("__pycache__", "*_test.py", "results", "tables")
    for folder in ("common", "benchmarks", *papers):
        shutil.copytree(REPOSITORY / folder, place / folder, ignore=ignored)
    for spec in (place / "benchmarks" / "specs").glob("*.yaml"):
        if spec.stem not in papers:
            spec.unlink()
    return place


def small_demo(place):
    """Put the tiny Market-1501 where the demo's belongs, so that a demo takes seconds."""
    folder = make_dataset(place / "reid_data" / "synthetic" / "demo" / "market1501", size="tiny", processes=1)
    mark = folder / "synthetic.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"size": "demo"}))


def test_a_paper_runs_where_the_other_four_are_deleted(tmp_path):
    place = copy_repository(tmp_path, ["mgre"])
    small_demo(place)
    words = ["reproduce", "mgre", "--demo", "--device", "cpu", "--only", "baseline+num_epochs=0", "colour_histogram"]
    done = run_module(place, "benchmarks", *words)
    assert done.returncode == 0, done.stderr
    page = (place / "reid_runs" / "tables" / "mgre.md").read_text()
    assert "`synthetic, here`: ours, runs finished on this machine" in page
    assert len(list((place / "reid_runs" / "mgre").glob("*/result.json"))) == 2


ANOTHER_NETWORK = {
    "__init__.py": "",
    "settings.py": """
        from pydantic.dataclasses import dataclass

        @dataclass(frozen=True)
        class Settings:
            height: int
            width: int
            hidden_size: int
            num_epochs: int
            batch_size: int
            precision: str
            cache: bool
        """,
    "config.yaml": """
        height: 32
        width: 16
        hidden_size: 24
        num_epochs: 2
        batch_size: 8
        precision: fp32
        cache: true
        per_dataset: {}
        variants: {full: {}, narrow: {hidden_size: 4}}
        """,
    "demo.yaml": "num_epochs: 1",
    "model.py": """
        import torch

        class TokenMixer(torch.nn.Module):
            '''Attention over rows of pixels: a network without a ResNet backbone.'''

            def __init__(self, num_identities, settings):
                super().__init__()
                self.embedding = torch.nn.Linear(3 * settings.width, settings.hidden_size)
                self.attention = torch.nn.MultiheadAttention(settings.hidden_size, 2, batch_first=True)
                self.classifier = torch.nn.Linear(settings.hidden_size, num_identities)

            def forward(self, images):
                rows = self.embedding(images.permute(0, 2, 1, 3).flatten(2))
                return self.attention(rows, rows, rows)[0].mean(1)
        """,
    "train.py": """
        import torch
        from common import augment
        from common.complexity import count_parameters
        from common.errors import command
        from common.evaluation import evaluate_first_search
        from common.images import ImageStore
        from common.runs import Meter, open_run
        from .model import TokenMixer
        from .settings import Settings

        def embedder(model, run):
            return lambda images: torch.nn.functional.normalize(model(augment.normalise(images.to(run.device))))

        @command
        def main(argv=None):
            run = open_run(__package__, Settings, argv)
            run.begin()
            settings, subset = run.settings, run.dataset.train
            store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
            labels = torch.from_numpy(subset.labels)
            run.seed_epoch(0)
            model = TokenMixer(subset.num_identities, settings)
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
            meter = Meter(run, settings.num_epochs, len(subset))
            for epoch in range(1, settings.num_epochs + 1):
                for indices in torch.randperm(len(subset)).split(settings.batch_size):
                    logits = model.classifier(model(augment.normalise(store.gather(indices.numpy()))))
                    loss = torch.nn.functional.cross_entropy(logits, labels[indices])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    meter.update({"loss": loss}, len(indices))
                meter.finish_epoch({"model": model})
            meter.close()
            with torch.inference_mode():
                scores = evaluate_first_search(embedder(model.eval(), run), run.dataset, settings)
            run.finish(scores, {"num_parameters": count_parameters(model)})

        if __name__ == "__main__":
            main()
        """,
    "evaluate.py": """
        from common.evaluation import LoadedRun
        from common.evaluation.report import evaluate_main
        from common.runs import reopen_run
        from .model import TokenMixer
        from .settings import Settings
        from .train import embedder

        def network_of(run):
            model = TokenMixer(run.dataset.train.num_identities, run.settings)
            return LoadedRun(run, model, embedder(model, run))

        def load_run(directory, device="auto"):
            return network_of(reopen_run(__package__, Settings, directory, device)).restored()

        if __name__ == "__main__":
            evaluate_main(__package__, load_run)
        """,
    "figures.py": """
        from common.evaluation.figures import retrieval_figure

        def fig1(runs, file):
            (loaded,) = runs.values()
            return retrieval_figure(loaded, file)
        """,
}
ITS_TABLE = """
title: Rows of pixels
documents:
  - id: table1
    name: Table 1
    caption: How wide it must be.
    dataset: market1501
    average_precision: step
    columns:
      - {id: mAP, title: mAP, unit: "%", value: scores.mAP}
    rows:
      - {method: Narrow, run: {variant: narrow}}
      - {method: Full, reported: {mAP: 99.0}, run: {variant: full}}
  - id: fig1
    name: Fig. 1
    kind: figure
    scope: all
    caption: What it finds.
    dataset: market1501
    rows: [{method: Full, run: {variant: full}}]
"""


def test_a_new_paper_without_a_resnet_gets_from_its_folder_to_a_page(tmp_path):
    place = copy_repository(tmp_path)
    small_demo(place)
    (place / "rows").mkdir()
    for name, text in ANOTHER_NETWORK.items():
        (place / "rows" / name).write_text(textwrap.dedent(text))
    (place / "benchmarks" / "specs" / "rows.yaml").write_text(ITS_TABLE)
    done = run_module(place, "benchmarks", "reproduce", "rows", "--demo", "--device", "cpu", "--scope", "all")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs to do, about " in done.stdout
    page = (place / "reid_runs" / "tables" / "rows.md").read_text()
    record = json.loads((place / "reid_runs" / "rows" / "market1501-demo-full-s0" / "result.json").read_text())
    full = next(line for line in page.split("\n") if line.startswith("| Full "))
    assert [cell.strip() for cell in full.strip("|").split("|")][1:] == [
        "99.0",
        "not run (a)",
        f"{100 * record['scores']['mAP']:.1f} (se {100 * record['scores']['mAP_error']:.1f})",
    ]
    assert "![Fig. 1, synthetic, here](rows/fig1-demo.png)" in page
    done = run_module(place, "rows.evaluate", place / "reid_runs" / "rows" / "market1501-demo-full-s0", "--rerank")
    assert done.returncode == 0, done.stderr
    again = run_module(place, "benchmarks", "reproduce", "rows", "--demo", "--device", "cpu", "--scope", "all")
    assert "nothing to train, only to render" in again.stdout
