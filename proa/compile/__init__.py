"""Graph -> Program -> Executable. Finds backends by name and imports none."""
