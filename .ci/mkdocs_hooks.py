"""Hooks of the site: README.md is its start page, and files are code."""

import pathlib
import re

from mkdocs.structure import files as files_lib

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Links from README.md, and from docs/, to files that the site does not have.
_OUTSIDE_README = re.compile(r'(?<!!)\[([^\]]+)\]\((?!http|#|docs/)[^)]*\)')
_OUTSIDE_DOCS = re.compile(r'\[([^\]]+)\]\(\.\./(?!README\.md)[^)]*\)')


def on_files(files: files_lib.Files, config: dict) -> files_lib.Files:
  """Adds README.md as index.md."""
  text = (_ROOT / 'README.md').read_text('utf-8')
  text = _OUTSIDE_README.sub(r'\1', text).replace('](docs/', '](')
  files.append(files_lib.File.generated(config, 'index.md', content=text))
  return files


def on_page_markdown(markdown: str, **_) -> str:
  """Leaves the text of links to files outside of the site."""
  return _OUTSIDE_DOCS.sub(
    r'\1', markdown.replace('](../README.md', '](index.md')
  )
