"""Says in full sentences what is missing or odd in a shop's own data, before anything is loaded."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shop_platform.errors import ShopPlatformError
from shop_platform.settings import Settings
from shop_platform.sources import hints, oddities
from shop_platform.sources.base import Shop
from shop_platform.sources.contract import Kind, duplicate, reasons
from shop_platform.sources.mapped import MappedSource, mapped_shop
from shop_platform.sources.mapping import Mapping
from shop_platform.sources.reading import open_duckdb
from shop_platform.sources.sieving import is_blank
from shop_platform.sources.textfiles import Rejected

if TYPE_CHECKING:
    import duckdb

Level = Literal["error", "warning", "fine"]

#: In the order in which each refers only to those before it.
KINDS: tuple[Kind, ...] = ("users", "products", "events", "searches")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: an error keeps the data, or many of them, from being loaded; a warning does not.
        about: file, section or kind of rows.
        text: what it is, in full sentences.
        fix: what to do, or to paste; None where nothing is to be done.
    """

    level: Level
    about: str
    text: str
    fix: str | None = None

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def diagnose(config: Path, settings: Settings) -> list[Finding]:
    """Read everything that a mapping names, load nothing, and say what was found: errors first.

    Texts quote values of the columns that they are about, but no names and mail addresses.
    """
    try:
        shop = mapped_shop(config, settings)
    except ShopPlatformError as error:
        return [Finding("error", config.name, str(error))]
    source = shop.source
    if not isinstance(source, MappedSource):
        raise AssertionError("a mapping makes a mapped source")
    found = list(_about_files(source))
    if not any(finding.level == "error" for finding in found):
        found += _about_rows(shop, source)
    order = ("error", "warning", "fine")
    return sorted(found, key=lambda finding: order.index(finding.level))


def _about_files(source: MappedSource) -> Iterator[Finding]:
    """Files that are not there or hold nothing."""
    for name, pattern in source.mapping.file_tables.items():
        try:
            paths = source.paths_of(name)
        except ShopPlatformError:
            text = f"There is no file {pattern} in {source.base}, where [files.tables] looks for {name!r}."
            yield Finding("error", pattern, text, _near_files(source.base, pattern))
            continue
        blank = [path for path in paths if path.suffix != ".parquet" and is_blank(path)]
        for path in blank:
            level: Level = "error" if len(blank) == len(paths) else "warning"
            yield Finding(
                level, path.name, f"{path.name} holds nothing.", "Was its export cut off? Make it again, or remove it."
            )


def _near_files(base: Path, pattern: str) -> str:
    there = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())[:2_000]
    near = difflib.get_close_matches(pattern, there, n=3, cutoff=0.5)
    if near:
        return f"There is {', '.join(near)}: correct the name in [files.tables]."
    return f"Put the file there, or set SHOP_DATA to the folder that holds it; {base} holds {len(there):,} files."


def _about_rows(shop: Shop, source: MappedSource) -> list[Finding]:
    found: list[Finding] = []
    connection = open_duckdb()
    with tempfile.TemporaryDirectory(prefix="shop_platform_") as folder:
        try:
            rejected = source.open_tables(connection, Path(folder))
        except ShopPlatformError as error:
            return [Finding("error", "the data", str(error), hints.for_error(str(error)))]
        found += _about_encodings(rejected)
        with source.shops_time(connection):
            for kind in KINDS:
                if source.mapping.kind(kind) is None:
                    text = "The mapping has no [searches]: there will be no segments."
                    found.append(Finding("fine", "searches", text))
                    continue
                try:
                    source.map_kind(connection, kind, rejected)
                except ShopPlatformError as error:
                    found.append(Finding("error", f"[{kind}]", str(error), hints.for_error(str(error))))
                    break  # what comes after refers to it
                found += _about_kind(connection, shop, source, kind)
            else:
                found += [
                    Finding("warning", about, text, fix)
                    for about, text, fix in oddities.find(connection, source.mapping, source.moment)
                ]
    return found


def _about_encodings(rejected: dict[str, list[Rejected]]) -> Iterator[Finding]:
    """Files that are no UTF-8: one line to paste mends them all."""
    for name, lines in rejected.items():
        wrong = [line for line in lines if "UTF-8" in line.damaged.reason]
        if wrong:
            first = wrong[0]
            text = (
                f"{first.path.name} is no UTF-8: {len(wrong):,} lines can't be read, "
                f"the first is line {first.damaged.line}."
            )
            yield Finding("error", first.path.name, text, f'[files.encodings]\n{name} = "latin-1"')


def _about_kind(connection: duckdb.DuckDBPyConnection, shop: Shop, source: MappedSource, kind: Kind) -> list[Finding]:
    """How many rows of a kind there are, and which break the contract."""
    counts = connection.execute(
        f"SELECT own, reason, count(*) FROM shop.{kind} GROUP BY ALL ORDER BY 3 DESC, 2"  # noqa: S608  one of four names
    ).fetchall()
    read = sum(count for _, _, count in counts)
    usable = sum(count for own, reason, count in counts if reason is None and not own)
    broken = [(reason, count) for own, reason, count in counts if reason is not None and not own]
    if not read:
        return [Finding("error" if kind != "searches" else "warning", kind, f"There are no rows for {kind} at all.")]
    over = sum(count for _, count in broken) > shop.quarantine_at_most * read
    found = [_reason_finding(connection, source, kind, reason, count, read, over=over) for reason, count in broken]
    left_out = sum(count for own, _, count in counts if own)
    text = f"{usable:,} of {read:,} rows for {kind} can be loaded"
    text += f", {left_out:,} are left out on purpose." if left_out else "."
    if over:
        broken_rows = sum(count for _, count in broken)
        text += (
            f" {broken_rows:,} ({broken_rows / read:.1%}) break the contract, more than the "
            f"{shop.quarantine_at_most:.1%} that are allowed: nothing would be loaded."
        )
        return [Finding("error", kind, text, "Mend what follows, or set quarantine_at_most in [shop]."), *found]
    return [Finding("fine", kind, text), *found]


def _reason_finding(
    connection: duckdb.DuckDBPyConnection,
    source: MappedSource,
    kind: Kind,
    reason: str,
    count: int,
    read: int,
    *,
    over: bool,
) -> Finding:
    column = _column_of(source.mapping, kind, reason, source)
    rows = count, read
    share = f"{count / read:.1%}" if count / read >= 0.001 else "under 0.1%"
    text = f"{rows[0]:,} of {rows[1]:,} rows for {kind} ({share}) would be quarantined: {reason}."
    expression = getattr(source.section(kind).columns, column) if column else ""
    examples = hints.examples(connection, kind, reason, column, expression)
    if examples:
        text += f" For example {'; '.join(examples)}."
    fix: Callable[..., str | None] = hints.for_reason
    return Finding(
        "error" if over else "warning", kind, text, fix(connection, source.mapping, kind, reason, column, expression)
    )


def _column_of(mapping: Mapping, kind: Kind, reason: str, source: MappedSource) -> str | None:
    """The column that a reason is about; None for lines that can't be read."""
    if reason == duplicate(kind):
        return {"users": "user_id", "products": "product_id"}[kind]
    known = reasons(kind, searchers_are_users=mapping.shop.searchers_are_users, moment=source.moment)
    return next((each.column for each in known if each.text == reason), None)
