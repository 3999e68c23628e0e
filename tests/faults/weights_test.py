"""Hostile files of weights: refused by name, or read as tensors."""

import pickletools
import random
import resource
import sys

from etils import epath
import numpy as np
import pytest

from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from tests.faults import outcomes as outcomes_lib
from tests.support import torch_files

NUMBERS = pytest.mark.parametrize(
  'number',
  [300, pytest.param(100_000, marks=[pytest.mark.drill, pytest.mark.slow])],
)
# What a file of a kilobyte may take, in all cases together.
MAX_GROWTH_BYTES = 200 << 20


@pytest.fixture
def content(tmp_path):
  numbers = np.arange(24, dtype=np.float32)
  tensors = {
    'plain': (numbers, 0, (2, 3, 4), (12, 4, 1)),
    'transposed': (numbers, 2, (3, 2), (1, 3)),
    'count': (np.array([5], np.int64), 0, (), ()),
  }
  torch_files.write(tmp_path / 'a.pth', tensors)
  return (tmp_path / 'a.pth').read_bytes()


@pytest.fixture
def limited_memory():
  """Fails a case that asks for gigabytes, where it would do no harm."""
  if sys.platform != 'linux':
    yield
    return
  before = resource.getrlimit(resource.RLIMIT_AS)
  with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (used + MAX_GROWTH_BYTES, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_AS, before)


def try_all(cases, path, outcomes, *, read=weight_files.read_torch):
  """Reads each; whatever is wrong with it is told as a refusal."""
  for content in cases:
    path.write_bytes(content)
    try:
      arrays = read(epath.Path(path))
    except errors.InputError as e:
      assert 'MemoryError' not in str(e)
      outcomes['refused by name'] += 1
      continue
    size = sum(array.nbytes for array in arrays.values())
    assert size <= 2 * len(content)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    outcomes['read as tensors'] += 1


def mutated(content, number):
  """Flips, inserts, deletes, doubles and swaps bytes, and cuts."""
  rng = random.Random(0)
  for _ in range(number):
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
      place = rng.randrange(len(damaged))
      match rng.randrange(6):
        case 0:
          damaged[place] ^= 1 << rng.randrange(8)
        case 1:
          damaged[place] = rng.randrange(256)
        case 2:
          damaged[place:place] = rng.randbytes(rng.randrange(1, 9))
        case 3:
          del damaged[place : place + rng.randrange(1, 9)]
        case 4:
          damaged[place:place] = damaged[place : place + rng.randrange(1, 99)]
        case 5:
          other = rng.randrange(len(damaged))
          damaged[place], damaged[other] = damaged[other], damaged[place]
      damaged = damaged or bytearray(b'x')
    yield bytes(damaged)


@NUMBERS
def test_mutated_files(tmp_path, content, limited_memory, number):
  outcomes = outcomes_lib.Outcomes(
    '.pth, mutated at random', group='files of weights'
  )
  try_all(mutated(content, number), tmp_path / 'b.pth', outcomes)
  outcomes.done()
  assert outcomes['refused by name'] > number / 3


@NUMBERS
def test_mutated_safetensors_files(tmp_path, limited_memory, number):
  safetensors = pytest.importorskip(
    'safetensors.numpy', reason="needs: pip install -e '.[pretrained]'"
  )
  outcomes = outcomes_lib.Outcomes(
    '.safetensors, mutated at random', group='files of weights'
  )
  content = safetensors.save(
    {
      'a.weight': np.arange(12, dtype=np.float32).reshape(3, 4),
      'a.bias': np.ones(3, np.float32),
      'scale': np.full((), 2, np.float32),
    }
  )
  try_all(
    mutated(content, number),
    tmp_path / 'b.safetensors',
    outcomes,
    read=weight_files.read_safetensors,
  )
  outcomes.done()
  assert outcomes['refused by name'] > number / 3


@NUMBERS
def test_every_instruction_at_every_place(
  tmp_path, content, limited_memory, number
):
  outcomes = outcomes_lib.Outcomes(
    'each of the pickle instructions put anywhere', group='files of weights'
  )
  rng = random.Random(0)
  codes = [op.code.encode('latin-1') for op in pickletools.opcodes]

  def cases():
    for turn in range(number):
      place = rng.randrange(len(content))
      code = codes[turn % len(codes)]
      arguments = rng.randbytes(rng.choice((0, 1, 4, 8)))
      yield content[:place] + code + arguments + content[place:]

  try_all(cases(), tmp_path / 'b.pth', outcomes)
  outcomes.done()


def test_bombs(tmp_path, content, limited_memory):
  """Sizes that are not there, and structures without end."""
  outcomes = outcomes_lib.Outcomes('made to exhaust', group='files of weights')
  huge = (2**31 - 1).to_bytes(4, 'little')
  huge8 = (2**40).to_bytes(8, 'little')
  bodies = [
    b'X' + huge,  # BINUNICODE
    b'\x8d' + huge8,  # BINUNICODE8
    b'\x8e' + huge8,  # BINBYTES8
    b'\x96' + huge8,  # BYTEARRAY8
    b'\x95' + huge8,  # FRAME
    b'\x8b' + huge,  # LONG4
    b'Nr' + (2**32 - 1).to_bytes(4, 'little'),  # LONG_BINPUT
    b'j' + huge,  # LONG_BINGET
    b')' + b'\x85' * 200_000,  # TUPLE1 in TUPLE1 ...
    b']' + b'q\x00' + b'h\x00a' * 200_000,  # A list in itself.
    b'(' * 500_000,
    b'}q\x00(X\x01\x00\x00\x00ah\x00u',  # A dictionary in itself.
    # Tuples of two of the one before: 2**60 leaves.
    b')' + b'q\x00h\x00h\x00\x86' * 60,
    b'I' + b'9' * 100_000 + b'\n',
    b'\x8a\xff' + b'\xff' * 255,
    b'cos\nsystem\n(X\x04\x00\x00\x00truetR',
    b'cbuiltins\neval\n',
    b'c__builtin__\ngetattr\n',
    b'ccollections\nOrderedDict\n(X\x01\x00\x00\x00atR',
  ]
  start = content.index(b'.', content.index(b'.') + 1) + 1
  cases = [b'\x80\x02' + body + b'.' for body in bodies]
  cases += [content[:start] + case for case in cases]
  try_all(cases, tmp_path / 'b.pth', outcomes)
  outcomes.done()
  assert outcomes['refused by name'] == len(cases)


def test_many_views_of_one_storage(tmp_path, limited_memory):
  numbers = np.zeros(100_000, np.float32)
  many = {f't{n}': (numbers, 0, (100_000,), (1,)) for n in range(900)}
  torch_files.write(tmp_path / 'b.pth', many)
  # The views share their memory.
  assert len(weight_files.read_torch(epath.Path(tmp_path / 'b.pth'))) == 900
