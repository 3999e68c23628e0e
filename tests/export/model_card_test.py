"""The model card: what hubs read, and what people do."""

import pytest

huggingface_hub = pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import model_card  # noqa: E402

HOSTILE = ('<script>x</script>', '[a](b) | `c`', '\x1b[2J\n# d')


def make_facts(**changes):
  described = {
    'step': 12,
    'dataset_fingerprint': 'abc',
    'network': {
      'name': 'tiny',
      'trained_in': 'float32',
      'published_weights': '',
      'is_from_another_run': False,
    },
    'genres': list(HOSTILE),
    'image_height': 32,
    'image_width': 24,
    'versions': {'jax': '1'},
  }
  described['network'] |= changes.pop('network', {})
  entry = {'average_precision': 0.25, 'roc_auc': None, 'support': 4}
  facts = {
    'form': 'onnx',
    'description': described,
    'num_params': 1234,
    'scores': {
      'split': 'test',
      'num_examples': 7,
      'metrics': {
        'hit_at_3': {
          'value': 0.5,
          'low': 0.25,
          'high': 0.75,
          'constant_baseline': 0.1,
        },
        'mean_roc_auc': dict.fromkeys(
          ('value', 'low', 'high', 'constant_baseline')
        ),
      },
      'expected_calibration_error': {'network': 0.25, 'calibrated': 0.125},
      'genres': {
        HOSTILE[0]: entry | {'num_in_top3': 7, 'num_predicted': 0},
        HOSTILE[1]: entry | {'num_in_top3': 0, 'num_predicted': 3},
        HOSTILE[2]: entry | {'num_in_top3': 0, 'num_predicted': 1},
      },
    },
    'agreement': {
      'posters': 'posters of test',
      'num_posters': 7,
      'largest_difference': 2e-7,
      'same_top_three': 7,
    },
    'versions': {'platforms': ['cpu', 'tpu']},
  }
  return model_card.Facts(**(facts | changes))


def test_a_hub_reads_task_and_metrics(tmp_path):
  path = tmp_path / 'README.md'
  path.write_text(model_card.make(make_facts()), encoding='utf-8')
  data = huggingface_hub.ModelCard.load(path).data
  assert data.pipeline_tag == 'image-classification'
  assert data.library_name == 'onnx'
  # What is not defined is left out.
  (result,) = data.eval_results
  assert result.metric_type == 'hit_at_3'
  assert result.metric_value == 0.5
  assert result.dataset_split == 'test'
  assert result.metric_args == {
    'interval_95': [0.25, 0.75],
    'constant_baseline': 0.1,
  }


def test_names_of_genres_are_text_and_nothing_else():
  card = model_card.make(make_facts())
  for name in HOSTILE:
    assert name not in card
  assert r'\<script\>x\</script\>' in card
  assert '\x1b' not in card
  assert '\n# d' not in card


def test_limits_are_given_in_numbers():
  card = model_card.make(make_facts())
  assert (
    'Never among the top-3 predictions, of the 7 posters of test: 2 of 3'
    in (card)
  )
  assert 'Never predicted at the thresholds of the genres, of the 7' in card
  assert ': 1 of 3 genres (\\<script' in card
  assert 'Expected calibration error: 0.1250 (0.2500 before' in card
  assert '| hit at 3 | 0.500 | 0.250 to 0.750 | 0.100 |' in card


def test_without_scores_it_says_so():
  card = model_card.make(make_facts(scores=None))
  assert 'was not evaluated' in card
  assert 'eval_results' not in card and 'model-index' not in card


@pytest.mark.parametrize(
  'network, license, words',
  [
    ({'published_weights': 'efficientnet_lite0'}, 'apache-2.0', 'Apache'),
    ({'is_from_another_run': True}, None, 'If that began with'),
    ({'published_weights': 'timm:a'}, None, 'derived from `timm:a`'),
    ({}, None, 'has not said under which licence'),
  ],
)
def test_the_licence_is_that_of_what_it_was_made_from(
  tmp_path, network, license, words
):
  path = tmp_path / 'README.md'
  path.write_text(model_card.make(make_facts(network=network)))
  card = huggingface_hub.ModelCard.load(path)
  assert card.data.license == license
  assert words in card.text
  assert 'posters that it learned from are no part' in card.text
