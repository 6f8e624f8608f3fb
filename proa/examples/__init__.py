"""Programs that come along: a language model and a classifier of digits, for `proa demo`."""
