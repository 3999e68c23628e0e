"""The Python API, exported as `genre_flax.load` etc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import importlib
import os
import pkgutil
from typing import Any

from etils import epath
from etils import epy
import ml_collections
import numpy as np

import configs
from genre_flax import config as config_lib
from genre_flax.checkpoints import released
from genre_flax.inference import ensemble as ensemble_lib
from genre_flax.inference import image_files
from genre_flax.inference import image_inputs
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import platform

with epy.lazy_imports():
  from genre_flax.attribution import methods
  from genre_flax.attribution import words as words_lib
  from genre_flax.inference import scored_split
  from genre_flax.reports import split_metrics
  from genre_flax.reports import split_report
  from genre_flax.retrieval import embedder as embedder_lib
  from genre_flax.training import train as train_lib

# Settings for speed, unless JAX has started.
platform.configure()
_POINT = 'micro_f1'


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The prediction of an image, or the reason why it is unreadable.

  Attributes:
    scores: the probability of each genre, in [0, 1]; empty with an error.
    genres: the predicted genres: those that reach the thresholds that maximize
      micro-F1 on the validation split of the training; at least one.
    error: None, or the reason why the image is unreadable.
    text: the lines of text on the poster, of a model that takes text.
  """

  scores: Mapping[str, float]
  genres: tuple[str, ...]
  error: str | None = None
  text: tuple[str, ...] = ()

  def top(self, number: int = 3) -> list[tuple[str, float]]:
    """The genres with the highest scores and these scores, the highest first.

    Args:
      number: of genres, at most.

    Returns:
      Pairs such as ('Drama', 0.62); [] with an error.
    """
    ranked = sorted(self.scores.items(), key=lambda item: -item[1])
    return ranked[:number]


