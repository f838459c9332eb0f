import pytest

from common.errors import UserError
from common.files import read_json, read_yaml, write_text, written_atomically


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError), written_atomically(file) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "old" and [f.name for f in tmp_path.iterdir()] == ["a.txt"]
    with written_atomically(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new" and [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_is_reported_with_the_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"x\.json cannot be written: .*Not a directory.* Free some space"):
        write_text(tmp_path / "file" / "x.json", "{}")
    full = pytest.raises(UserError, match=r"a\.txt cannot be written: .*No space left on device\. Delete old runs")
    with full, written_atomically(tmp_path / "a.txt", advice="Delete old runs"):
        raise OSError(28, "No space left on device")


def test_json_and_yaml_that_cannot_be_read_are_named(tmp_path):
    assert read_json(tmp_path / "absent.json") is None
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(UserError, match="does not exist"):
        read_yaml(tmp_path / "absent.yaml")
    for text, message in (("a: [", "is not valid YAML"), ("- 1\n", "must hold key: value lines")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").touch()
    assert read_yaml(tmp_path / "empty.yaml") == {}
