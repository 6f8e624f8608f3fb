"""Python functions read as graphs: `jit`, `vmap`, custom derivatives."""
