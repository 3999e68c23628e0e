"""Takes a finished folder to a model hub, by the hub's own client."""

import pathlib
import re
from typing import Any

import huggingface_hub

from genre_flax.runtime import errors


def check_name(repo: str) -> None:
  """Raises InputError where a name is not of the form USER/NAME."""
  if not re.fullmatch(r'[\w-][\w.-]*/[\w-][\w.-]*', repo, re.ASCII):
    raise errors.InputError(
      f'--push={repo}: expected USER/NAME, as the hub has it.'
    )


def push(
  folder: pathlib.Path, repo: str, *, is_page: bool, client: Any | None = None
) -> str:
  """Uploads a folder to a repository, which is private where it is new.

  Args:
    folder: of a finished export.
    repo: USER/NAME.
    is_page: whether it is a page, which a hub keeps as a static Space.
    client: of `huggingface_hub.HfApi`; None for one with the user's own token.

  Returns:
    The address.

  Raises:
    ResourceError: the hub cannot be reached, or refuses.
  """
  client = client or huggingface_hub.HfApi(library_name='genre_flax')
  kind = {'repo_type': 'space' if is_page else 'model'}
  made = {'space_sdk': 'static'} if is_page else {}
  try:
    address = client.create_repo(
      repo, private=True, exist_ok=True, **kind, **made
    )
    client.upload_folder(
      repo_id=repo,
      folder_path=folder,
      commit_message='Export of genre_flax',
      **kind,
    )
  # No token, no network, no right to write: whatever the client's parts raise.
  except Exception as e:
    raise errors.ResourceError(
      f'{repo} was not written to: {str(e).strip() or type(e).__name__}. The'
      f' folder {folder} is whole; log in with `hf auth login`, and give the'
      ' same command again.'
    ) from e
  return str(address)
