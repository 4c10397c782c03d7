"""Says where a benchmark's file has not as many examples as the published one, with which its scores are compared."""


def remark(number: int, unit: str, published: int) -> str:
    """Returns a sentence if the file has another number of examples than the published one, else "".

    number: of the file's examples
    unit: what they are, such as "pairs"
    published: number of the published file's examples
    """
    if number == published:
        return ""
    return (
        f"The file has {number:,} {unit}, the published one {published:,}: "
        "scores cannot be compared with published ones."
    )
