"""What does not hold yet: (law, operation) -> the reason. It may only shrink: a gap that no longer
fails is an error."""

GAPS: dict[tuple[str, str], str] = {}
