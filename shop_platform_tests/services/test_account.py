"""`SHOP_HOME` is private, nobody else's folder is taken over, and no more is opened than has to be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from shop_platform.errors import ServiceError
from shop_platform.services import account, elasticsearch, postgres
from shop_platform.settings import Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_home_that_exists_already_becomes_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "shops").mkdir(parents=True)
    home.chmod(0o755)
    account.private_home(Settings(home=home))
    assert mode(home) == 0o700


def test_a_folder_that_holds_other_things_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    before = tmp_path.stat()
    for server in (postgres, elasticsearch):
        with pytest.raises(ServiceError, match="holds other things"):
            server.url(Settings(home=tmp_path))
    assert tmp_path.stat() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ServiceError, match="is no folder"):
        postgres.url(Settings(home=tmp_path / "home"))


@as_root
def test_a_home_that_is_somebody_elses_is_named_whatever_is_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 54_321, 54_321)
    settings = Settings(home=home)
    for server in (postgres, elasticsearch):
        for ask in (server.url, server.status, server.stop):
            with pytest.raises(ServiceError, match=r"belongs to user 54321"):
                ask(settings)
    assert home.stat().st_uid == 54_321


def test_a_link_somebody_laid_out_is_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    (tmp_path / "socket").symlink_to(theirs)
    with pytest.raises(ServiceError, match="is no folder"):
        account.private_folder(tmp_path / "socket")
    assert mode(theirs) == 0o755


@as_root
def test_root_gives_the_home_to_the_service_account_for_an_embedded_postgres_only(tmp_path: Path) -> None:
    account.private_home(Settings(home=tmp_path / "embedded"))
    account.private_home(Settings(home=tmp_path / "own", database_url="postgresql://there/shop"))
    assert (tmp_path / "embedded").stat().st_uid == account.account().pw_uid
    assert (tmp_path / "own").stat().st_uid == 0
    assert mode(tmp_path / "own") == 0o700


@as_root
def test_folders_above_are_opened_for_passing_through_and_no_more(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o700)
    account.private_home(Settings(home=above / "home"))
    assert mode(above) == 0o701
    assert mode(above / "home") == 0o700


def test_as_any_other_user_nothing_above_is_opened(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o700)
    account.private_folder(above / "home", shared=False)
    assert mode(above) == 0o700
