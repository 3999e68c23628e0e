"""Uploads, by a client that plays the hub."""

import pytest

from genre_flax.runtime import errors

pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import hub


class FakeClient:
  def __init__(self, error=None):
    self.calls = []
    self.error = error

  def create_repo(self, repo_id, **options):
    self.calls.append(('create', repo_id, options))
    return f'https://hub/{repo_id}'

  def upload_folder(self, **options):
    if self.error:
      raise self.error
    self.calls.append(('upload', options.pop('repo_id'), options))


def test_a_network_goes_to_a_private_repository(tmp_path):
  client = FakeClient()
  address = hub.push(tmp_path, 'me/posters', is_page=False, client=client)
  assert address == 'https://hub/me/posters'
  (create, repo, made), (upload, where, sent) = client.calls
  assert (create, repo, upload, where) == (
    'create',
    'me/posters',
    'upload',
    'me/posters',
  )
  assert made == {'private': True, 'exist_ok': True, 'repo_type': 'model'}
  assert sent['folder_path'] == tmp_path
  assert sent['repo_type'] == 'model'


def test_a_page_goes_to_a_static_space(tmp_path):
  client = FakeClient()
  hub.push(tmp_path, 'me/page', is_page=True, client=client)
  (_, _, made), (_, _, sent) = client.calls
  assert made['repo_type'] == sent['repo_type'] == 'space'
  assert made['space_sdk'] == 'static'
  assert made['private'] is True


def test_a_refusal_is_told_without_a_traceback(tmp_path):
  client = FakeClient(RuntimeError('401 Unauthorized'))
  with pytest.raises(errors.ResourceError, match='401.*hf auth login'):
    hub.push(tmp_path, 'me/posters', is_page=False, client=client)


@pytest.mark.parametrize(
  'repo', ['', 'posters', 'a/b/c', '../b', 'a/..', 'me/po sters', 'me/é']
)
def test_a_name_that_is_none_is_refused(repo):
  with pytest.raises(errors.InputError, match='expected USER/NAME'):
    hub.check_name(repo)


def test_a_name_is_accepted():
  hub.check_name('me-2/film.posters_1')
