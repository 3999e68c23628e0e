"""The model card: a README.md that people read, headed by what a hub reads."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import huggingface_hub

from genre_flax.runtime import text

FILE_NAME = 'README.md'
_TASK = 'image-classification'
_LITE_LICENSE = 'apache-2.0'
# Who loads a form, as hubs call them.
_LIBRARIES = {'onnx': 'onnx', 'stablehlo': 'jax', 'timm': 'timm'}

_USE_ONNX = """\
```sh
pip install onnxruntime numpy pillow
python predict.py poster.jpg
```

or from Python, in the folder of these files:

```python
import predict
model = predict.Model('.')
for genre, score in model.name_genres('poster.jpg')[:3]:
  print(genre, round(score, 2))
```
"""
_USE_STABLEHLO = """\
```python
import jax
file = open('model.stablehlo', 'rb').read()
model = jax.export.deserialize(bytearray(file))
scores, logits = model.call(images)
```

`images` are uint8 [N, {height}, {width}, 3]: posters in RGB, stretched to this
size by Pillow's
`resize(({width}, {height}), Image.Resampling.BILINEAR, reducing_gap=2.0)`, in
training one side after the other, which differs by two levels of 255 at most.
It needs `pip install jax flatbuffers`, and runs on {platforms}.
"""
_USE_TIMM = """\
```python
import timm
from PIL import Image
model = timm.create_model('local-dir:.', pretrained=True).eval()
pixels = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**pixels)
image = Image.open('poster.jpg').convert('RGB')
scores = model(transform(image)[None]).sigmoid()[0].tolist()
genres = model.pretrained_cfg['label_names']
for score, genre in sorted(zip(scores, genres), reverse=True)[:3]:
  print(genre, round(score, 2))
```

in the folder of these files; from a hub, `'hf-hub:USER/NAME'`. It needs
`pip install timm`. The head has the calibration in it: the sigmoid of a logit
is a probability. It is that of each genre for itself; what genres say of each
other is in the scores of genre_flax alone, of which the table below is. {zooms}
"""


@dataclasses.dataclass(frozen=True)
class Facts:
  """What the card tells of.

  Attributes:
    form: 'onnx', 'stablehlo' or 'timm'.
    description: of `description.describe`.
    num_params: parameters of the network.
    scores: of `split_metrics.read`; None where the checkpoint was not
      evaluated.
    agreement: of `check.compare`.
    versions: of the file's form, for 'stablehlo'.
  """

  form: str
  description: Mapping[str, Any]
  num_params: int
  scores: Mapping[str, Any] | None
  agreement: Mapping[str, Any]
  versions: Mapping[str, Any]


def make(facts: Facts) -> str:
  """The card, as the bytes of README.md have it."""
  parts = [
    _introduction(facts),
    '## Use',
    _use(facts),
    '## How well',
    *_how_well(facts),
    '## Limits and biases',
    _limits(facts),
    *_by_genre(facts),
    '## How it was made and checked',
    _checked(facts),
    '## Licence',
    _licence(facts),
  ]
  body = '\n\n'.join(part.strip('\n') for part in parts)
  card = huggingface_hub.ModelCard(
    f'---\n{_data(facts).to_yaml()}\n---\n\n{body}\n'
  )
  return str(card)


def _data(facts: Facts) -> huggingface_hub.ModelCardData:
  """What hubs read."""
  network = facts.description['network']
  return huggingface_hub.ModelCardData(
    model_name=text.printable(f'{network["name"]} on film posters'),
    pipeline_tag=_TASK,
    library_name=_LIBRARIES[facts.form],
    license=_LITE_LICENSE if _is_lite(network) else None,
    tags=[facts.form, 'film-posters', 'multi-label-classification'],
    metrics=list(facts.scores['metrics']) if facts.scores else None,
    eval_results=_eval_results(facts),
  )


def _eval_results(facts):
  if not facts.scores:
    return None
  fingerprint = text.printable(facts.description['dataset_fingerprint'])
  return [
    huggingface_hub.EvalResult(
      task_type=_TASK,
      task_name='Genres of a film from its poster',
      dataset_type='film-posters',
      dataset_name=f'film posters, fingerprint {fingerprint}',
      dataset_split=text.printable(facts.scores['split']),
      metric_type=text.printable(name),
      metric_name=text.printable(_readable(name)),
      metric_value=round(entry['value'], 4),
      metric_args={
        'interval_95': [_rounded(entry['low']), _rounded(entry['high'])],
        'constant_baseline': _rounded(entry['constant_baseline']),
      },
    )
    for name, entry in facts.scores['metrics'].items()
    if entry['value'] is not None
  ] or None


def _readable(name):
  words = name.replace('_', ' ')
  return words.replace('roc auc', 'ROC-AUC').replace(' f1', ' F1')


def _rounded(value):
  return None if value is None else round(value, 4)


def _introduction(facts):
  described = facts.description
  network = described['network']
  return f"""\
# {_shown(network['name'])}: the genres of a film from its poster

