"""What the documents name is there: files, commands, flags, config keys."""

import ast
import re
import shlex

import pytest

from configs import default
from configs.sweeps import default as sweep_default
from genre_flax import config as config_lib
from tests.support import paths

DOCUMENTS = sorted(
  [*paths.ROOT.glob('*.md'), *(paths.ROOT / 'docs').rglob('*.md')]
)
_OF_PYTHON = ('http.server', 'venv')
# Of absl, and of XLA.
_FOREIGN_FLAGS = {
  'help',
  'verbosity',
  'xla_cpu_use_fusion_emitters',
  'xla_force_host_platform_device_count',
}
_MODULES = {
  'genre_flax': (
    'main',
    'top3',
    'report',
    'export',
    'demo',
    'prepare',
    'lower',
  ),
  'launch': ('run', 'plan', 'sweep'),
}
# What launch.run starts, by its flag --binary.
_BINARIES = {'train': 'main', 'top3': 'top3', 'prepare': 'prepare'}


def read(path):
  return path.read_text(encoding='utf-8')


def flags_of(module):
  """The flags that a binary defines, by its source."""
  path = paths.ROOT / module.replace('.', '/')
  main = path / '__main__.py'
  source = read(main if main.exists() else path.with_suffix('.py'))
  return {
    node.args[0].value
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.Call)
    and isinstance(node.func, ast.Attribute)
    and node.func.attr.startswith('DEFINE_')
  }


FLAGS = {
  f'{package}.{name}': flags_of(f'{package}.{name}')
  for package, names in _MODULES.items()
  for name in names
} | {'benchmarks': flags_of('benchmarks')}


def keys_of(module):
  """All keys of a config, the folders among them."""
  flat = config_lib.flatten(module.get_config().to_dict())
  keys = {'.'.join(k.split('.')[:n]) for k in flat for n in range(1, 9)}
  return keys | {f'{part}.options' for part in ('model', 'loss', 'optimizer')}


KEYS = keys_of(default)
SWEEP_KEYS = keys_of(sweep_default)


def code_blocks(text, *languages):
  for language, body in re.findall(
    r'^ *```(\w*)\n(.*?)^ *```', text, re.M | re.S
  ):
    if language in languages:
      yield body


def commands(text):
  """Each command of the shell blocks, as a list of words."""
  for body in code_blocks(text, 'sh', 'bash'):
    for line in body.replace('\\\n', ' ').splitlines():
      for part in re.split(r'&&|;', line.split(' #')[0]):
        if part.strip() and not part.strip().startswith('#'):
          yield shlex.split(part)


def check_arguments(module, arguments):
  """Faults of a binary's arguments."""
  known = FLAGS[module] | _FOREIGN_FLAGS
  keys = SWEEP_KEYS if module == 'launch.sweep' else KEYS
  faults = []
  for argument in arguments:
    if not argument.startswith('--'):
      continue
    name, _, value = argument[2:].partition('=')
    if name.startswith('config.'):
      key = name.removeprefix('config.')
      if key not in keys and '.options.' not in key:
        faults.append(f'{module}: no key {key}')
    elif name not in known and name.removeprefix('no') not in known:
      faults.append(f'{module}: no flag --{name}')
    elif name == 'config' and not (paths.ROOT / value.split(':')[0]).exists():
      faults.append(f'{module}: no file {value}')
  return faults


