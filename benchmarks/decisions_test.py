"""The `decisions` of a spec: their format, the defaults that they name, the planned runs, and each paper's own."""

import dataclasses
import re

import pytest
import yaml

from benchmarks import decisions
from benchmarks.decisions import DOCUMENT
from benchmarks.reproduce.plan import chosen_documents, chosen_rows
from benchmarks.spec import known_papers, load_spec
from common.errors import UserError
from common.paper import load_paper
from common.paths import package_folder
from common.runs.settings import load_settings, parse_overrides, run_label

TABLE = """
title: Small
documents:
  - id: table1
    name: Table 1
    caption: Rows.
    dataset: market1501
    average_precision: step
    columns:
      - {id: rank1, title: Rank-1, unit: "%", value: scores.rank1}
      - {id: mAP, title: mAP, unit: "%", value: scores.mAP, group: Market-1501}
    rows:
      - {method: Baseline, run: {variant: baseline}}
      - {method: Full, run: {variant: full}}
"""
DECISIONS = """
noise: table1
columns: [mAP, rank1]
questions:
  - question: What it does
    place: Sec. 3
    reading: much
    ours: {strength: 2, stages: [1, 2]}
    alternatives:
      - {reading: more, set: {strength: 3}}
      - {reading: at one stage, set: {stages: [2]}}
      - {reading: "more, in small", set: {size: 5}, only: demo}
"""
CONFIG = "strength: 2\nstages: [1, 2]\nsize: 8\nper_dataset: {}\nvariants: {full: {}, baseline: {strength: 0}}\n"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """small(change, config, demo): the spec of a paper with these YAML files, `change` applied to its decisions."""
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.setattr(decisions, "package_folder", lambda paper: folder)

    def load(change=lambda spec: None, *, config=CONFIG, demo="size: 4\n"):
        values = yaml.safe_load(TABLE)
        values["decisions"] = yaml.safe_load(DECISIONS)
        values["decisions"]["questions"][0]["ours"]["size"] = 8
        change(values["decisions"])
        (folder / "config.yaml").write_text(config)
        (folder / "demo.yaml").write_text(demo)
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
        return load_spec("small", tmp_path)

    return load


def test_they_become_a_document_of_the_full_model_and_of_each_alternative(small):
    document = small().documents[-1]
    assert (document.id, document.kind, document.scope, document.dataset) == (DOCUMENT,) * 3 + ("market1501",)
    assert [column.id for column in document.columns] == ["mAP", "rank1"] and document.groups() == [None]
    assert [(row.run.label, row.only) for row in document.rows] == [
        ("full", None),
        ("full+strength=3", None),
        ("full+stages=[2]", None),
        ("full+size=5", "demo"),
    ]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("raeding", "x", "questions.0.raeding: Extra inputs"),
        ("alternatives", [], "questions.0.alternatives: Tuple should have at least 1 item"),
        ("ours", {}, "questions.0.ours: Dictionary should have at least 1 item"),
        ("alternatives", [{"reading": "x", "set": {"weight": 1}}], "'x' sets weight, whose value `ours` does not give"),
        ("ours", {"strength": 1, "stages": [1, 2], "size": 8}, "ours is strength: 1, but config.yaml has 2"),
        ("ours", {"strength": 2, "stages": [2], "size": 8}, "ours is stages: [2], but config.yaml has [1, 2]"),
        ("ours", {"strenght": 2, "strength": 2, "stages": [1, 2], "size": 8}, "did you mean 'strength'"),
        ("alternatives", [{"reading": "x", "set": {"strength": 2}}], "'x' is what the full model has"),
        ("alternatives", [{"reading": "x", "set": {"size": 8}, "only": "paper"}], "'x' is what the full model has"),
        ("alternatives", [{"reading": "x", "set": {"size": 4}, "only": "demo"}], "'x' is what the full model has"),
        ("alternatives", [{"reading": "x", "set": {"size": 5}}], "demo.yaml changes size: 'x' needs `only: demo`"),
    ],
)
def test_a_mistake_in_a_decision_is_refused_with_its_place(small, place, value, message):
    with pytest.raises(UserError) as error:
        small(lambda spec: spec["questions"][0].update({place: value}))
    assert "small.yaml: decisions" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("noise", "table2", "noise: there is no document 'table2'"),
        ("columns", ["mAP", "rank2"], "table1 has no column 'rank2'; did you mean 'rank1'"),
        ("columns", [], "decisions.columns: Tuple should have at least 1 item"),
    ],
)
def test_noise_and_columns_name_what_the_spec_has(small, key, value, message):
    with pytest.raises(UserError) as error:
        small(lambda spec: spec.update({key: value}))
    assert message in str(error.value)


