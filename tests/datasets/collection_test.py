"""Tests of joining label tables and images into validated examples."""

import hashlib

from etils import epath
from PIL import Image
import pytest

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.runtime import errors
from tests.support import pictures

_ALL_TRAIN = {'train': 100, 'validation': 0, 'test': 0}


def _jpeg(color, size=(8, 12)):
  return images.to_jpeg(Image.new('RGB', size, color))


def _png(color, size=(8, 12)):
  return pictures.encode(Image.new('RGB', size, color), 'PNG')


class _Folder:
  """A CSV file and images."""

  def __init__(self, tmp_path):
    self.path = epath.Path(tmp_path)
    self.spool = self.path / 'spool'
    self.spool.mkdir()
    (self.path / 'images').mkdir()

  def write(self, text, **files):
    (self.path / 'posters.csv').write_text(text)
    for name, content in files.items():
      self.image(name).write_bytes(content)

  def image(self, name):
    return self.path / 'images' / f'{name}.jpg'

  def collect(self, shares=_ALL_TRAIN, given=columns.BY_NAME, **options):
    source = sources.Source(
      self.path / 'posters.csv', self.path / 'images', given
    )
    return collection.collect(
      [source], shares=shares, spool=self.spool, **options
    )


@pytest.fixture
def folder(tmp_path):
  return _Folder(tmp_path)


def test_examples_are_in_the_order_of_the_csv(folder):
  red, png = _jpeg('red'), _png('blue', (5, 7))
  folder.write('Id,Genre\nb,War|Drama\na,Drama\n', a=red, b=png)
  found = folder.collect()
  converted, stored = found.examples
  assert found.genres == ('Drama', 'War')
  assert found.problems == ()
  assert (stored.id, stored.film, stored.path) == ('a', 'a', folder.image('a'))
  assert stored.read() == red
  assert (converted.id, converted.genres) == ('b', ('Drama', 'War'))
  assert (converted.height, converted.width) == (7, 5)
  assert converted.folder == folder.spool
  assert converted.num_bytes == len(converted.read())
  for example, content in ((converted, png), (stored, red)):
    assert example.is_reencoded == (content == png)
    assert example.sha256 == hashlib.sha256(content).hexdigest()
    image, is_rgb_jpeg = images.open_rgb(example.read())
    assert is_rgb_jpeg
    assert image.size == (example.width, example.height)


@pytest.mark.parametrize('change', ['other', 'gone'])
def test_a_file_that_changed_since_validation_is_refused(folder, change):
  folder.write('Id,Genre\na,Drama\n', a=_jpeg('red'))
  [example] = folder.collect().examples
  if change == 'other':
    folder.image('a').write_bytes(_jpeg('blue'))
  else:
    folder.image('a').unlink()
  with pytest.raises(errors.InputError, match=r'a\.jpg was changed or removed'):
    example.read()


def test_problems_are_in_the_order_of_the_rows(folder):
  folder.write(
    'Id,Genre\na,Drama\nb,Drama\nc,\nd,Drama\ne,Drama\n../f,Drama\ng,War\n',
    a=b'',
    b=_jpeg('red'),
    c=_jpeg('red'),
    d=b'<html>',
    g=_jpeg('red')[:-100],
  )
  found = folder.collect()
  assert [example.id for example in found.examples] == ['b']
  assert [(problem.row, problem.kind) for problem in found.problems] == [
    (2, 'empty image'),
    (4, 'no genre'),
    (5, 'not an image'),
    (6, 'missing image'),
    (7, 'id with a path'),
    (8, 'truncated or corrupt image'),
  ]
  csv_file = str(folder.path / 'posters.csv')
  assert {problem.file for problem in found.problems} == {csv_file}
  assert found.problems[0].reason == (
    f'{folder.image("a")}: the file has no bytes'
  )


def test_a_file_with_another_suffix_is_used(folder, caplog):
  folder.write('Id,Genre\na,Drama\nb,Drama\n')
  for name in ('a.JPG', 'b.jpeg', 'b.png'):
    (folder.path / 'images' / name).write_bytes(_jpeg('red'))
  found = folder.collect()
  assert [example.file for example in found.examples] == ['a.JPG']
  assert found.examples[0].read() == _jpeg('red')
  assert 'spelling than expected are used: a.JPG for a.jpg.' in caplog.text
  [problem] = found.problems
  assert problem.kind == 'missing image'
  assert problem.reason.endswith('; there is b.jpeg; there is b.png')


def test_equal_images_share_a_split(folder):
  rows = ''.join(f'x{i},Drama,\n' for i in range(20))
  folder.write(
    f'Id,Genre,Split\n{rows}y,Drama,test\n',
    y=_jpeg('blue'),
    **{f'x{i}': _jpeg('red') for i in range(20)},
  )
  shares = {'train': 50, 'validation': 50, 'test': 0}
  *equal, other = folder.collect(shares=shares).examples
  assert len({example.split for example in equal}) == 1
  assert other.split == 'test'


