"""Tests of genre_flax/training/train.py."""

from concurrent import futures
import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.datasets.posters import build
from genre_flax.evaluation import evaluator
from genre_flax.inference import continuous_evaluation
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import resume
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers

# Every source of randomness and state.
RANDOM = {
  'ema_decay': 0.9,
  'model.tiny.dropout_rate': 0.5,
  'augment.horizontal_flip': 0.5,
  'optimizer.warmup_epochs': 0.5,
  'micro_batch_size': 2,
}


@pytest.fixture
def config(data_dir):
  return helpers.tiny_config(data_dir)


def lines_of(workdir, split='train'):
  return [
    line for line in metric_writer.read(workdir) if line['split'] == split
  ]


def stop_after(monkeypatch, step):
  """Simulates a signal after `step`."""
  monkeypatch.setattr(
    train.preemption.StopNotice, 'is_set', lambda self, now: now == step
  )


def test_training_reduces_the_loss_and_writes_its_files(config, tmp_path):
  config.num_train_steps = 30
  config.head_bias_from_prior = False
  outcome = train.train(config, tmp_path)
  assert outcome == train.Outcome(step=30, exit_status=0)
  losses = [line['loss'] for line in lines_of(tmp_path)]
  assert len(losses) == 15
  assert losses[-1] < 0.8 * losses[0]
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['model']['name'] == 'tiny'
  validation = lines_of(tmp_path, 'validation')
  assert [line['step'] for line in validation] == list(range(3, 31, 3))
  assert 'mean_average_precision' in validation[0]


def test_training_in_a_thread_returns_the_metrics(config, tmp_path):
  with futures.ThreadPoolExecutor() as pool:
    outcome = pool.submit(train.train, config, tmp_path).result()
  validation = lines_of(tmp_path, 'validation')
  values = [line['mean_average_precision'] for line in validation]
  assert outcome.metrics['mean_average_precision'] == values[-1]
  # Also where nothing is left to train.
  assert train.train(config, tmp_path).metrics == outcome.metrics


def test_interrupted_at_its_last_step(config, tmp_path, monkeypatch):
  config.num_train_steps = 3
  with monkeypatch.context() as patched:
    stop_after(patched, 3)
    outcome = train.train(config, tmp_path)
  assert outcome == train.Outcome(step=3, exit_status=143)
  before = helpers.final_state(config, tmp_path)
  outcome = train.train(config, tmp_path)
  assert outcome == train.Outcome(step=3, exit_status=0)
  helpers.assert_trees_equal(helpers.final_state(config, tmp_path), before)


@pytest.mark.slow
@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('vit', {'model.vit.patch': 8, 'model.vit.stochastic_depth_rate': 0.1}),
    ('convnext', {'model.convnext.layer_scale': 0.1}),
  ],
)
def test_vit_and_convnext_learn_from_scratch(
  data_dir, dataset, tmp_path, name, changes
):
  config = helpers.tiny_config(
    data_dir,
    **changes,
    **{
      'model.name': name,
      'image_height': 48,
      'image_width': 32,
      'num_train_steps': 100,
      'eval_every_epochs': 100.0,
      'optimizer.layer_decay': 0.9,
    },
  )
  train.train(config, tmp_path)
  (line,) = lines_of(tmp_path, 'validation')
  # Constant scores have the label prior as average precision.
  assert line['mean_average_precision'] > 2 * dataset.label_prior.mean()


@pytest.mark.parametrize('stop', [3, 4])
def test_resumed_run_equals_an_uninterrupted_one(
  data_dir, tmp_path, monkeypatch, stop
):
  config = helpers.tiny_config(data_dir, **RANDOM)
  train.train(config, tmp_path / 'whole')
  with monkeypatch.context() as patch:
    stop_after(patch, stop)
    outcome = train.train(config, tmp_path / 'parts')
  assert outcome == train.Outcome(step=stop, exit_status=128 + signal.SIGTERM)
  assert train.train(config, tmp_path / 'parts').step == 6
  helpers.assert_trees_equal(
    helpers.final_state(config, tmp_path / 'parts'),
    helpers.final_state(config, tmp_path / 'whole'),
  )
  # So are the log lines, apart from times.
  names = 'step', 'loss', 'learning_rate', 'gradient_norm'
  parts, whole = (
    [[line[name] for name in names] for line in lines_of(tmp_path / folder)]
    for folder in ('parts', 'whole')
  )
  assert parts == whole
  assert [line[0] for line in whole] == [2, 4, 6]


