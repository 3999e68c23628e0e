import configparser
import os
import re
import subprocess

from launch.jobs import wheel


def test_the_build_is_of_a_copy_of_the_sources_and_dated_alike(
  monkeypatch, tmp_path
):
  """pip itself is not run: it would fetch its build tools."""
  seen = {}

  def fake_pip(args, *, env, **kwargs):
    source = args[-1]
    seen['files'] = sorted(os.listdir(source))
    seen['configs'] = set(os.listdir(os.path.join(source, 'configs')))
    seen['date'] = env['SOURCE_DATE_EPOCH']
    seen['args'] = args[1:6]
    built = args[-2].partition('=')[2]
    os.makedirs(built)
    with open(os.path.join(built, 'genre_flax-9.whl'), 'wb') as f:
      f.write(b'abc')
    return subprocess.CompletedProcess(args, 0, '', '')

  monkeypatch.setattr(wheel.subprocess, 'run', fake_pip)
  built = wheel.build(tmp_path / 'new')
  assert built.path == tmp_path / 'new' / 'genre_flax-9.whl'
  # SHA-256 of "abc", from FIPS 180-2.
  assert built.sha256.startswith('ba7816bf8f01cfea414140de5dae2223')
  assert {'genre_flax', 'configs', 'launch', 'setup.cfg'} <= set(seen['files'])
  assert 'tests' not in seen['files']
  configs = (wheel.ROOT / 'configs').glob('*.py')
  assert {path.name for path in configs} <= seen['configs']
  assert seen['date'] == '315532800'
  assert seen['args'] == ['-m', 'pip', 'wheel', '--quiet', '--no-deps']


def test_every_requirement_of_a_pod_has_its_digests():
  text = wheel.REQUIREMENTS.read_text()
  entries = re.findall(r'^([a-z][\w-]*)==(\S+) ((?:\\\n.*)+)', text, re.M)
  names = re.findall(r'^[a-z].*==', text, re.M)
  assert len(entries) == len(names) > 80
  assert all('--hash=sha256:' in digests for _, _, digests in entries)
  needed = configparser.ConfigParser()
  needed.read(wheel.ROOT / 'setup.cfg')
  extras = needed['options.extras_require']
  for of in (
    needed['options']['install_requires'],
    *(extras[extra] for extra in ('tpu', 'gcs', 'pretrained')),
  ):
    for line in of.split():
      name = re.split(r'[>=\[]', line)[0].lower().replace('_', '-')
      assert name in {e[0] for e in entries}, line
  for user in ('jobs/worker.sh', 'Dockerfile'):
    assert '--require-hashes -r' in (wheel.ROOT / 'launch' / user).read_text()


def test_the_command_to_type_is_python():
  command = wheel.build_command(wheel.ROOT)
  compile(command[2], 'command', 'exec')
  assert command[-1] == str(wheel.ROOT)
