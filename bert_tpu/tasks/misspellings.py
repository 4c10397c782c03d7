"""Finds rare names that are one letter away from a frequent one."""

from collections.abc import Iterator, Mapping

SHORTEST, LONGEST = 3, 60  # letters of a name that may be misspelt; longer ones are texts, and would cost much time
FREQUENT = 10  # least uses of the right name
SHARE = 100  # uses of the right name for one of the wrong one, which may always have one


def find(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yields (rare name, frequent name): one letter is missing, more, or another, or two have changed places.

    A digit more or less makes another name, not a misspelling.

    counts: name -> uses
    """
    # Two such names, and no others except nearly such, have a form in common that lacks one letter or none.
    frequent: dict[str, list[str]] = {}
    for name, count in counts.items():
        if count >= FREQUENT and SHORTEST <= len(name) <= LONGEST:
            for form in _forms(name):
                frequent.setdefault(form, []).append(name)
    most = max(counts.values(), default=0)
    for name, count in counts.items():
        if not frequent or not SHORTEST <= len(name) <= LONGEST or count > max(1, most // SHARE):
            continue
        near = {other for form in _forms(name) for other in frequent.get(form, ()) if _is_near(name, other)}
        if fits := [other for other in near if count <= max(1, counts[other] // SHARE)]:
            yield name, max(fits, key=lambda other: (counts[other], other))


def _forms(name: str) -> set[str]:
    return {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}


def _is_near(a: str, b: str) -> bool:
    """Returns whether the names differ by one letter, or by two neighbours that have changed places."""
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    end = next((i for i, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[: len(a) - end], b[: len(b) - end]
    if any(letter.isdigit() for letter in a + b):
        return False
    return max(len(a), len(b)) > 0 and (max(len(a), len(b)) == 1 or (len(a) == 2 and a == b[::-1]))
