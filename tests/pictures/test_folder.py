"""Which files of a folder are pictures, in which order, and what their classes are."""

from pathlib import Path

import pytest
from PIL import Image

from mlconv.errors import DataDoesNotFit
from mlconv.pictures.folder import find, is_picture


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in find(root).files]


def test_pictures_of_a_flat_folder_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.JPG", "c.webp", "labels.csv", ".hidden.png", "._b.png")
    assert names(tmp_path) == ["a.JPG", "b.png", "c.webp"]
    assert find(tmp_path).labels == ()
    assert [file.name for file in find(tmp_path).skipped] == ["labels.csv"]


def test_subfolders_are_classes_and_are_taken_in_turn(tmp_path: Path) -> None:
    put(tmp_path, "dog/1.png", "cat/1.png", "cat/2.png", "cat/deep/3.png", "dog/2.png", ".git/x.png")
    put(tmp_path, "__MACOSX/cat/1.png")
    found = find(tmp_path)
    assert found.classes == ("cat", "dog")
    assert names(tmp_path) == ["cat/1.png", "dog/1.png", "cat/2.png", "dog/2.png", "cat/deep/3.png"]
    assert found.labels == (0, 1, 0, 1, 0)


def test_a_class_without_pictures_keeps_its_index(tmp_path: Path) -> None:
    put(tmp_path, "ant/readme.txt", "bee/1.png")
    found = find(tmp_path)
    assert (found.classes, found.labels) == (("ant", "bee"), (1,))


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    put(tmp_path, "away/1.png", "photos/cat/2.png")
    (tmp_path / "photos" / "dog").symlink_to(tmp_path / "away")
    (tmp_path / "photos" / "cat" / "again").symlink_to(tmp_path / "photos")
    found = find(tmp_path / "photos")
    assert found.classes == ("cat", "dog")
    assert [file.name for file in found.files] == ["2.png", "1.png"]


def test_links_that_lead_everywhere_are_walked_once(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "a" / str(number)).mkdir(parents=True)
    put(tmp_path, "a/39/1.png")
    for number in range(39):  # two ways from each to the next: 2**39 paths to the picture
        for name in ("left", "right"):
            (tmp_path / "a" / str(number) / name).symlink_to(tmp_path / "a" / str(number + 1))
    assert [file.name for file in find(tmp_path).files] == ["1.png"]


def test_a_file_without_suffix_is_a_picture_where_it_begins_like_one(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "n01440764", format="JPEG")
    put(tmp_path, "LICENSE")
    assert names(tmp_path) == ["n01440764"]
    assert not is_picture(tmp_path / "LICENSE")


def test_pictures_that_pillow_does_not_read_are_no_strangers(tmp_path: Path) -> None:
    put(tmp_path, "a.heic", "b.jpg")
    assert names(tmp_path) == ["a.heic", "b.jpg"]


@pytest.mark.parametrize(("held", "why"), [((), "it is empty"), (("notes.txt", "cat/x.csv"), "`notes.txt`")])
def test_a_folder_without_pictures_is_told_what_it_holds(
    held: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    put(tmp_path, *held)
    with pytest.raises(DataDoesNotFit, match="neither pictures nor") as caught:
        find(tmp_path)
    assert why in (caught.value.why or "")


def test_pictures_beside_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "logo.png", "cat/1.png")
    with pytest.raises(DataDoesNotFit, match=r"`logo\.png` for one, and so does its subfolder `cat`"):
        find(tmp_path)


def test_one_picture_is_a_folder_of_one(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    assert find(tmp_path / "a.png").files == (tmp_path / "a.png",)
