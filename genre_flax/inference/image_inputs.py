"""Inputs of networks besides the pixels, for image files without a dataset."""

from collections.abc import Sequence
import dataclasses

from absl import logging

from genre_flax.datasets.posters import poster_text
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors


def with_extra_values(
  predictors: Sequence[predictor_lib.Predictor], assignments: Sequence[str]
) -> list[predictor_lib.Predictor]:
  """Sets the values of extra inputs for images; the assumed ones are logged.

  Args:
    predictors: of `restore`.
    assignments: numbers and categories, such as 'year=1994'.

  Raises:
    InputError: a value is invalid, or no network takes the column.
  """
  values = dict(each.partition('=')[::2] for each in assignments)
  inputs = {c.name: c for each in predictors for c in each.extra_inputs}
  if values.keys() - inputs.keys():
    raise errors.InputError(
      f'--extra_columns={",".join(assignments)}: expected NAME=VALUE, with a'
      f' NAME that the network takes: {sorted(inputs)}.'
    )
  for name in sorted(inputs.keys() - values.keys()):
    logging.warning(
      'Assuming %s=%g for all images; give another value with --extra_columns.',
      name,
      inputs[name].default,
    )

  def change(column):
    text = values.get(column.name)
    return column if text is None else column.with_default(text)

  return [
    dataclasses.replace(
      each, extra_columns=tuple(map(change, each.extra_columns))
    )
    for each in predictors
  ]


def with_text_reader(
  predictors: Sequence[predictor_lib.Predictor],
  *,
  use_text: bool | None = None,
  text_reader: str = '',
) -> list[predictor_lib.Predictor]:
  """Chooses whether networks with a text branch read the text on images.

  Args:
    predictors: of `restore`.
    use_text: None: if a reader is installed; a warning is logged otherwise.
    text_reader: 'module:attribute' of another reader, '' for RapidOCR.

  Raises:
    InputError: a reader is missing, or a network takes text alone.
  """
  is_read = use_text
  if use_text is None and any(each.text for each in predictors):
    is_read = bool(text_reader) or poster_text.is_installed()
    if not is_read:
      logging.warning(
        'The text on posters is not read, since the package rapidocr is not'
        ' installed: predictions are of the image alone, and less accurate.'
        " Install it with `pip install -e '.[ocr]'`, or pass --no_text."
      )
  if is_read:
    return [dataclasses.replace(e, text_reader=text_reader) for e in predictors]
  return [
    # A network of text alone stays: its evaluation needs no reader.
    each if use_text is None and each.is_text_alone else each.without_text()
    for each in predictors
  ]
