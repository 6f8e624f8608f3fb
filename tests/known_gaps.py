"""What does not hold yet: (law, operation) -> the reason. It may only shrink: a gap that no longer
fails is an error.

Of hostile calls the second name is `function, argument`: what is given there is not checked, so
that an exception of another kind comes out at the place named. What hangs names the bad argument
too, and is tried in the slow lane only.
"""

GAPS: dict[tuple[str, str], str] = {}
