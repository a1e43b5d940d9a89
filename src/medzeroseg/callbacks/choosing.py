"""Which cases are looked at, by no score."""


def evenly_spaced(names: list[str], count: int) -> list[str]:
    """The middle names of `count` equal parts of a list; all of them where there are fewer."""
    if len(names) <= count:
        return names
    return [names[int((n + 0.5) * len(names) / count)] for n in range(count)]
