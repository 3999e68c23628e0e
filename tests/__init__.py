"""The tests; they draw their own posters."""
