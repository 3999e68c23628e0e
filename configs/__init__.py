"""Configs: default.py has every key; each other file is a diff over it."""
