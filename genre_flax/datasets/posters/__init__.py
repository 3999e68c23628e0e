"""The posters data set: film posters with one or more genres each."""
