"""Tests of the program prepare."""

import re
import signal
import time

from etils import epath
from PIL import Image
import psutil
import pytest

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import storage
from tests.support import paths
from tests.support import pictures
from tests.support import programs
from tests.support import text_engines

COLORS = 'tests.support.text_engines:Colors'
CSV = '--data_dir=new --csv=a --images=.'


def _assert_fails(result, *words):
  """An error message without a traceback, and no output."""
  assert result.returncode == 2, result.stderr
  assert 'Traceback' not in result.stderr
  error = result.stderr[result.stderr.index('error: ') :]
  for word in words:
    assert word in error
  assert result.stdout == ''


def _png(color):
  return pictures.encode(Image.new('RGB', (16, 24), color), 'PNG')


@pytest.fixture
def folder(tmp_path):
  """Three valid posters in a CSV that needs flags, and two invalid rows."""
  folder = epath.Path(tmp_path)
  (folder / 'images' / 'big').mkdir(parents=True)
  for index, name in enumerate(['x1', 'x2']):
    path = folder / 'images' / 'big' / f'{name}.png'
    path.write_bytes(_png((80 * index, 9, 9)))
  # A JPEG with the wrong suffix, and EXIF data that Pillow warns about.
  broken_exif = b'Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03'
  content = pictures.encode(pictures.red(), 'JPEG', exif=broken_exif)
  (folder / 'images' / 'big' / 'x3.png').write_bytes(content)
  good = (
    'film;kinds;year;fold\r\n'
    'x1;Comédie, Drama;1999;train\r\n'
    'x2;Drama;2000;val\r\n'
    'x3;Drama / N/A;2001;test\r\n'
  )
  (folder / 'good.csv').write_bytes(good.encode('cp1252'))
  bad = good + 'x4;Drama;2002;train\r\n../x5;Drama;2003;train\r\n'
  (folder / 'bad.csv').write_bytes(bad.encode('cp1252'))
  return folder


def _flags(folder, name):
  return [
    f'--csv={folder / name}',
    f'--images={folder / "images"}',
    f'--data_dir={folder / "my data"}',
    '--id_column=film',
    '--genre_column=kinds',
    '--split_column=fold',
    '--image_pattern=big/{id}.png',
    '--exclude_genres=N/A',
    '--max_side=18',
  ]


def test_a_dataset_is_written_once_and_verified(folder):
  result = programs.run('prepare', *_flags(folder, 'good.csv'))
  assert result.returncode == 0, result.stderr
  path = storage.dataset_path(folder / 'my data')
  card = (path / 'data_card.md').read_text(encoding='utf-8')
  assert result.stdout.startswith(card)
  assert '- CSV: ' in card
  assert "(3 rows, cp1252, separator ';')" in card
  assert f"--config.dataset.data_dir='{folder / 'my data'}'" in result.stdout
  # A progress bar, and no messages of TFDS.
  assert 'Reading posters: 100%' in result.stderr
  assert '3/3' in result.stderr
  for word in ('Warning', 'WARNING', 'Generating', 'Downloading', 'Done'):
    assert word not in result.stdout + result.stderr

  dataset = storage.open_dataset(folder / 'my data')
  assert dataset.genres == ('Comédie', 'Drama')
  labels = {}
  for split in ('train', 'validation', 'test'):
    record = dataset.open_split(split)[0]
    labels[split, record.id] = list(record.labels)
    image, is_rgb_jpeg = images.open_rgb(record.image)
    assert is_rgb_jpeg
    assert image.size == (12, 18)
  assert labels == {
    ('train', 'x1'): [1, 1],
    ('validation', 'x2'): [0, 1],
    ('test', 'x3'): [0, 1],
  }

  again = programs.run('prepare', *_flags(folder, 'good.csv'))
  assert again.returncode == 0
  assert 'contains this dataset already' in again.stderr
  assert again.stdout == result.stdout

  verified = programs.run(
    'prepare', '--verify', f'--data_dir={folder / "my data"}'
  )
  assert verified.returncode == 0, verified.stderr
  number = len(list(path.iterdir())) - 1  # Without the checksums.
  assert f'All {number} files of {path}' in verified.stdout
  assert 'match their checksums' in verified.stdout


