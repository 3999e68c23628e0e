"""Uploads to the Hugging Face Hub, with a fake client."""

from unittest import mock

import pytest

from genre_flax.runtime import errors

pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import hub


@pytest.mark.parametrize(
  'is_page, repo_type, space_sdk',
  [(False, 'model', None), (True, 'space', 'static')],
)
def test_new_repository_is_private(tmp_path, is_page, repo_type, space_sdk):
  client = mock.Mock()
  client.create_repo.return_value = 'https://hub/me/posters'
  url = hub.push(tmp_path, 'me/posters', is_page=is_page, client=client)
  assert url == 'https://hub/me/posters'
  client.create_repo.assert_called_once_with(
    'me/posters',
    repo_type=repo_type,
    private=True,
    exist_ok=True,
    space_sdk=space_sdk,
  )
  uploaded = client.upload_folder.call_args.kwargs
  assert uploaded['repo_type'] == repo_type
  assert uploaded['folder_path'] == tmp_path


def test_failed_upload_is_a_user_error(tmp_path):
  client = mock.Mock()
  client.upload_folder.side_effect = RuntimeError('401 Unauthorized')
  with pytest.raises(errors.ResourceError, match='401.*hf auth login'):
    hub.push(tmp_path, 'me/posters', is_page=False, client=client)


@pytest.mark.parametrize(
  'repo', ['', 'posters', 'a/b/c', '../b', 'a/..', 'me/po sters']
)
def test_invalid_names_are_refused(repo):
  hub.validate_repo('me-2/film.posters_1')
  with pytest.raises(errors.InputError, match='expected USER/NAME'):
    hub.validate_repo(repo)
