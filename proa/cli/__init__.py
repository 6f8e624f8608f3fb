"""The command `proa`: demo, sample, inspect, run, show, doctor."""
