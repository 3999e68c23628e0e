"""Uploads an export to the Hugging Face Hub."""

import pathlib
from typing import Any

import huggingface_hub
from huggingface_hub import utils

from genre_flax.runtime import errors


def validate_repo(repo: str) -> None:
  """Raises InputError if a name is not a valid USER/NAME."""
  try:
    utils.validate_repo_id(repo)
    is_valid = '/' in repo
  except utils.HFValidationError:
    is_valid = False
  if not is_valid:
    raise errors.InputError(
      f'--push={repo} is not the name of a repository; expected USER/NAME.'
    )


def push(
  folder: pathlib.Path, repo: str, *, is_page: bool, client: Any = None
) -> str:
  """Uploads a folder to a repository; a new repository is private.

  Args:
    folder: of an export.
    repo: USER/NAME.
    is_page: whether the export is a web page, uploaded as a static Space.
    client: a `huggingface_hub.HfApi`; None for one with the user's token.

  Returns:
    The URL of the repository.

  Raises:
    ResourceError: the upload failed.
  """
  client = client or huggingface_hub.HfApi(library_name='genre_flax')
  repo_type = 'space' if is_page else 'model'
  try:
    url = client.create_repo(
      repo,
      repo_type=repo_type,
      private=True,
      exist_ok=True,
      space_sdk='static' if is_page else None,
    )
    client.upload_folder(
      repo_id=repo,
      repo_type=repo_type,
      folder_path=folder,
      commit_message='Export of genre_flax',
    )
  except Exception as e:  # The client raises errors of several libraries.
    raise errors.ResourceError(
      f'The upload to {repo} failed: {str(e).strip() or type(e).__name__}. The'
      f' export in {folder} is complete. Run `hf auth login`, then the'
      ' same command again.'
    ) from e
  return str(url)
