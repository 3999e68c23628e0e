"""A name and a password for the page, where the page is not for everybody."""

import asyncio
from collections.abc import Awaitable, Callable
import hmac
import os

from etils import epath

from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

VARIABLE = 'GENRE_FLAX_PAGE_PASSWORD'
_MIN_LENGTH = 8
_MAX_BYTES = 4096
# Before a wrong one is answered.
_SECONDS = 1.0

Check = Callable[[str, str], Awaitable[bool]]


def read(user: str, password_file: str) -> str | None:
  """The password of the page.

  Args:
    user: the name; '' for a page without a password.
    password_file: whose first line it is; '' for the environment variable
      VARIABLE. Never on the command line, which everybody on a machine sees.

  Returns:
    The password, or None.

  Raises:
    InputError: there is a name without a password or the other way round, or
      the password is not to be read or too short.
  """
  if not user:
    if password_file:
      raise errors.InputError('--password_file needs --user too.')
    return None
  if password_file:
    origin, password = password_file, _read_file(password_file)
  else:
    origin, password = VARIABLE, os.environ.get(VARIABLE, '')
  if not password:
    raise errors.InputError(
      f'--user={user} needs a password: as the first line of the file that'
      f' --password_file names, or in the environment variable {VARIABLE}.'
    )
  if len(password) < _MIN_LENGTH:
    raise errors.InputError(
      f'The password of {origin} has {len(password)} characters; expected at'
      f' least {_MIN_LENGTH}.'
    )
  return password


def _read_file(path: str) -> str:
  try:
    content = regular_files.read(epath.Path(path), max_bytes=_MAX_BYTES)
    return content.decode().partition('\n')[0].rstrip('\r')
  except (regular_files.NotReadableError, UnicodeDecodeError) as e:
    raise errors.InputError(f'--password_file={path}: {e}.') from e


def make_check(user: str, password: str) -> Check:
  """A function that tells whether a name and a password are right.

  It takes as long whatever is wrong with them, and a second more where they
  are not right.
  """

  async def check(given_user: str, given_password: str) -> bool:
    same_user = _same(given_user, user)
    same_password = _same(given_password, password)
    if same_user and same_password:
      return True
    await asyncio.sleep(_SECONDS)
    return False

  return check


def _same(a: str, b: str) -> bool:
  return hmac.compare_digest(
    a.encode(errors='surrogatepass'), b.encode(errors='surrogatepass')
  )
