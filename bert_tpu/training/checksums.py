"""SHA-256 sums of the files in a checkpoint, in the format of `sha256sum -c`."""

import hashlib

FILE = "SHA256SUMS"


def sums(path, items):
    """SHA-256 of each file of `items`, by its name under `path`."""
    files = sorted(folder / name for item in items for folder, _, names in (path / item).walk() for name in names)
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def write(path, items):
    """Writes the sums of all files of `items` to `path`/SHA256SUMS."""
    (path / FILE).write_text("".join(f"{digest}  {name}\n" for name, digest in sums(path, items).items()))


def check(path, items):
    """Raises ValueError, which names the first file that is missing or damaged."""
    lines = (line.split("  ", 1) for line in (path / FILE).read_text().splitlines())
    written = {name: digest for digest, name in lines if name.startswith(items)}
    if not written:
        raise ValueError(f"{FILE} is empty")
    found = sums(path, items)
    for name, digest in written.items():
        if found.get(name) != digest:
            raise ValueError(f"{name} is {'damaged' if name in found else 'missing'}")


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:  # a bucket's file has no more than read
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()