@pytest.mark.slow
def test_extended_run_equals_a_long_one(data_dir, tmp_path):
  changes = {**RANDOM, 'optimizer.schedule': 'constant'}
  config = helpers.tiny_config(data_dir, **changes)
  train.train(config, tmp_path / 'whole')
  half = helpers.tiny_config(data_dir, num_train_steps=3, **changes)
  train.train(half, tmp_path / 'parts')
  train.train(config, tmp_path / 'parts')
  helpers.assert_trees_equal(
    helpers.final_state(config, tmp_path / 'parts'),
    helpers.final_state(config, tmp_path / 'whole'),
  )


@pytest.mark.slow
def test_other_seed_gives_another_state(data_dir, tmp_path):
  # The equalities above can fail: another seed gives another state.
  config = helpers.tiny_config(data_dir)
  train.train(config, tmp_path / 'a')
  other = helpers.tiny_config(data_dir, seed=1)
  train.train(other, tmp_path / 'b')
  a, b = (
    helpers.final_state(config, tmp_path / name).params['head']['kernel']
    for name in 'ab'
  )
  assert not np.array_equal(a, b)


def test_damaged_latest_checkpoint_is_recomputed(config, tmp_path, caplog):
  config.keep_best = 9
  train.train(config, tmp_path)
  expected = helpers.final_state(config, tmp_path)
  folder = tmp_path / 'checkpoints' / '6' / 'model'
  for path in folder.rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  assert train.train(config, tmp_path).step == 6
  assert 'Checkpoint 6 cannot be read' in caplog.text
  helpers.assert_trees_equal(helpers.final_state(config, tmp_path), expected)
  # Lines after the restored checkpoint are logged once.
  assert [line['step'] for line in lines_of(tmp_path)].count(6) == 1


def test_other_config_or_dataset_is_refused(config, data_dir, tmp_path):
  train.train(config, tmp_path / 'run')
  other = helpers.tiny_config(data_dir, ema_decay=0.5)
  with pytest.raises(errors.InputError, match='config.ema_decay: 0.0.* 0.5'):
    train.train(other, tmp_path / 'run')
  build.build_synthetic(data_dir=tmp_path / 'data', num_posters=121)
  config.dataset.data_dir = str(tmp_path / 'data')
  with pytest.raises(errors.InputError, match='another dataset: fingerprint'):
    train.train(config, tmp_path / 'run')


def test_non_finite_validation_logits_end_the_training(
  config, tmp_path, monkeypatch
):
  evaluate = evaluator.evaluate_split

  def failing(*args):
    found = evaluate(*args)
    return dataclasses.replace(found, logits=found.logits * np.nan)

  monkeypatch.setattr(evaluator, 'evaluate_split', failing)
  with pytest.raises(errors.DivergedError, match='the loss of validation is n'):
    train.train(config, tmp_path)


def test_non_finite_loss_raises_and_keeps_checkpoints(
  config, tmp_path, monkeypatch
):
  config.keep_best = 9
  train.train(config, tmp_path)
  config.num_train_steps = 12
  config.optimizer.schedule = 'constant'
  monkeypatch.setattr(resume, 'check_resumable', lambda *_: None)
  make = setup_lib.make_train_step

  def make_failing(*args):
    step = make(*args)

    def failing(state, batch):
      with jax.transfer_guard('allow'):
        next_step = int(state.step) + 1
        state, values = step(state, batch)
        if next_step == 8:
          values = {**values, 'loss': values['loss'] * np.nan}
      return state, values

    return failing

  monkeypatch.setattr(setup_lib, 'make_train_step', make_failing)
  message = (
    r'(?s)Step 8: loss is nan\. .*split and film: \d+.*last checkpoint: 6'
  )
  with pytest.raises(errors.DivergedError, match=message):
    train.train(config, tmp_path)
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.steps()[-1] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
  'option',
  [
    'jax_debug_nans',
    # Compiles every operation.
    pytest.param('jax_disable_jit', marks=pytest.mark.slow),
  ],
)
def test_training_while_jax_debugs(config, tmp_path, option, request):
  config.model.tiny.features = (4,)
  config.num_train_steps = 2
  train.train(config, tmp_path / 'expected')
  request.addfinalizer(lambda: jax.config.update(option, False))
  jax.config.update(option, True)
  train.train(config, tmp_path / option)
  expected, actual = (
    lines_of(tmp_path / name)[-1]['loss'] for name in ('expected', option)
  )
  assert actual == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('stop', [None, 4, 9])
