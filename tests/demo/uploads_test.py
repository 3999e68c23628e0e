"""Files that are kept for a while, and passwords."""

import asyncio
import os
import time

import pytest

from genre_flax.demo import password
from genre_flax.demo import uploads as uploads_lib
from genre_flax.runtime import errors


@pytest.fixture
def uploads(tmp_path):
  (tmp_path / 'uploads' / 'ab').mkdir(parents=True)
  (tmp_path / 'uploads' / 'ab' / 'a.jpg').write_bytes(b'12345')
  (tmp_path / 'secret').write_text('secret')
  (tmp_path / 'uploads' / 'link').symlink_to(tmp_path / 'secret')
  (tmp_path / 'uploads' / 'out').symlink_to(tmp_path)
  return uploads_lib.Uploads(str(tmp_path / 'uploads'))


def test_only_what_lies_in_the_folder_is_found(uploads):
  folder = uploads.folder
  assert uploads.find(f'{folder}/ab/a.jpg').read_bytes() == b'12345'
  assert uploads.find(f'{folder}/ab/b.jpg') is None
  assert uploads.is_inside(f'{folder}/ab/b.jpg')
  for path in (
    '/etc/passwd',
    f'{folder}/../secret',
    f'{folder}/ab/../../secret',
    f'{folder}/link',
    f'{folder}/out/secret',
    f'{folder}s/a.jpg',
    f'{folder}',
    f'{folder}/',
    f'{folder}//ab/a.jpg',
    'ab/a.jpg',
    '',
    'a\0b',
    'http://127.0.0.1/a.jpg',
    'file:///etc/passwd',
    None,
    7,
    ['/etc/passwd'],
    {'path': '/etc/passwd'},
  ):
    assert uploads.find(path) is None, path
    assert not uploads.is_inside(path), path


def test_old_files_are_deleted_and_new_ones_kept(
  uploads, tmp_path, monkeypatch
):
  folder = tmp_path / 'uploads'
  assert uploads.num_bytes() >= 5
  assert uploads.delete_old() == 0
  now = time.time()
  monkeypatch.setattr(time, 'time', lambda: now + 2 * uploads_lib.KEPT_SECONDS)
  assert uploads.delete_old() == 3
  assert list(folder.iterdir()) == []
  # A link is deleted, not what it leads to.
  assert (tmp_path / 'secret').exists()


def test_passwords_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
  path = tmp_path / 'password'
  path.write_text('correct horse\nsecond line\n')
  assert password.read('ann', str(path)) == 'correct horse'
  monkeypatch.setenv(password.VARIABLE, 'battery staple')
  assert password.read('ann', '') == 'battery staple'
  assert password.read('ann', str(path)) == 'correct horse'
  assert password.read('', '') is None


@pytest.mark.parametrize(
  'user, content, words',
  [
    ('', b'correct horse', '--password_file needs --user'),
    ('ann', b'short', 'has 5 characters; expected at least 8'),
    ('ann', b'\nlater', '--user=ann needs a password'),
    ('ann', None, 'there is no such file'),
    ('ann', b'x' * 5000, 'at most 4,096'),
    ('ann', b'\xff\xfe', '--password_file='),
  ],
)
def test_passwords_that_cannot_be_used(
  tmp_path, monkeypatch, user, content, words
):
  monkeypatch.delenv(password.VARIABLE, raising=False)
  path = tmp_path / 'password'
  if content is not None:
    path.write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )
  with pytest.raises(errors.InputError, match=words):
    password.read(user, str(path))


def test_a_password_from_nowhere_is_asked_for(monkeypatch):
  monkeypatch.delenv(password.VARIABLE, raising=False)
  with pytest.raises(errors.InputError, match=password.VARIABLE):
    password.read('ann', '')


def test_a_pipe_is_no_password(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(errors.InputError, match='a pipe'):
    password.read('ann', str(tmp_path / 'pipe'))


def test_only_the_right_pair_is_right(monkeypatch):
  waited = []

  async def sleep(seconds):
    waited.append(seconds)

  monkeypatch.setattr(asyncio, 'sleep', sleep)
  check = password.make_check('ann', 'pässword')

  def is_right(user, given):
    return asyncio.run(check(user, given))

  assert is_right('ann', 'pässword') and not waited
  for pair in (
    ('ann', 'pässwor'),
    ('ann', 'pässword2'),
    ('ann', ''),
    ('Ann', 'pässword'),
    ('', ''),
    ('ann', '\ud800'),
  ):
    assert not is_right(*pair)
  assert len(waited) == 6
