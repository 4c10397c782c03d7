"""SHA-256 sums of the files in a checkpoint, in the format of `sha256sum -c`."""

from collections.abc import Collection
import hashlib

from etils import epath

FILE = "SHA256SUMS"
# Orbax writes these for each item. Without them no array can be read, whatever the sums of the other files say: another
# start in a bucket may have deleted them while they were written.
OF_ARRAYS, OF_JSON = ("_METADATA", "manifest.ocdbt"), ("metadata",)


def sums(path: epath.Path, items: Collection[str]) -> dict[str, str]:
    """Returns name under `path` -> SHA-256 of each file in the folders `items` of `path`."""
    files = sorted(folder / name for item in items for folder, _, names in (path / item).walk() for name in names)
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def write(path: epath.Path, items: Collection[str]) -> None:
    """Writes the sums of all files in the folders `items` to `path`/SHA256SUMS. Raises ValueError if one is missing."""
    found = sums(path, items)
    _check_whole(found, items)
    (path / FILE).write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))


def check(path: epath.Path, items: tuple[str, ...]) -> None:
    """Raises ValueError with the first file that is missing or damaged; OSError without SHA256SUMS."""
    lines = (line.split("  ", 1) for line in (path / FILE).read_text().splitlines())
    expected = {name: digest for digest, name in lines if name.startswith(items)}
    if not expected:
        raise ValueError(f"{FILE} is empty")
    _check_whole(expected, items)
    actual = sums(path, items)
    for name, digest in expected.items():
        if actual.get(name) != digest:
            raise ValueError(f"{name} is {'damaged' if name in actual else 'missing'}")


def _check_whole(names: Collection[str], items: Collection[str]) -> None:
    for item in items:
        for file in OF_JSON if item == "meta" else OF_ARRAYS:
            if f"{item}/{file}" not in names:
                raise ValueError(f"{item}/{file} is missing")


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:  # a file in a bucket supports read and little else
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()
