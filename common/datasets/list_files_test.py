"""Lists of images with labels."""

import pytest

from common.datasets.list_files import read_list, refuse_missing
from common.errors import UserError


def test_blank_lines_spaces_in_names_and_windows_line_ends(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"0000/a_b.jpg 0\r\n\r\n  \nmy folder/c.jpg 12")
    assert read_list(path, "LAYOUT") == [("0000/a_b.jpg", 0), ("my folder/c.jpg", 12)]


@pytest.mark.parametrize("line", ["0001/a.jpg", "0001/a.jpg one", "7", "a.jpg -1"])
def test_a_line_of_another_form_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"0000/a.jpg 0\n\n{line}\n")
    with pytest.raises(UserError, match=r"list\.txt, line 3: .*a/b\.jpg 0"):
        read_list(path, "LAYOUT")


def test_absent_and_empty_lists(tmp_path):
    with pytest.raises(UserError, match=r"list\.txt is missing(.|\n)*LAYOUT"):
        read_list(tmp_path / "list.txt", "LAYOUT")
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(UserError, match="lists no images"):
        read_list(tmp_path / "list.txt", "LAYOUT")


def test_missing_images_are_counted_and_the_first_named(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(9)]
    paths[0].touch()
    with pytest.raises(UserError) as error:
        refuse_missing(paths, tmp_path / "list.txt", shown=3)
    message = str(error.value)
    assert "lists 8 images that are not on disk" in message
    assert [f"{number}.jpg" in message for number in range(9)] == [False, True, True, True] + [False] * 5
    assert "and 5 more" in message
    refuse_missing(paths[:1], tmp_path / "list.txt")
