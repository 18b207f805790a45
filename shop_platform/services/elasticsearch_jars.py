"""The jars of the embedded Elasticsearch: fetched by their Maven coordinates, cached for the user, always verified.

The coordinates and checksums that the project trusts are in `elasticsearch_jars.toml`. To move to another version of
Elasticsearch, run `python -m shop_platform.services.elasticsearch_jars VERSION`, which resolves the dependencies and
prints that file anew; review what changed before you commit it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from platformdirs import user_cache_path

from shop_platform.errors import ServiceError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_PINS = Path(__file__).with_name("elasticsearch_jars.toml")

#: Called with the number of jars fetched so far and the number to fetch.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Jars:
    """Verified jars: the version, the server's own (`lib`), and those of its HTTP transport (`netty`)."""

    version: str
    lib: tuple[Path, ...]
    netty: tuple[Path, ...]


def pinned_version() -> str:
    """Version of Elasticsearch that the project's checksums are for."""
    return str(tomllib.loads(_PINS.read_text(encoding="utf-8"))["version"])


def cache_folder() -> Path:
    """Where the jars are kept for this user, laid out as a Maven repository."""
    return user_cache_path("shop_platform") / "maven"


def ensure_jars(progress: Progress | None = None) -> Jars:
    """Give the jars, fetching those that are missing or not what they should be.

    Raises:
        ServiceError: a jar can't be fetched, or what was fetched does not have the checksum that the project holds.
    """
    pins = tomllib.loads(_PINS.read_text(encoding="utf-8"))
    wanted: dict[str, str] = pins["lib"] | pins["netty"]
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"The cache {cache} can't be written ({error.strerror}): set XDG_CACHE_HOME.") from error
    # One process fetches; the others wait, then find the jars whole.
    with FileLock(cache / "fetch.lock"):
        missing = [name for name, sha256 in wanted.items() if not _is_whole(_path(cache, name), sha256)]
        if missing:
            _fetch(cache, missing, wanted, progress)
    return Jars(
        version=pins["version"],
        lib=tuple(_path(cache, name) for name in pins["lib"]),
        netty=tuple(_path(cache, name) for name in pins["netty"]),
    )


def _path(cache: Path, coordinates: str) -> Path:
    group, artifact, version = coordinates.split(":")
    return cache.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _fetch(cache: Path, missing: list[str], wanted: dict[str, str], progress: Progress | None) -> None:
    """Fetch jars into the cache, each verified before it gets its name there."""
    # The library writes a file under its final name while it downloads, so it downloads somewhere else.
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        context = _context(Path(temporary))

        def fetch(coordinates: str) -> None:
            try:
                fetched: Path = context.create_dependency(coordinates).artifact.resolve()
            except (OSError, RuntimeError, ValueError) as error:  # requests' errors are OSErrors
                raise ServiceError(
                    f"Elasticsearch's jar {coordinates} can't be fetched ({type(error).__name__}). Connect to the "
                    "network and try again, or point ELASTICSEARCH_URL at an Elasticsearch of your own."
                ) from error
            if not _is_whole(fetched, wanted[coordinates]):
                raise ServiceError(
                    f"What was fetched as {coordinates} does not have the checksum that this project holds: "
                    "it is not used. Look at what stands between you and the repository, then try again."
                )
            target = _path(cache, coordinates)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fetched, target)

        with ThreadPoolExecutor(8) as pool:
            for done, _ in enumerate(pool.map(fetch, missing), start=1):
                if progress is not None:
                    progress(done, len(missing))


def _context(folder: Path) -> MavenContext:
    """A Maven context that keeps what it fetches in a folder of ours, not in the user's own repository."""
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=folder, timeout=60)


def _resolve(version: str) -> str:
    """The text of `elasticsearch_jars.toml` for a version of Elasticsearch, from what Maven resolves today."""
    with tempfile.TemporaryDirectory() as temporary:
        context = _context(Path(temporary))

        def closure(coordinates: str) -> dict[str, str]:
            inputs, transitive = context.resolver.resolve([context.create_dependency(coordinates)])
            return {
                f"{d.groupId}:{d.artifactId}:{d.version}": hashlib.sha256(d.artifact.resolve().read_bytes()).hexdigest()
                for d in [*inputs, *transitive]
            }

        lib = closure(f"org.elasticsearch:elasticsearch:{version}")
        netty = closure(f"org.elasticsearch.plugin:transport-netty4:{version}")
    lines = [
        "# The jars of the embedded Elasticsearch: Maven coordinates, and the sha256 of each jar.",
        "# Made by `python -m shop_platform.services.elasticsearch_jars VERSION`.",
        "# `lib` is the server; `netty` is its HTTP transport, less what the server has already.",
        f'\nversion = "{version}"',
    ]
    for name, jars in (("lib", lib), ("netty", {key: jars for key, jars in netty.items() if key not in lib})):
        lines += [f"\n[{name}]", *(f'"{key}" = "{jars[key]}"' for key in sorted(jars))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(_resolve(sys.argv[1]))
