"""Uploads to the Hugging Face Hub, with a fake client."""

import pytest

from genre_flax.runtime import errors

pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import hub


class FakeClient:
  def __init__(self, error=None):
    self.created = self.uploaded = None
    self.error = error

  def create_repo(self, repo_id, **options):
    self.created = {'repo_id': repo_id, **options}
    return f'https://hub/{repo_id}'

  def upload_folder(self, **options):
    if self.error:
      raise self.error
    self.uploaded = options


@pytest.mark.parametrize(
  'is_page, repo_type, space_sdk',
  [(False, 'model', None), (True, 'space', 'static')],
)
def test_new_repository_is_private(tmp_path, is_page, repo_type, space_sdk):
  client = FakeClient()
  url = hub.push(tmp_path, 'me/posters', is_page=is_page, client=client)
  assert url == 'https://hub/me/posters'
  assert client.created == {
    'repo_id': 'me/posters',
    'repo_type': repo_type,
    'private': True,
    'exist_ok': True,
    'space_sdk': space_sdk,
  }
  assert client.uploaded['repo_id'] == 'me/posters'
  assert client.uploaded['repo_type'] == repo_type
  assert client.uploaded['folder_path'] == tmp_path


def test_failed_upload_is_a_user_error(tmp_path):
  client = FakeClient(RuntimeError('401 Unauthorized'))
  with pytest.raises(errors.ResourceError, match='401.*hf auth login'):
    hub.push(tmp_path, 'me/posters', is_page=False, client=client)


@pytest.mark.parametrize(
  'repo', ['', 'posters', 'a/b/c', '../b', 'a/..', 'me/po sters']
)
def test_invalid_names_are_refused(repo):
  hub.validate_repo('me-2/film.posters_1')
  with pytest.raises(errors.InputError, match='expected USER/NAME'):
    hub.validate_repo(repo)
