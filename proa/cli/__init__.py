"""The command `proa`: demo, sample, doctor."""
