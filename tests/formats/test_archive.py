"""Zip archives whose directories lie."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from mlconv.errors import Corrupt, PathEscape
from mlconv.formats.archive import assert_inside, leads_outside, open_archive


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def test_the_root_is_the_folder_that_all_members_share(tmp_path: Path) -> None:
    together = open_archive(write(tmp_path / "a.zip", {"net/data.pkl": b"1", "net/data/0": b"2"}))
    assert (together.root, together.names(), together.read("data.pkl")) == (
        "net/",
        ["data.pkl", "data/0"],
        b"1",
    )
    assert open_archive(write(tmp_path / "b.zip", {"config.json": b"1", "net/x": b"2"})).root == ""


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", r"..\evil", r"C:\evil", r"\\host\evil"]
)
def test_a_member_that_leads_outside_is_an_escape(name: str, tmp_path: Path) -> None:
    opened = open_archive(write(tmp_path / "a.zip", {"config.json": b"", name: b""}))
    with pytest.raises(PathEscape, match="evil"):
        assert_inside(opened)


@pytest.mark.parametrize("name", ["a", "a/b", "a..b/..c", ".data/version"])
def test_plain_names_stay_inside(name: str) -> None:
    assert not leads_outside(name)


def test_a_member_that_is_a_link_is_an_escape(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("net/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(PathEscape, match="link"):
        assert_inside(open_archive(tmp_path / "a.zip"))


def test_two_members_of_one_name_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("config.json", "good")
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr("config.json", "evil")
    with pytest.raises(Corrupt) as caught:
        open_archive(path)
    assert "config.json" in str(caught.value.why)


def test_an_encrypted_member_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"config.json": b"x"})
    data = bytearray(path.read_bytes())
    for magic, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags_at] |= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="encrypted"):
        open_archive(path)


def test_an_archive_that_claims_far_more_than_it_can_hold_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"zeros": b"x"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 0xFFFF_0000)
    path.write_bytes(data)
    with pytest.raises(Corrupt) as caught:
        open_archive(path)
    assert "4,294,901,760" in str(caught.value.why)


def test_a_member_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    opened = open_archive(write(tmp_path / "a.zip", {"code": b"0" * 1000}, zipfile.ZIP_DEFLATED))
    with pytest.raises(Corrupt):
        opened.read("code", limit=999)


def test_a_member_whose_checksum_is_wrong_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"code": b"0123456789"})
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))
    with pytest.raises(Corrupt, match="damaged"):
        open_archive(path).read("code")


def test_a_stored_member_is_found_in_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"first": b"abc", "second": b"defg"})
    place = open_archive(path).stored_at("second")
    assert place is not None
    assert path.read_bytes()[place : place + 4] == b"defg"


def test_a_cut_off_archive_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"code": b"0" * 1000})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Corrupt):
        open_archive(path)