def check_command(words):
  """Faults of a command, which may launch another."""
  if words[0] == 'pip':
    extras = re.findall(r'\.\[(.*?)\]', ' '.join(words))
    setup = read(paths.ROOT / 'setup.cfg')
    return [
      f'no extra {extra}'
      for group in extras
      for extra in group.split(',')
      if not re.search(rf'^{extra} =$', setup, re.M)
    ]
  if words[0] == 'pytest':
    return [
      f'no file {word}'
      for word in words[1:]
      if word.startswith('tests') and not (paths.ROOT / word).exists()
    ]
  if words[:2] != ['python', '-m'] or words[2] in _OF_PYTHON:
    return []
  module = words[2]
  if module not in FLAGS:
    return [f'no program {module}']
  if module not in ('launch.run', 'launch.sweep') or '--' not in words:
    return check_arguments(module, words[3:])
  place = words.index('--')
  own = words[3:place]
  binary = dict(w[2:].split('=', 1) for w in own if '=' in w).get('binary')
  launched = f'genre_flax.{_BINARIES[binary or "train"]}'
  return check_arguments(module, own) + check_arguments(
    launched, words[place + 1 :]
  )


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
  text = re.sub(r'```.*?```', '', read(path), flags=re.S)
  broken = []
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if re.match(r'https?://|mailto:', target):
      continue
    file, _, anchor = target.partition('#')
    there = (path.parent / file).resolve() if file else path
    if not there.exists() or anchor and anchor not in anchors(read(there)):
      broken.append(target)
  assert not broken


def anchors(text):
  titles = re.findall(r'^#+ (.*)$', text, re.M)
  return {
    re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles
  }


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_commands_are_accepted(path):
  faults = [
    f'{shlex.join(words)}: {fault}'
    for words in commands(read(path))
    for fault in check_command(words)
  ]
  assert not faults


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_flags_keys_and_files_in_the_text_are_there(path):
  text = re.sub(r'^ *```.*?^ *```', '', read(path), flags=re.M | re.S)
  known = set().union(*FLAGS.values()) | _FOREIGN_FLAGS
  codes = re.findall(r'`([^`\n]+)`', text)
  assert not [fault for code in codes for fault in faults_of_code(code, known)]


def faults_of_code(code, known):
  """What a piece of code within a sentence names and is not there."""
  for name in re.findall(r'(?<![\w-])--([a-z]\w*)(?![\w.-])', code):
    if name not in known and name.removeprefix('no') not in known:
      yield f'--{name}'
  for key in re.findall(r'\bconfig\.(?!json)([a-z_]+(?:\.[a-z_0-9]+)*)', code):
    if key not in KEYS | SWEEP_KEYS and '.options.' not in key:
      yield f'config.{key}'
  is_path = re.fullmatch(
    r'(genre_flax|launch|configs|examples|tests|docs)/[\w./]*', code
  )
  if is_path and not (paths.ROOT / code).exists():
    yield code
  match = re.match(r'python -m ([\w.]+)', code)
  if match and match[1] not in FLAGS:
    yield match[0]


def test_the_readme_is_a_page_or_two():
  assert len(read(paths.ROOT / 'README.md').splitlines()) <= 250


@pytest.mark.parametrize(
  'command, fault',
  [
    ('python -m genre_flax.main --confg=configs/tpu_pod.py', 'no flag --confg'),
    ('python -m genre_flax.main --config=configs/x.py', 'no file configs/x.py'),
    ('python -m genre_flax.main --config.modl.name=a', 'no key modl.name'),
    ('python -m genre_flax.mian', 'no program genre_flax.mian'),
    ('python -m launch.run --name=a -- --zone=b', 'no flag --zone'),
    ("pip install -e '.[nothing]'", 'no extra nothing'),
    ('pytest tests/nothing_test.py', 'no file tests/nothing_test.py'),
  ],
)
def test_these_checks_find_faults(command, fault):
  assert fault in str(check_command(shlex.split(command)))


def test_every_room_says_what_it_is_for():
  for package in ('genre_flax', 'launch', 'configs', 'tests'):
    for file in (paths.ROOT / package).rglob('__init__.py'):
      tree = ast.parse(read(file))
      assert ast.get_docstring(tree), file
      assert len(tree.body) == 1, f'{file} re-exports or defines something'


def test_documents_speak_of_no_machine():
  # Absolute paths are examples: of a scratch folder, of a cluster's storage.
  found = [
    (path.name, match)
    for path in DOCUMENTS
    for match in re.findall(r'(?<![\w:/.~}>)])/[a-z]+/\S*', read(path))
    if not match.startswith(('/tmp/', '/shared/'))
  ]
  assert not found
