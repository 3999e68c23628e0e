"""The model card of an export: Markdown with metadata for model hubs."""

from collections.abc import Mapping
import importlib.resources
from typing import Any

import huggingface_hub
import jinja2
import markupsafe

from genre_flax.runtime import text

FILE_NAME = 'README.md'
_TEMPLATE = 'model_card.md'
_TASK = 'image-classification'
# Libraries that load a format, as hubs name them.
_LIBRARIES = {
  'onnx': 'onnx',
  'stablehlo': 'jax',
  'timm': 'timm',
  'release': 'genre_flax',
}


def make(
  config: Mapping[str, Any],
  *,
  num_params: int,
  metrics: Mapping[str, Any] | None,
) -> str:
  """The content of README.md."""
  is_lite = config['network']['pretrained'].startswith('efficientnet_lite')
  metadata = huggingface_hub.ModelCardData(
    model_name=text.printable(f'{config["network"]["name"]} on film posters'),
    pipeline_tag=_TASK,
    library_name=_LIBRARIES[config['format']],
    license='apache-2.0' if is_lite else None,
    tags=[config['format'], 'film-posters', 'multi-label-classification'],
    metrics=list(metrics['metrics']) if metrics else None,
    # Those of a network with text are not those of its image branch alone.
    eval_results=(
      _eval_results(config, metrics)
      if metrics and not config.get('is_image_alone')
      else None
    ),
  )
  body = _template().render(
    config, num_params=num_params, metrics=metrics, is_lite=is_lite
  )
  return f'---\n{metadata.to_yaml()}\n---\n\n{body}'


def _eval_results(config, metrics):
  """The metrics as hubs read them; None if none is defined."""
  fingerprint = text.printable(config['dataset_fingerprint'])
  return [
    huggingface_hub.EvalResult(
      task_type=_TASK,
      task_name='Genres of a film from its poster',
      dataset_type='film-posters',
      dataset_name=f'film posters, fingerprint {fingerprint}',
      dataset_split=text.printable(metrics['split']),
      metric_type=text.printable(name),
      metric_name=text.printable(_metric_name(name)),
      metric_value=round(entry['value'], 4),
      metric_args={
        'interval_95': [_rounded(entry['low']), _rounded(entry['high'])],
        'constant_baseline': _rounded(entry['constant_baseline']),
      },
    )
    for name, entry in metrics['metrics'].items()
    if entry['value'] is not None
  ] or None


def _rounded(value):
  return None if value is None else round(value, 4)


def _metric_name(key):
  words = key.replace('_', ' ')
  return words.replace('roc auc', 'ROC-AUC').replace(' f1', ' F1')


def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    finalize=_escape,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {
    'code': _code,
    'metric_name': _metric_name,
    'number': lambda value: '–' if value is None else f'{value:.3f}',
  }
  templates = importlib.resources.files(__package__) / 'templates'
  content = (templates / _TEMPLATE).read_text('utf-8')
  return environment.from_string(content)


def _escape(value):
  """Escapes the value of each expression in the template, except code."""
  if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
    return text.for_markdown(value)
  return value


def _code(value: str) -> markupsafe.Markup:
  """Text between backticks."""
  return markupsafe.Markup(f'`{text.printable(value).replace("`", chr(39))}`')
