"""Files, commands, flags and config keys in the documents exist."""

import ast
import re
import shlex

import pytest

from configs import default
from configs.sweeps import default as sweep_default
from genre_flax import config as config_lib
from genre_flax.runtime import custom
from launch import job as job_lib
from tests.support import paths

DOCUMENTS = sorted(
  [*paths.ROOT.glob('*.md'), *(paths.ROOT / 'docs').rglob('*.md')]
)
_STANDARD_MODULES = ('http.server', 'venv')
# Flags of absl and XLA.
_LIBRARY_FLAGS = {
  'help',
  'verbosity',
  'xla_cpu_use_fusion_emitters',
  'xla_force_host_platform_device_count',
}
_PROGRAMS = (
  'examples.research.study',
  *(f'genre_flax.{name}' for name in ('main', 'top3', 'report', 'export')),
  *(f'genre_flax.{name}' for name in ('demo', 'prepare', 'lower', 'compare')),
  'genre_flax.inspect',
  *(f'launch.{name}' for name in ('run', 'plan', 'sweep')),
  'benchmarks',
)


def read(path):
  return path.read_text(encoding='utf-8')


def flags_of(module):
  """The flags that a program defines, from its source."""
  path = paths.ROOT / module.replace('.', '/')
  main = path / '__main__.py'
  source = read(main if main.exists() else path.with_suffix('.py'))
  found = set()
  for node in ast.walk(ast.parse(source)):
    if ast.unparse(node).startswith('_OPTIONS = '):
      found |= set(map(ast.literal_eval, node.value.keys))
    if not isinstance(node, ast.Call):
      continue
    function = ast.unparse(node.func)
    if '.DEFINE_' in function and isinstance(node.args[0], ast.Constant):
      found.add(node.args[0].value)
    elif function.startswith('shared_flags.'):
      name = function.split('.')[1]
      found |= {'model', 'workdir'} if name.startswith('model') else {name}
    elif function == 'config_files.define_flag':
      found.add('config')
  return found


FLAGS = {program: flags_of(program) for program in _PROGRAMS}


def keys_of(module):
  """All keys of a config, including those of its sections."""
  flat = config_lib.flatten(module.get_config().to_dict())
  keys = {'.'.join(k.split('.')[:n]) for k in flat for n in range(1, 9)}
  return keys | set(custom.OPTIONS.values())


KEYS = keys_of(default)
SWEEP_KEYS = keys_of(sweep_default)


def code_blocks(text, *languages):
  for language, body in re.findall(
    r'^ *```(\w*)\n(.*?)^ *```', text, re.M | re.S
  ):
    if language in languages:
      yield body


def commands(text):
  """The commands in the shell blocks, as lists of words."""
  for body in code_blocks(text, 'sh', 'bash'):
    for line in body.replace('\\\n', ' ').splitlines():
      for part in re.split(r'&&|;', line.split(' #')[0]):
        if part.strip() and not part.strip().startswith('#'):
          yield shlex.split(part)


def check_arguments(module, arguments):
  """Errors in a program's arguments."""
  known = FLAGS[module] | _LIBRARY_FLAGS
  keys = SWEEP_KEYS if module == 'launch.sweep' else KEYS
  found = []
  for argument in arguments:
    if not argument.startswith('--'):
      continue
    name, _, value = argument[2:].partition('=')
    if name.startswith('config.'):
      key = name.removeprefix('config.')
      if key not in keys and 'options.' not in key:
        found.append(f'{module}: no key {key}')
    elif name not in known and name.removeprefix('no') not in known:
      found.append(f'{module}: no flag --{name}')
    elif name == 'config' and not (paths.ROOT / value.split(':')[0]).exists():
      found.append(f'{module}: no file {value}')
  return found


def check_command(words):
  """Errors in a command, which may launch another."""
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
  if words[:2] != ['python', '-m'] or words[2] in _STANDARD_MODULES:
    return []
  module = words[2]
  if module not in FLAGS:
    return [f'no program {module}']
  if module not in ('launch.run', 'launch.sweep') or '--' not in words:
    return check_arguments(module, words[3:])
  place = words.index('--')
  own, launched = words[3:place], words[place + 1 :]
  if module == 'launch.sweep':
    return check_arguments(module, own) + check_arguments(
      'genre_flax.main', launched
    )
  program = dict(w[2:].split('=', 1) for w in own if '=' in w).get('program')
  command = ['python', '-m', job_lib.PROGRAMS[program or 'train'], *launched]
  return check_arguments(module, own) + check_command(command)


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_links_exist(path):
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
def test_commands_are_valid(path):
  assert not [
    f'{shlex.join(words)}: {error}'
    for words in commands(read(path))
    for error in check_command(words)
  ]


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_names_in_code_spans_exist(path):
  text = re.sub(r'^ *```.*?^ *```', '', read(path), flags=re.M | re.S)
  known = set().union(*FLAGS.values()) | _LIBRARY_FLAGS
  codes = re.findall(r'`([^`\n]+)`', text)
  assert not [name for code in codes for name in missing_names(code, known)]


def missing_names(code, known):
  """Names within a code span that do not exist."""
  for name in re.findall(r'(?<![\w-])--([a-z]\w*)(?![\w.-])', code):
    if name not in known and name.removeprefix('no') not in known:
      yield f'--{name}'
  for key in re.findall(r'\bconfig\.(?!json)([a-z_]+(?:\.[a-z_0-9]+)*)', code):
    if key not in KEYS | SWEEP_KEYS and 'options.' not in key:
      yield f'config.{key}'
  is_path = re.fullmatch(
    r'(genre_flax|launch|configs|benchmarks|examples|tests|docs)/[\w./]*', code
  )
  if is_path and not (paths.ROOT / code).exists():
    yield code
  match = re.match(r'python -m ([\w.]+)', code)
  if match and match[1] not in FLAGS:
    yield match[0]


def test_readme_is_short():
  assert len(read(paths.ROOT / 'README.md').splitlines()) <= 250


@pytest.mark.parametrize(
  'command, error',
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
def test_errors_are_found(command, error):
  assert error in str(check_command(shlex.split(command)))


def test_packages_have_only_a_docstring():
  for package in ('genre_flax', 'launch', 'configs', 'benchmarks', 'tests'):
    for file in (paths.ROOT / package).rglob('__init__.py'):
      tree = ast.parse(read(file))
      assert ast.get_docstring(tree), file
      if file.parent == paths.ROOT / 'genre_flax':
        continue  # The Python API, lazily.
      assert len(tree.body) == 1, f'{file} contains code'


def test_documents_have_no_paths_of_a_machine():
  # Examples are a scratch folder and the storage of a cluster.
  found = [
    (path.name, match)
    for path in DOCUMENTS
    for match in re.findall(r'(?<![\w:/.~}>)])/[a-z]+/\S*', read(path))
    if not match.startswith(('/tmp/', '/shared/', '/bin/bash'))
  ]
  assert not found