class Model:
  """A trained network, or an ensemble, of `load`.

  Attributes:
    genres: the label names, in the order of scores in arrays.
    predictor: the network, or the ensemble, for other modules of this package.
    restored: the same with its text branch, even if no text can be read.
  """

  def __init__(
    self,
    predictor: predictor_lib.Predictor | ensemble_lib.Ensemble,
    source: str,
    restored: predictor_lib.Predictor | ensemble_lib.Ensemble,
  ):
    """Use `load`."""
    self.predictor, self._source = predictor, source
    self.restored = restored
    self._explainers: dict[str | None, Any] = {}
    self.genres = predictor.genres

  def __repr__(self) -> str:
    return f'<Model {self._source} of {len(self.genres)} genres>'

  def predict(
    self, images: Sequence[image_files.Image], *, batch_size: int = 32
  ) -> list[Prediction]:
    """Predicts the genres of posters.

    Args:
      images: paths, bytes of image files, PIL images, or arrays uint8
        [height, width, 3] of RGB pixels, of any size.
      batch_size: images per step.

    Returns:
      A prediction per image. That of an unreadable image has an `error`.
    """
    _require_sequence(images)
    calibration = self.predictor.calibration
    predictions = []
    for result in image_files.predict_files(
      self.predictor, images, batch_size=batch_size
    ):
      if result.error is not None:
        predictions.append(Prediction({}, (), result.error))
        continue
      [chosen] = calibration.predict_genres(result.scores[None], _POINT)
      scores = dict(zip(self.genres, result.scores.tolist(), strict=True))
      genres = tuple(self.genres[i] for i in np.flatnonzero(chosen))
      text = tuple(line.text for line in result.lines or ())
      predictions.append(Prediction(scores, genres, text=text))
    return predictions

  def embed(self, images: Sequence[image_files.Image]) -> np.ndarray:
    """Computes embeddings, the features that the last layer of a network has.

    Args:
      images: as in `predict`.

    Returns:
      float32 [len(images), num_features].

    Raises:
      InputError: an image is unreadable, or the model is an ensemble or a
        network without embeddings.
    """
    _require_sequence(images)
    embed = self._embedder.embed
    rows = [embed(self._pixels(image)[None]) for image in images]
    size = self._embedder.num_features
    return np.concatenate([np.zeros((0, size), np.float32), *rows])

  def explain(
    self,
    image: image_files.Image,
    genre: str | None = None,
    *,
    method: str | None = None,
  ) -> np.ndarray:
    """Computes the attribution map of a genre: where its evidence is.

    Args:
      image: as in `predict`.
      genre: one of `genres`; None for the one with the highest score.
      method: 'grad_cam' or 'occlusion'; None for Grad-CAM if the network
        supports it.

    Returns:
      float32 [h, w], in [0, 1], coarser than the image.

    Raises:
      InputError: the image is unreadable, there is no such genre, or the model
        is an ensemble.
    """
    pixels = self._pixels(image)[None]
    index = self._index(image, genre)
    if method not in self._explainers:
      self._explainers[method] = methods.Explainer(
        self._single(), method=method
      )
    maps = self._explainers[method].maps(pixels, np.array([[index]]))
    return maps[0, 0]

  def explain_words(
    self, image: image_files.Image, genre: str | None = None
  ) -> list[tuple[str, float]]:
    """Computes the contributions of the words on a poster to a genre.

    Args:
      image: as in `predict`.
      genre: as in `explain`.

    Returns:
      The words, in the order of the text, with their contributions to the logit
      of the genre; [] for a poster without text.

    Raises:
      InputError: the image is unreadable, there is no such genre, or the model
        takes no text.
    """
    predictor = self._single()
    if predictor.text is None:
      raise errors.InputError('The model takes no text.')
    index = self._index(image, genre)
    result = image_files.read(predictor, image)
    words, values = words_lib.WordExplainer(predictor).contributions(
      result.lines or ()
    )
    return list(zip(words, values[:, index].tolist(), strict=True))

  def _index(self, image, genre) -> int:
    """The index of a genre; for None, of that with the highest score."""
    if genre is None:
      [prediction] = self.predict([image])
      if prediction.error is not None:
        raise errors.InputError(f'The image is unreadable: {prediction.error}')
      genre = prediction.top(1)[0][0]
    if genre not in self.genres:
      raise errors.InputError(
        f'The model has no genre {genre!r}; expected one of {self.genres}.'
      )
    return self.genres.index(genre)

  @functools.cached_property
  def _embedder(self):
    return embedder_lib.Embedder(self._single())

  def _single(self) -> predictor_lib.Predictor:
    if isinstance(self.predictor, ensemble_lib.Ensemble):
      raise errors.InputError('An ensemble has no embeddings and no maps.')
    return self.predictor

  def _pixels(self, image) -> np.ndarray:
    pixels = image_files.decode(image, self._single().image_shape)
    if not isinstance(pixels, np.ndarray):
      raise errors.InputError(f'The image is unreadable: {pixels}')
    return pixels


def _require_sequence(images):
  if isinstance(images, str | bytes) or not isinstance(images, Sequence):
    raise errors.InputError(
      f'Expected a list of images, got a {type(images).__name__}: [image] for'
      ' one image, list(images) for several.'
    )