Takes a film poster, and gives the probability of each of
{len(described['genres'])} genres; a film may have several. The network is
`{_code(network['name'])}` with {facts.num_params:,} parameters, at step
{described['step']:,} of its training. Posters are stretched to
{described['image_height']} x {described['image_width']} pixels, height x width.
"""


def _use(facts):
  if facts.form == 'onnx':
    return _USE_ONNX
  if facts.form == 'timm':
    return _USE_TIMM.format(zooms=_zooms(facts.description['zooms']))
  return _USE_STABLEHLO.format(
    height=facts.description['image_height'],
    width=facts.description['image_width'],
    platforms=', '.join(facts.versions['platforms']),
  )


def _zooms(shares):
  if len(shares) == 1:
    return ''
  listed = ', '.join(f'{share:g}' for share in shares)
  return (
    'The figures below are of the mean of the logits of several looks, of which'
    f' each sees the middle of the poster, {listed} of each side.'
  )


def _how_well(facts):
  if not facts.scores:
    return ['This checkpoint was not evaluated when the card was written.']
  found = facts.scores
  rows = [
    [
      _shown(_readable(name)),
      _number(entry['value']),
      f'{_number(entry["low"])} to {_number(entry["high"])}',
      _number(entry['constant_baseline']),
    ]
    for name, entry in found['metrics'].items()
  ]
  return [
    f'On {found["num_examples"]:,} posters of the split'
    f' {_shown(found["split"])}, with 95 % bootstrap intervals:',
    _table(['metric', 'value', '95 % interval', 'baseline'], rows),
    'The baseline is the constant baseline, which is the same for every poster.'
    ' Fitted metrics are of genres predicted at an operating point that was'
    ' fitted to the validation split, the others of genres predicted at 0.5.',
  ]


def _limits(facts):
  lines = [
    '- A poster says little of a film. The scores are probabilities of what'
    ' such a poster *usually* stands for, and no more.',
    '- Genres, and how often each occurs, are those of the films that it was'
    ' trained on; elsewhere the scores are off. Rare genres are named rarely.',
    '- It takes any picture for a poster: of a photograph of a cat it names'
    ' genres too.',
  ]
  if not facts.scores:
    return '\n'.join(lines)
  genres, count = facts.scores['genres'], facts.scores['num_examples']
  of_split = f'of the {count:,} posters of {_shown(facts.scores["split"])}'
  for key, words in (
    ('num_in_top3', 'Never among the top-3 predictions'),
    ('num_predicted', 'Never predicted at the thresholds of the genres'),
  ):
    if all(entry[key] is not None for entry in genres.values()):
      never = [name for name, entry in genres.items() if not entry[key]]
      named = ', '.join(map(_shown, never)) or 'none'
      lines.append(
        f'- {words}, {of_split}: {len(never)} of {len(genres)} genres'
        f' ({named}).'
      )
  error = facts.scores['expected_calibration_error']
  lines.append(
    '- Expected calibration error: '
    f'{error["calibrated"]:.4f} ({error["network"]:.4f} before calibration).'
  )
  return '\n'.join(lines)


def _by_genre(facts):
  if not facts.scores:
    return []
  genres = facts.scores['genres'].items()
  rows = [
    [
      _shown(name),
      f'{entry["support"]:,}',
      _number(entry['average_precision']),
      _number(entry['roc_auc']),
      f'{entry["num_in_top3"]:,}',
    ]
    for name, entry in sorted(genres, key=lambda item: -item[1]['support'])
  ]
  header = ['genre', 'posters', 'average precision', 'ROC-AUC', 'top-3']
  return [
    _table(header, rows),
    'Top-3: the number of posters with the genre in their top-3 predictions.',
  ]


def _checked(facts):
  described, agreement = facts.description, facts.agreement
  versions = ', '.join(
    f'{name} {version}' for name, version in described['versions'].items()
  )
  lines = [
    f'By genre_flax ({versions}), from a data set with the fingerprint'
    f' `{_code(described["dataset_fingerprint"])}`.'
    f' On {agreement["num_posters"]} {_shown(agreement["posters"])} its scores'
    f" differ from those of the training's program by at most"
    f' {agreement["largest_difference"]:.1g};'
    f' {agreement["same_top_three"]} have the same three likeliest genres.'
  ]
  if 'largest_difference_as_trained' in agreement:
    lines.append(
      f'It was trained in {described["network"]["trained_in"]}, and computes in'
      ' float32, which every machine has; that changes scores by at most'
      f' {agreement["largest_difference_as_trained"]:.2g}.'
    )
  lines.append(
    '`model.safetensors` has the numbers by themselves, and `config.json` what'
    ' is to be known of them: genres, sizes, thresholds, calibration.'
  )
  return '\n\n'.join(lines)


def _is_lite(network):
  return network['published_weights'].startswith('efficientnet_lite')


def _licence(facts):
  network = facts.description['network']
  lines = ['The posters that it learned from are no part of this.']
  if _is_lite(network):
    lines.append(
      'The weights are derived from those of EfficientNet-Lite'
      f' (`{_code(network["published_weights"])}`), which are under the Apache'
      ' License 2.0.'
    )
    return ' '.join(lines)
  if network['published_weights']:
    lines.append(
      f'The weights are derived from `{_code(network["published_weights"])}`,'
      ' whose licence holds for them too.'
    )
  elif network['is_from_another_run']:
    lines.append(
      'The training began with the weights of another one. If that began with'
      ' published ones, such as those of EfficientNet-Lite under the Apache'
      ' License 2.0, their licence holds for these too.'
    )
  lines.append(
    'Whoever trained it has not said under which licence it may be used.'
  )
  return ' '.join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table of Markdown, first column left, the others right."""
  lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _number(value):
  return '–' if value is None else f'{value:.3f}'


_shown = text.for_markdown


def _code(value: str) -> str:
  """A text within backticks, which nothing in it ends."""
  return text.printable(value).replace('`', "'")
