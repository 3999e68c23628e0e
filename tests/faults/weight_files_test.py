"""Damaged and hostile weight files: refused, or read as arrays."""

import pickletools
import random
import resource
import sys

from etils import epath
import numpy as np
import pytest

from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from tests.faults import trainings
from tests.support import torch_files

NUM_CASES = trainings.short_and_long('num_cases', 300, 100_000)
# Memory that all cases together may allocate, for files of a kilobyte.
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
  """Makes allocations of gigabytes fail."""
  if sys.platform != 'linux':
    yield
    return
  before = resource.getrlimit(resource.RLIMIT_AS)
  with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (used + MAX_GROWTH_BYTES, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_AS, before)


def read_all(cases, path, *, read=weight_files.read_torch):
  """Reads each case; returns the number of refused ones."""
  num_refused = 0
  for content in cases:
    path.write_bytes(content)
    try:
      arrays = read(epath.Path(path))
    except errors.InputError as e:
      assert 'MemoryError' not in str(e)
      num_refused += 1
      continue
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert sum(array.nbytes for array in arrays.values()) <= 2 * len(content)
  return num_refused


def mutated(content, num_cases):
  """Flips, replaces, inserts, deletes, repeats and swaps bytes."""
  rng = random.Random(0)
  for _ in range(num_cases):
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


@NUM_CASES
def test_mutated_torch_files(tmp_path, content, limited_memory, num_cases):
  num_refused = read_all(mutated(content, num_cases), tmp_path / 'b.pth')
  assert num_refused > num_cases / 3


@NUM_CASES
def test_mutated_safetensors_files(tmp_path, limited_memory, num_cases):
  safetensors = pytest.importorskip(
    'safetensors.numpy', reason="needs: pip install -e '.[pretrained]'"
  )
  content = safetensors.save(
    {
      'a.weight': np.arange(12, dtype=np.float32).reshape(3, 4),
      'a.bias': np.ones(3, np.float32),
      'scale': np.full((), 2, np.float32),
    }
  )
  num_refused = read_all(
    mutated(content, num_cases),
    tmp_path / 'b.safetensors',
    read=weight_files.read_safetensors,
  )
  assert num_refused > num_cases / 3


@NUM_CASES
def test_inserted_pickle_instructions(
  tmp_path, content, limited_memory, num_cases
):
  rng = random.Random(0)
  codes = [op.code.encode('latin-1') for op in pickletools.opcodes]

  def cases():
    for case in range(num_cases):
      place = rng.randrange(len(content))
      code = codes[case % len(codes)]
      arguments = rng.randbytes(rng.choice((0, 1, 4, 8)))
      yield content[:place] + code + arguments + content[place:]

  read_all(cases(), tmp_path / 'b.pth')


@pytest.mark.slow
def test_bombs(tmp_path, content, limited_memory):
  """Absent data of large sizes, deep structures, and calls."""
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
  assert read_all(cases, tmp_path / 'b.pth') == len(cases)


def test_many_views_of_one_storage(tmp_path, limited_memory):
  numbers = np.zeros(100_000, np.float32)
  many = {f't{n}': (numbers, 0, (100_000,), (1,)) for n in range(900)}
  torch_files.write(tmp_path / 'b.pth', many)
  # The views share their memory.
  assert len(weight_files.read_torch(epath.Path(tmp_path / 'b.pth'))) == 900