def load(
  *models: str | os.PathLike,
  step: str | int = 'best',
  extra_columns: Sequence[str] = (),
  use_text: bool | None = None,
  text_reader: str = '',
  allow_custom_code: bool = False,
) -> Model:
  """Loads a released model or a trained network; several form an ensemble.

  Args:
    *models: names of released models, workdirs of trainings, or 'hf:OWNER/NAME'
      of repositories on the Hugging Face hub; none for 'poster-probe'.
    step: checkpoint of a workdir: 'best', 'latest' or a number.
    extra_columns: values of the extra columns of all images, for networks that
      take them, such as 'year=1994'; by default the mean, or an unknown
      category.
    use_text: whether networks with a text branch read the text on posters; by
      default if the extra `ocr` is installed, with a warning otherwise.
    text_reader: 'module:attribute' of another reader of text, as of
      `genre_flax.prepare`.
    allow_custom_code: whether a custom network, which a workdir names as
      'module:attribute', may be imported, which runs its code.

  Raises:
    InputError: there is no such model, it is damaged, the models have different
      genres, or a package is missing.
  """
  sources = [
    os.path.expanduser(model) for model in models or [released.NAMES[0]]
  ]
  predictors = [
    predictor_lib.restore(
      source, step=str(step), allow_custom_code=allow_custom_code
    )
    for source in sources
  ]
  predictors = image_inputs.with_extra_values(predictors, extra_columns)
  readers = image_inputs.with_text_reader(
    predictors, use_text=use_text, text_reader=text_reader
  )
  predictor, restored = (
    ensemble_lib.combine(members, origins=sources)
    for members in (readers, readers if use_text is False else predictors)
  )
  return Model(predictor, ' + '.join(sources), restored)


def evaluate(
  model: Model,
  data_dir: str | os.PathLike,
  *,
  split: str = 'test',
  batch_size: int = 64,
  bootstrap_samples: int = 1000,
) -> dict[str, Any]:
  """Evaluates a model on a split of a prepared dataset.

  Args:
    model: of `load`.
    data_dir: folder that `genre_flax.prepare` wrote, with the genres of the
      model.
    split: 'train', 'validation' or 'test'.
    batch_size: posters per step.
    bootstrap_samples: resamples for the 95 % intervals; 0 for no intervals.

  Returns:
    {'num_examples', 'metrics': {name: {'value', 'low', 'high',
    'constant_baseline'}}, 'genres': {name: {'average_precision', ...}}, ...},
    as in metrics.json.

  Raises:
    InputError: there is no such dataset or split, or its genres differ.
  """
  predictor = model.restored
  scored = scored_split.score_split(
    predictor,
    predictor.open_dataset(os.path.expanduser(data_dir)),
    split,
    batch_size=batch_size,
  )
  return split_metrics.make_report(scored, bootstrap_samples=bootstrap_samples)


def get_config(name: str) -> ml_collections.ConfigDict:
  """A training config by its name, such as 'quickstart' or 'linear_probe'.

  The keys are those of configs/default.py, and may be changed before `train`.

  Raises:
    InputError: there is no such config.
  """
  names = [each.name for each in pkgutil.iter_modules(configs.__path__)]
  names.remove('sweeps')
  if name not in names:
    raise errors.InputError(
      f'There is no config {name!r}; expected one of {", ".join(names)}.'
    )
  return importlib.import_module(f'configs.{name}').get_config().lock()


def train(
  config: ml_collections.ConfigDict | str, workdir: str | os.PathLike
) -> Model:
  """Trains a network; resumes the run in the workdir where there is one.

  As the program `genre_flax.main`, it writes checkpoints and metrics, and
  evaluates the best checkpoint on the test split.

  Args:
    config: of `get_config`, or its name.
    workdir: folder of the run.

  Returns:
    The network of the best checkpoint.

  Raises:
    InputError: the config, the dataset or the workdir does not fit.
    DivergedError: a training metric became NaN or infinite.
    KeyboardInterrupt: a signal ended it; the same call resumes the run.
  """
  config = get_config(config) if isinstance(config, str) else config
  workdir = os.path.expanduser(workdir)
  workdir = workdir if '://' in workdir else os.path.abspath(workdir)
  outcome = train_lib.train(config, workdir)
  if outcome.exit_status:
    raise KeyboardInterrupt
  if config.dataset.test_split:
    split_report.evaluate_best(
      config, epath.Path(workdir), again=outcome.num_trained > 0
    )
  # The code was just run.
  trusted = custom.names(config_lib.flatten(config.to_dict())).values()
  return load(workdir, allow_custom_code=tuple(trusted))
