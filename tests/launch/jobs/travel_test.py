import pytest

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import travel
from tests.support import paths

ARGS = ('--config=configs/tpu_pod.py', '--workdir=gs://bucket/run')


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
  monkeypatch.chdir(paths.ROOT)


def make(*args):
  return job_lib.make('posters', 'train', args=args or ARGS)


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((ARGS[0], '--workdir=run'), '--workdir=run is a path of this machine'),
    ((*ARGS, '--config.dataset.data_dir=data'), 'data_dir=data is a path'),
    (
      (*ARGS, '--config.pretrained=a.safetensors'),
      'pretrained=a.safetensors is a path',
    ),
    (('--config=mine.py', ARGS[1]), 'does not travel'),
    (('--config=/x/configs/mine.py', ARGS[1]), 'does not travel'),
  ],
)
def test_paths_of_this_machine_do_not_travel(args, message):
  with pytest.raises(errors.InputError, match=message):
    travel.check_travels(make(*args))


def test_weights_that_a_config_names_do_not_travel_either(elsewhere):
  (elsewhere / 'configs' / 'weights.py').write_text(
    'from configs import default\n'
    'def get_config():\n'
    '  config = default.get_config()\n'
    "  config.pretrained = 'weights/a.safetensors'\n"
    '  return config\n'
  )
  args = ('--config=configs/weights.py', ARGS[1])
  with pytest.raises(
    errors.InputError, match='weights/a.safetensors is a path of'
  ):
    travel.check_travels(make(*args))
  travel.check_travels(
    make(*args, '--config.pretrained=gs://bucket/a.safetensors')
  )


def test_paths_that_travel():
  travel.check_travels(make())
  travel.check_travels(make('--config=./configs/tpu_pod.py', ARGS[1]))
  for weights in ('timm:vit_tiny', 'hf:a/b', 'gs://bucket/a.safetensors'):
    travel.check_travels(make(*ARGS, f'--config.pretrained={weights}'))
  travel.check_travels(make(ARGS[0], '--workdir=/nfs'), schemes=('gs://', '/'))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """A folder with a network and configs of one's own, to start in."""
  (tmp_path / 'configs').mkdir()
  for name, network in (('mine', 'my_nets:Net'), ('argument', None)):
    value = 'network' if network is None else repr(network)
    (tmp_path / 'configs' / f'{name}.py').write_text(
      'from ml_collections import ConfigDict\n'
      'def get_config(network=None):\n'
      "  named = {'name': 'adam'}\n"
      f"  return ConfigDict({{'model': {{'name': {value}}}, 'loss': named,"
      " 'optimizer': named})\n"
    )
  (tmp_path / 'my_nets.py').write_text('class Net:\n  pass\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  'args, key',
  [
    (('--config=configs/mine.py',), 'model.name'),
    (('--config=configs/argument.py:my_nets:Net',), 'model.name'),
    *(
      (
        ('--config=configs/argument.py:tiny', f'--config.{key}=my_nets:Net'),
        key,
      )
      for key in ('loss.name', 'optimizer.schedule')
    ),
  ],
)
def test_code_of_this_machine_does_not_travel(elsewhere, args, key):
  with pytest.raises(errors.InputError) as e:
    travel.check_travels(make(*args, ARGS[1]))
  assert str(e.value) == (
    f'--config.{key}=my_nets:Net is in {elsewhere / "my_nets.py"}, which'
    ' does not travel with the job: put it into configs/, and call it'
    ' configs.my_nets:Net.'
  )


@pytest.mark.parametrize(
  'name', ['tiny', 'configs.my_nets:Net', 'optax:lion', 'json:loads']
)
def test_an_override_wins_and_installed_or_packed_code_travels(elsewhere, name):
  travel.check_travels(
    make('--config=configs/mine.py', f'--config.model.name={name}', ARGS[1])
  )


@pytest.mark.parametrize(
  'args, message',
  [
    (('--config.model.name=no_nets:Net',), "no module 'no_nets'"),
    (('--config=configs/none.py',), 'configs/none.py cannot be read'),
  ],
)
def test_what_is_not_there_is_refused(elsewhere, args, message):
  with pytest.raises(errors.InputError, match=message):
    travel.check_travels(make('--config=configs/mine.py', *args, ARGS[1]))