def test_an_empty_split_with_a_share_is_refused(folder):
  folder.write('Id,Genre,Split\na,Drama,train\n', a=_jpeg('red'))
  shares = {'train': 90, 'validation': 0, 'test': 10}
  with pytest.raises(errors.InputError) as error:
    folder.collect(shares=shares).require_usable()
  assert 'test would be empty' in str(error.value)
  folder.collect().require_usable()


def test_the_fingerprint_depends_on_the_contents_of_the_dataset(folder):
  folder.write('', a=_jpeg('red'), b=_jpeg('blue'), c=_jpeg('red'))
  text = 'Id,Genre,Split\na,Drama,train\nb,Drama|War,test\n'

  def fingerprint(text, **options):
    folder.write(text)
    return folder.collect(**options).fingerprint()

  first = fingerprint(text)
  assert len(first) == 16
  same = [
    text,
    'Id,Genre,Split\nb,War|Drama,test\na,Drama,train\n',
    text + 'b,War|Drama,test\n',
    'Id,Genre,Title,Split\na,Drama,x,train\nb,Drama|War,,test\n',
  ]
  assert {fingerprint(other) for other in same} == {first}
  others = [
    fingerprint(text.replace('Drama|War', 'War')),
    fingerprint(text.replace('Drama', 'Comedy')),
    fingerprint(text.replace('test', 'train')),
    fingerprint(text.replace('\na', '\nc')),
    fingerprint(text + 'c,Drama,train\n'),
    fingerprint(text, max_side=500),
    fingerprint(text, exclude_genres=['War']),
    # Genres without a poster count as well.
    fingerprint('Id,Drama\na,1\n'),
    fingerprint('Id,Drama,War\na,1,0\n'),
  ]
  folder.write(text, a=_jpeg('green'))
  others.append(folder.collect().fingerprint())
  assert len({first, *others}) == 11


def _two_sources(folder, first, second, images_by_path):
  """Two CSV files with an image folder each."""
  found = []
  for name, text in (('one', first), ('two', second)):
    (folder.path / name).mkdir()
    (folder.path / f'{name}.csv').write_text(text)
    found.append(
      sources.Source(
        folder.path / f'{name}.csv',
        folder.path / name,
        columns.Columns(image='File'),
      )
    )
  for path, content in images_by_path.items():
    (folder.path / path).write_bytes(content)
  return found


def test_several_sources_become_one_collection(folder):
  red, blue, green = _jpeg('red'), _jpeg('blue'), _jpeg('green')
  given = _two_sources(
    folder,
    'Id,Genre,File\na,Sci-Fi,1.jpg\na,Sci-Fi,2.jpg\na#2,War,3.jpg\n',
    'Id,Genre,File\na,Science Fiction,1.jpg\na,Science Fiction,x.jpg\n'
    'b,Drama,1.jpg\n',
    {
      'one/1.jpg': red,
      'one/2.jpg': blue,
      'one/3.jpg': green,
      # The same image for film a (merged) and film b (kept), and a new one.
      'two/1.jpg': red,
      'two/x.jpg': green,
    },
  )
  found = collection.collect(
    given,
    shares=_ALL_TRAIN,
    spool=folder.spool,
    genre_names={'Sci-Fi': 'Science Fiction'},
  )
  assert found.genres == ('Drama', 'Science Fiction', 'War')
  assert found.num_merged == 1
  assert [
    (example.id, example.film, example.source, example.path.name)
    for example in found.examples
  ] == [
    ('a', 'a', 0, '1.jpg'),
    # The id a#2 belongs to another film.
    ('a#3', 'a', 0, '2.jpg'),
    ('a#2', 'a#2', 0, '3.jpg'),
    ('a#4', 'a', 1, 'x.jpg'),
    ('b', 'b', 1, '1.jpg'),
  ]
  assert found.examples[3].path == folder.path / 'two' / 'x.jpg'
  assert {e.genres for e in found.examples if e.film == 'a'} == {
    ('Science Fiction',)
  }


def test_all_posters_of_a_film_are_in_one_split(folder):
  numbers = range(40)
  images_by_path = {
    f'{name}/{number}.jpg': _jpeg((6 * number, green, 0))
    for name, green in (('one', 0), ('two', 255))
    for number in numbers
  }
  text = 'Id,Genre,File\n' + ''.join(f'x{n},War,{n}.jpg\n' for n in numbers)
  found = collection.collect(
    _two_sources(folder, text, text, images_by_path),
    shares={'train': 40, 'validation': 30, 'test': 30},
    spool=folder.spool,
  )
  films = {(example.film, example.split) for example in found.examples}
  assert len(found.examples) == 80
  assert len(films) == 40
  assert len({split for _, split in films}) == 3