def test_early_stopping_is_the_same_in_a_resumed_run(
  config, tmp_path, monkeypatch, stop
):
  # The parameters do not change, so that the first evaluation, after step 3, is
  # the best. An epoch has 5.8 steps.
  config.optimizer.learning_rate = 1e-30
  config.num_train_steps = 100
  config.early_stopping_epochs = 1.0
  if stop is not None:
    with monkeypatch.context() as patch:
      stop_after(patch, stop)
      assert train.train(config, tmp_path).step == stop
  assert train.train(config, tmp_path).step == 9
  assert train.train(config, tmp_path).step == 9
  steps = [line['step'] for line in lines_of(tmp_path, 'validation')]
  assert steps == [3, 6, 9]
  # A continuous evaluation ends.
  assert continuous_evaluation.read_steps(tmp_path)[1] == 9


@pytest.mark.slow
def test_the_best_checkpoint_is_by_the_best_metric(config, tmp_path):
  config.num_train_steps = 15
  config.best_metric = 'cross_entropy'
  config.optimizer.learning_rate = 0.1
  train.train(config, tmp_path)
  values = {
    line['step']: line['cross_entropy']
    for line in lines_of(tmp_path, 'validation')
  }
  with checkpointer_lib.Checkpointer(tmp_path, read_only=True) as checkpointer:
    assert checkpointer.find_step('best') == min(values, key=values.get)


def test_sigterm_saves_a_checkpoint(config, tmp_path, caplog):
  config.num_train_steps = 1000
  config.eval_every_epochs = 1000.0
  make = setup_lib.make_train_step
  handler = signal.getsignal(signal.SIGTERM)
  calls = []

  def make_interrupted(*args):
    step = make(*args)

    def interrupted(state, batch):
      calls.append(1)
      if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGTERM)
      return step(state, batch)

    return interrupted

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setup_lib, 'make_train_step', make_interrupted)
    outcome = train.train(config, tmp_path)
  assert outcome == train.Outcome(step=4, exit_status=143)
  assert 'Run the same command to resume' in caplog.text
  with checkpointer_lib.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.steps() == [4]
  assert signal.getsignal(signal.SIGTERM) is handler


def test_checkpoints_between_evaluations(config, tmp_path, monkeypatch, caplog):
  config.eval_every_epochs = 1000.0
  config.checkpoint_every_steps = 2
  stop_after(monkeypatch, 5)
  saved = []
  save = checkpointer_lib.Checkpointer.save

  def spy(self, step, items, **kwargs):
    saved.append(step)
    return save(self, step, items, **kwargs)

  monkeypatch.setattr(checkpointer_lib.Checkpointer, 'save', spy)
  train.train(config, tmp_path)
  assert saved == [2, 4, 5]
  assert 'metrics' not in caplog.text  # Orbax warns where there are none.


@pytest.mark.parametrize('validation_split', ['validation', ''])
def test_few_posters(config, tmp_path, caplog, validation_split):
  config.dataset.train_share = 0.1
  config.dataset.validation_split = validation_split
  outcome = train.train(config, tmp_path)
  assert outcome == train.Outcome(step=6, exit_status=0)
  assert bool(outcome.metrics) == bool(validation_split)
  assert 'config.batch_size=16 is lowered to 8' in caplog.text
  assert ('scores are not calibrated' in caplog.text) == (not validation_split)

  predictor = predictor_lib.restore(tmp_path)
  dataset = predictor.open_dataset(config.dataset.data_dir)
  scores = predictor.predict(
    np.random.default_rng(0).integers(0, 256, (4, 32, 24, 3), np.uint8),
    batch_size=8,
  )
  unseen = [
    dataset.genres.index(genre)
    for genre in dataset.genres_without_positives('train')
  ]
  assert unseen
  prior = 0.5 / (dataset.num_examples('train') + 1)
  np.testing.assert_allclose(scores[:, unseen], prior)
  assert 'their scores are their prior' in caplog.text


def test_missing_validation_split_is_refused_with_remedies(config, tmp_path):
  config.dataset.validation_split = 'dev'
  with pytest.raises(errors.InputError) as e:
    setup_lib.set_up(config, tmp_path)
  for remedy in ('--splits=', 'fold=1/5', "validation_split, '' for none"):
    assert remedy in str(e.value)


@pytest.mark.parametrize('split', ['train_split', 'validation_split'])
def test_missing_split_is_refused_at_set_up(config, tmp_path, split):
  config.dataset[split] = 'dev'
  with pytest.raises(errors.InputError, match="no split 'dev'.*validation"):
    train.train(config, tmp_path)


def test_synthetic_dataset_is_written_once(config, tmp_path, caplog):
  config.dataset.data_dir = ''
  config.dataset.synthetic_posters = 80
  caplog.set_level('INFO')
  for _ in range(2):
    setup_lib.set_up(config, tmp_path)
  assert caplog.text.count('Generating 80 synthetic posters') == 1