def test_a_default_that_moved_in_the_settings_is_refused(small):
    small()
    for config in (CONFIG.replace("strength: 2", "strength: 3"), CONFIG.replace("full: {}", "full: {strength: 3}")):
        with pytest.raises(UserError, match=r"ours is strength: 2, but config\.yaml has 3"):
            small(config=config)
    with pytest.raises(UserError, match=r"demo\.yaml changes strength: 'more' needs"):
        small(demo="strength: 1\n")


def test_a_scope_of_their_own_runs_the_full_model_and_each_alternative_once():
    paper = load_spec("ndmf_net")
    rows = chosen_rows(paper, DOCUMENT, (), demo=True)
    labels = [row.run.label for row, _, _ in rows if row.fits("demo")]
    assert labels[0] == "full" and len(set(labels)) == len(labels) == 17
    assert {dataset for _, dataset, _ in rows} == {"market1501"}
    assert rows == chosen_rows(paper, "headline", [DOCUMENT], demo=True)
    assert [document.id for document in chosen_documents(paper, DOCUMENT, ())] == [DOCUMENT]
    for scope in ("headline", "all"):
        assert DOCUMENT not in {document.id for document in chosen_documents(paper, scope, ())}


@pytest.mark.parametrize("paper", known_papers())
def test_a_run_has_the_label_of_its_row_when_its_settings_went_through_the_command_line(paper):
    for row in load_spec(paper).document(DOCUMENT).rows:
        words = [f"{key}={value}" for key, value in row.run.set.items()]
        assert run_label("full", parse_overrides(words)) == row.run.label


# ------------------------------------------------------------------ the five papers


def resolved(paper, dataset, size, overrides):
    schema = load_paper(paper).settings.Settings
    folder, demo = package_folder(paper), size == "demo"
    settings = load_settings(schema, folder, dataset=dataset, demo=demo, variant="full", overrides=overrides)
    return dataclasses.asdict(settings)


@pytest.mark.parametrize("paper", known_papers())
def test_an_alternative_changes_the_settings_that_it_names_and_no_others(paper):
    document = load_spec(paper).document(DOCUMENT)
    dataset = document.data_set_of(document.rows[0], document.columns[0])
    for size, kind in (("paper", "real"), ("demo", "demo")):
        ours = resolved(paper, dataset, size, {})
        for row in document.rows[1:]:
            if row.fits(kind):
                other = resolved(paper, dataset, size, row.run.set)
                changed = {key for key in ours if ours[key] != other[key]}
                assert changed and changed <= set(row.run.set), row.method


def readme_of(paper):
    return (package_folder(paper) / "README.md").read_text()


@pytest.mark.parametrize("paper", known_papers())
def test_a_question_is_a_row_or_a_note_of_the_papers_readme(paper):
    text = readme_of(paper)
    rows = {line.split("|")[1].strip() for line in text.split("\n") if line.startswith("| ")}
    notes = re.findall(r"^\* (.*)", text, re.MULTILINE)
    for decision in load_spec(paper).decisions.questions:
        question = decision.question
        assert question in rows or any(note.startswith(question) for note in notes), f"not in its README: {question}"


@pytest.mark.parametrize("paper", known_papers())
def test_every_alternative_that_the_readme_gives_as_a_setting_is_run(paper):
    """`key: value` in the tables of its sections on decisions and departures, but for a value that is the user's."""
    sections = readme_of(paper).split("\n## ")
    chosen = [text for text in sections if text.startswith(("Decisions where the paper is silent", "Departures"))]
    assert len(chosen) == 2
    lines = [line for text in chosen for line in text.split("\n") if line.startswith("| ")]
    named = {key for key, value in re.findall(r"`(\w+): ([^`]+)`", "\n".join(lines)) if not value.isupper()}
    run = {key for _, alternative in load_spec(paper).decisions.cases() for key in alternative.set}
    assert named <= run