def test_problems_exit_with_status_2_and_a_full_list(folder):
  result = programs.run('prepare', *_flags(folder, 'bad.csv'))
  full_list = folder / 'my data' / 'problems.csv'
  _assert_fails(
    result,
    '2 problem(s)',
    f'{folder / "bad.csv"}, row 5: {folder / "images" / "big" / "x4.png"}: ',
    f'The full list is in {full_list}.',
  )
  assert full_list.exists()


def test_a_dry_run_with_skipped_rows(folder):
  flags = [*_flags(folder, 'bad.csv'), '--on_error=skip', '--dry_run']
  flags += ['--exclude_genres=Comédie', '--keep_na', '--separator=;']
  result = programs.run('prepare', *flags)
  assert result.returncode == 0, result.stderr
  assert '3 posters, 2 genres' in result.stdout
  for kind in ('skipped: id with a path', 'skipped: missing image'):
    assert re.search(rf'\| {kind} +\| +1 \|', result.stdout), result.stdout
  assert 'Dry run: no dataset was written.' in result.stdout
  assert 'These rows are skipped.' in result.stderr
  assert not (folder / 'my data').exists()


def test_a_folder_of_images_needs_no_csv(tmp_path):
  for i, name in enumerate(('train/Drama/a.avif', 'test/War/b.png')):
    (tmp_path / name).parent.mkdir(parents=True)
    image = Image.new('RGB', (16, 24), (80 * i, 9, 9))
    image.save(tmp_path / name)
  flags = ['--splits=80,0,20', '--dry_run', f'--data_dir={tmp_path / "new"}']
  result = programs.run('prepare', f'--images={tmp_path}', *flags)
  assert result.returncode == 0, result.stderr
  assert '2 posters, 2 genres' in result.stdout
  assert f'{tmp_path}: format image_folder, 2 posters.' in result.stderr


def test_flags_apply_to_synthetic_posters(tmp_path):
  flags = [f'--data_dir={tmp_path}/new', '--synthetic=20', '--max_side=60']
  flags += ['--splits=40,30,30', '--exclude_genres=Drama']
  result = programs.run('prepare', *flags)
  assert result.returncode == 0, result.stderr
  card = storage.open_dataset(tmp_path / 'new').card
  # Posters without any other genre are excluded.
  assert card['excluded_rows'] > 0
  assert card['num_examples'] + card['excluded_rows'] == 20
  assert card['image_size']['width']['max'] == 40
  # The default shares would give about 16 of 20.
  assert card['splits']['train']['num_examples'] < 13


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    ('--data_dir=', '--data_dir is empty'),
    ('--data_dir=new', '--images is missing'),
    (f'{CSV} --synthetic=3', 'either --synthetic, or --csv and --images'),
    (f'{CSV} --csv=b', 'Got 2 --csv and 1 --images'),
    (f'{CSV} --image_pattern=a.jpg', '--image_pattern=a.jpg: expected {id}'),
    ('--data_dir=new --text_reader=a:B', '--text_reader needs --read_text'),
    ('--data_dir=new --read_text --verify', 'omit --read_text'),
    (
      '--data_dir=new --read_text --text_reader=a:B',
      "--text_reader='a:B' cannot be imported",
    ),
    (
      f'--data_dir=new --read_text --text_reader={COLORS} --max_side=90',
      'in new, whose posters stay; omit --max_side, or give --csv and --images',
    ),
    (
      f'--data_dir=new --read_text --text_reader={COLORS}',
      'new contains no prepared dataset',
    ),
    (
      '--data_dir=new --verify --synthetic=3',
      '--verify reads the dataset in --data_dir; omit --synthetic',
    ),
  ],
)
def test_invalid_flags_are_refused(flags, words):
  _assert_fails(programs.run('prepare', *flags.split()), words)
  assert not (paths.ROOT / 'new').exists()


