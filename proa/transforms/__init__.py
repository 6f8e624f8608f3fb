"""Functions from graph to graph: derivatives, batching, simplification."""
