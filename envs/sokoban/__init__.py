"""Sokoban: push the boxes onto the targets, in generated levels that can all be solved."""