def test_several_csv_files_become_one_dataset(folder):
  more = folder / 'more'
  (more / 'big').mkdir(parents=True)
  for name in ('x1', 'x9'):
    (more / 'big' / f'{name}.png').write_bytes(_png((200, 200, 9)))
  (folder / 'more.csv').write_text(
    'film,kinds,fold\nx1,Comedy|Drama,train\nx9,Comedy,test\n'
  )
  (folder / 'names.txt').write_text('Comédie = Comedy\n', encoding='utf-8')
  result = programs.run(
    'prepare',
    *_flags(folder, 'good.csv'),
    f'--csv={folder / "more.csv"}',
    f'--images={more}',
    f'--genre_names={folder / "names.txt"}',
  )
  assert result.returncode == 0, result.stderr
  assert '5 posters, 2 genres' in result.stdout
  assert '- Films: 4, of which 1 have several posters' in result.stdout
  assert '- Overlap: 1 films are in several sources, 0 of them' in result.stdout
  dataset = storage.open_dataset(folder / 'my data')
  assert dataset.genres == ('Comedy', 'Drama')
  train = dataset.open_split('train')
  assert {train[i].id for i in range(len(train))} == {'x1', 'x1#2'}


def test_text_is_read_and_added(folder, tmp_path):
  variables = {'XDG_CACHE_HOME': tmp_path / 'cache'}
  text = ['--read_text', f'--text_reader={COLORS}']
  flags = _flags(folder, 'good.csv')
  new = tmp_path / 'new'
  whole = programs.run(
    'prepare', *flags, *text, f'--data_dir={new}', **variables
  )
  assert whole.returncode == 0, whole.stderr
  assert '- Engine: colors 1\n' in whole.stdout
  assert 'Reading text: 100%' in whole.stderr
  assert programs.run('prepare', *flags).returncode == 0
  data_dir = f'--data_dir={folder / "my data"}'
  dry = programs.run('prepare', *text, data_dir, '--dry_run', **variables)
  assert '0 posters would be read; that on 3 others is cached' in dry.stderr
  assert 'Dry run: no dataset was written.' in dry.stdout
  added = programs.run('prepare', *text, data_dir, **variables)
  assert added.returncode == 0, added.stderr
  cards = [storage.open_dataset(d).card for d in (new, folder / 'my data')]
  assert cards[0] == cards[1]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_reader_ends_its_processes_and_resumes(tmp_path, number):
  calls = tmp_path / 'calls'
  flags = ['--synthetic=40', '--read_text', f'--data_dir={tmp_path / "new"}']
  flags += ['--text_reader=tests.support.text_engines:Slow']
  variables = {
    'XDG_CACHE_HOME': tmp_path / 'cache',
    text_engines.CALLS: calls,
  }
  with programs.start('prepare', *flags, **variables) as process:
    end = time.monotonic() + 60
    while not calls.exists() or calls.stat().st_size < 30:
      assert process.poll() is None and time.monotonic() < end
      time.sleep(0.05)
    children = psutil.Process(process.pid).children()
    assert children
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
  is_interrupt = number == signal.SIGINT
  assert process.returncode == (130 if is_interrupt else -number)
  assert ('Stopped.' in output) == is_interrupt
  assert 'Traceback' not in output
  _, alive = psutil.wait_procs(children, timeout=20)
  assert not alive
  num_before = calls.stat().st_size
  result = programs.run('prepare', *flags, **variables)
  assert result.returncode == 0, result.stderr
  # After a kill, the posters of the last group are read again.
  assert calls.stat().st_size - num_before < 40
  assert storage.open_dataset(tmp_path / 'new').card['text']['failed'] == []
