"""What the engine is started with."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from backing.clickhouse_server import configuration


def test_the_configuration_is_one_well_formed_file(tmp_path: Path) -> None:
    """It names itself as the file of users, whatever its path, and replaces what was there."""
    file = tmp_path / "a <b> & c.xml"
    file.write_text("old")
    configuration.write(file, threads=3)
    root = ElementTree.parse(file).getroot()  # noqa: S314 - written a line above
    assert root.findtext("users_config") == str(file)
    assert root.findtext("profiles/default/max_threads") == "3"
    assert root.findtext("profiles/default/async_insert") == "0"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_readers_are_granted_reading_only(tmp_path: Path) -> None:
    """The reader's role holds nothing that writes or leaves the engine."""
    configuration.write(tmp_path / "c.xml", threads=1)
    root = ElementTree.parse(tmp_path / "c.xml").getroot()  # noqa: S314 - written a line above
    grants = [query.text for query in root.findall(f"roles/{configuration.READER_ROLE}/grants/query")]
    assert grants == ["GRANT SHOW, SELECT, dictGet ON *.*"]
