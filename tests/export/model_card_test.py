"""The model card: metadata for hubs, and escaped text."""

import pytest

huggingface_hub = pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import model_card  # noqa: E402

HOSTILE = ('<script>x</script>', '[a](b) | `c`', '\x1b[2J\n# d')


def make_metrics():
  entry = {'average_precision': 0.25, 'roc_auc': None, 'support': 4}
  names = ('value', 'low', 'high', 'constant_baseline')
  return {
    'split': 'test',
    'num_examples': 7,
    'metrics': {
      'hit_at_3': dict(zip(names, (0.5, 0.25, 0.75, 0.1), strict=True)),
      'mean_roc_auc': dict.fromkeys(names),
    },
    'expected_calibration_error': {'network': 0.25, 'calibrated': 0.125},
    'genres': {
      HOSTILE[0]: entry | {'num_in_top3': 7, 'num_predicted': 0},
      HOSTILE[1]: entry | {'num_in_top3': 0, 'num_predicted': 3},
      HOSTILE[2]: entry | {'num_in_top3': 0, 'num_predicted': 1},
    },
  }


def make_card(*, network=None, metrics=None, **changes):
  config = {
    'format': 'onnx',
    'step': 12,
    'dataset_fingerprint': 'abc`d',
    'network': {
      'name': 'tiny',
      'training_dtype': 'float32',
      'pretrained': '',
      'has_init_from': False,
      **(network or {}),
    },
    'genres': list(HOSTILE),
    'image_height': 32,
    'image_width': 24,
    'eval_crops': [1.0, 0.9],
    'versions': {'jax': '1', 'flax': '2'},
    'verification': {
      'posters': 'posters of test',
      'num_posters': 7,
      'max_difference': 2e-7,
      'num_same_top_3': 7,
    },
  }
  return model_card.make(config | changes, num_params=1234, metrics=metrics)


def test_metadata_for_hubs():
  data = huggingface_hub.ModelCard(make_card(metrics=make_metrics())).data
  assert data.pipeline_tag == 'image-classification'
  assert data.library_name == 'onnx'
  (result,) = data.eval_results  # Without the undefined metric.
  assert result.metric_type == 'hit_at_3'
  assert result.metric_value == 0.5
  assert result.dataset_split == 'test'
  assert result.metric_args == {
    'interval_95': [0.25, 0.75],
    'constant_baseline': 0.1,
  }


def test_text_is_escaped_and_numbers_are_rounded():
  card = make_card(metrics=make_metrics())
  for hostile in (*HOSTILE, '\x1b', '\n# d'):
    assert hostile not in card
  for words in (
    r'\<script\>x\</script\>',
    "`abc'd`",
    'a `tiny` with\n1,234 parameters',
    '| hit at 3 | 0.500 | 0.250 to 0.750 | 0.100 |',
    '| mean ROC-AUC | – | – to – | – |',
    'top-3 predictions, on 7 posters of test: 2 of 3',
    'thresholds, on 7 posters of test: 1 of 3 (\\<script',
    'calibration error: 0.1250 (0.2500 before',
    '(jax 1, flax 2)',
    'by at most 2e-07',
  ):
    assert words in card


def test_metrics_are_those_with_the_text():
  changes = {'text': {'max_ngrams': 4}}, {'is_image_alone': True}
  for change in changes:
    card = make_card(metrics=make_metrics(), **change)
    assert 'split test, with the text on the posters,\nwith 95 %' in card
  assert 'predicts from the image alone, without the text branch' in card
  assert huggingface_hub.ModelCard(card).data.eval_results is None
  card = make_card(metrics=make_metrics())
  assert 'split test,\nwith 95 %' in card and 'the text' not in card


@pytest.mark.parametrize(
  'network, license, words',
  [
    ({'pretrained': 'efficientnet_lite0'}, 'apache-2.0', 'Apache'),
    ({'has_init_from': True}, None, 'If these were derived from'),
    ({'pretrained': 'timm:a'}, None, 'derived from `timm:a`'),
    ({}, None, 'has not specified a license'),
  ],
)
def test_license_is_that_of_the_pretrained_weights(network, license, words):
  card = huggingface_hub.ModelCard(make_card(network=network))
  assert card.data.license == license
  assert card.data.eval_results is None
  assert 'was not evaluated' in card.text
  assert words in card.text
  assert 'posters are not part of this model' in card.text
