"""Families: factor maps with names, and the rules that follow from them."""
