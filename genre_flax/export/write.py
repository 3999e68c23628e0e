"""Puts the folder of an export together, checked before it has its name."""

from collections.abc import Callable, Iterator
import contextlib
import json
import pathlib
from typing import Any

from etils import epath

from genre_flax.evaluation import calibration
from genre_flax.export import check
from genre_flax.export import description as description_lib
from genre_flax.export import folder as folder_lib
from genre_flax.export import graph
from genre_flax.export import static_files
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.training import train_state

# Of the extra `export`, by what Python calls them.
_EXTRA = (
  'flatbuffers',
  'huggingface_hub',
  'onnx',
  'onnxruntime',
  'safetensors',
)
ONNX_FILE = 'model.onnx'


@contextlib.contextmanager
def needing_the_extra() -> Iterator[None]:
  """Tells of a package that is not installed, and how to install it."""
  try:
    yield
  except ModuleNotFoundError as e:
    missing = (e.name or '').partition('.')[0]
    if missing not in _EXTRA:
      raise
    raise errors.InputError(
      f'Exporting needs the package {missing!r}, which is not installed:'
      " `pip install -e '.[export]'`."
    ) from None


def export(
  predictor: predictor_lib.Predictor,
  *,
  workdir: epath.Path,
  form: str,
  output: pathlib.Path,
  page_runtime: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Writes an export.

  Args:
    predictor: of `predictor_lib.restore`.
    workdir: that it is from; it may have metrics, and the data set.
    form: a key of FORMS.
    output: folder to write; one that is an export already is replaced.
    page_runtime: for 'web', where ONNX Runtime Web is; see `ort_web.files`.

  Returns:
    What the check found, of `check.compare`.

  Raises:
    InputError: `output` is something else, the network cannot be converted, or
      a package is missing.
    UserError: what was written gives other scores.
    StorageError: it cannot be written.
  """
  with needing_the_extra(), folder_lib.replacing(output) as folder:
    description = description_lib.describe(predictor) | {'form': form}
    agreement = FORMS[form](
      predictor, folder, description, workdir=workdir, page_runtime=page_runtime
    )
    description['check'] = agreement
    content = json.dumps(description, indent=2)
    (folder / description_lib.FILE_NAME).write_text(f'{content}\n')
  return agreement


def _write_onnx(predictor, folder, description, *, workdir, **unused):
  """The network, the card, the numbers, and a program that uses it."""
  del unused
  agreement = _write_network(predictor, folder, description, workdir=workdir)
  static_files.copy('predict.py', folder / 'predict.py')
  _write_weights(predictor, folder)
  _write_card(
    predictor, folder, description, workdir=workdir, agreement=agreement
  )
  return agreement


def _write_network(predictor, folder, description, *, workdir):
  """model.onnx, checked."""
  import onnxruntime

  from genre_flax.export import onnx_file

  function = graph.make_function(predictor.in_float32())
  description['versions'] |= machine.versions(['onnx', 'onnxruntime'])
  model = onnx_file.make(
    function, graph.input_shape(predictor), metadata=description
  )
  content = model.SerializeToString(deterministic=True)
  (folder / ONNX_FILE).write_bytes(content)
  session = onnxruntime.InferenceSession(
    folder / ONNX_FILE, providers=['CPUExecutionProvider']
  )
  return _compare(
    lambda images: session.run(list(graph.OUTPUTS), {graph.INPUT: images}),
    predictor,
    workdir,
  )


def _write_stablehlo(predictor, folder, description, *, workdir, **unused):
  """The program, its versions, the card and the numbers."""
  del unused
  from genre_flax.export import stablehlo_file

  content, versions = stablehlo_file.make(
    graph.make_function(predictor.in_float32()), graph.input_shape(predictor)
  )
  (folder / stablehlo_file.FILE_NAME).write_bytes(content)
  (folder / 'stablehlo.json').write_text(f'{json.dumps(versions, indent=2)}\n')
  _write_weights(predictor, folder)
  agreement = _compare(
    stablehlo_file.load((folder / stablehlo_file.FILE_NAME).read_bytes()),
    predictor,
    workdir,
  )
  _write_card(
    predictor,
    folder,
    description,
    workdir=workdir,
    agreement=agreement,
    versions=versions,
  )
  return agreement


def _write_timm(predictor, folder, description, *, workdir, **unused):
  """What timm builds and loads, read back, and the card."""
  del unused
  from safetensors import numpy as safetensors

  from genre_flax.export import timm_folder

  # timm has no place for label sets.
  predictor = timm_folder.score_each_alone(predictor)
  description |= timm_folder.describe(predictor) | {'label_sets': None}
  # The head contains it, and the thresholds are for scores with label sets.
  description['calibration'] = description_lib.describe_calibration(
    calibration.identity(predictor.genres)
  )
  del description['thresholds']
  arrays = timm_folder.make_arrays(predictor)
  (folder / timm_folder.FILE_NAME).write_bytes(
    safetensors.save(arrays, metadata={'format': 'pt'})
  )
  agreement = _compare(
    timm_folder.read_back(folder, predictor), predictor, workdir
  )
  _write_card(
    predictor, folder, description, workdir=workdir, agreement=agreement
  )
  return agreement


def _write_web(predictor, folder, description, *, workdir, page_runtime):
  """The page, with the network and what runs it."""
  from genre_flax.export import web

  web.write(folder, description, page_runtime=page_runtime)
  found = split_metrics.read(
    workdir, step=predictor.step, genres=predictor.genres
  )
  description['scores'] = found and {
    'split': found['split'],
    'num_examples': found['num_examples'],
    'hit_at_3': found['metrics'].get('hit_at_3'),
  }
  return _write_network(predictor, folder, description, workdir=workdir)


def _compare(runner, predictor, workdir):
  return check.compare(
    runner, predictor, check.choose_posters(predictor, workdir)
  )


def _write_weights(predictor, folder):
  from genre_flax.export import weights

  weights.write(folder / weights.FILE_NAME, predictor)


def _write_card(
  predictor, folder, description, *, workdir, agreement, versions=None
):
  from genre_flax.export import model_card

  facts = model_card.Facts(
    form=description['form'],
    description=description,
    num_params=train_state.count_parameters(predictor.variables['params']),
    scores=split_metrics.read(
      workdir, step=predictor.step, genres=predictor.genres
    ),
    agreement=agreement,
    versions=versions or {},
  )
  card = model_card.make(facts)
  (folder / model_card.FILE_NAME).write_text(card, encoding='utf-8')


# What writes each form; it returns what the check found.
FORMS: dict[str, Callable[..., dict[str, Any]]] = {
  'onnx': _write_onnx,
  'stablehlo': _write_stablehlo,
  'timm': _write_timm,
  'web': _write_web,
}
