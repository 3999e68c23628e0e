"""Measurements of Keras on TensorFlow."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measurement


def make_poster_cnn(spec: measurement.Spec) -> keras.Model:
  """The original poster classifier; see genre_flax/models/poster_cnn.py."""
  options, layers = spec.options, [keras.Input((*spec.image_shape, 3))]
  for features in options['features']:
    layers += [
      keras.layers.Conv2D(features, options['kernel_size'], activation='relu'),
      keras.layers.MaxPooling2D(2),
      keras.layers.Dropout(options['conv_dropout_rate']),
    ]
  layers.append(keras.layers.Flatten())
  for features in options['dense_features']:
    layers += [
      keras.layers.Dense(features, activation='relu'),
      keras.layers.Dropout(options['dense_dropout_rate']),
    ]
  layers.append(keras.layers.Dense(spec.num_genres, activation='sigmoid'))
  return keras.Sequential(layers)


def _make_compiled(spec):
  model = make_poster_cnn(spec)
  spec.check_parameters(model.count_params())
  optimizer = spec.config['optimizer']
  # Keras's default for jit_compile: XLA is several times slower here on CPU.
  model.compile(
    optimizer=keras.optimizers.Adam(
      optimizer['learning_rate'],
      beta_1=optimizer['beta1'],
      beta_2=optimizer['beta2'],
      epsilon=optimizer['epsilon'],
    ),
    loss='binary_crossentropy',
  )
  return model


def measure_step(spec: measurement.Spec) -> dict[str, Any]:
  """Training and inference on float32 images in memory."""
  model = _make_compiled(spec)
  images = tf.random.uniform((spec.batch_size, *spec.image_shape, 3))
  labels = tf.cast(
    tf.random.uniform((spec.batch_size, spec.num_genres)) < 0.1, tf.float32
  )
  return measurement.time_training_and_inference(
    spec,
    train=lambda: model.train_on_batch(images, labels),
    infer=lambda: model.predict_on_batch(images),
    wait=lambda _: None,  # Both calls return numbers on the host.
  )


def _platform():
  return 'gpu' if tf.config.list_physical_devices('GPU') else 'cpu'


def _make_tf_data(spec, key, *, num_epochs=1):
  """Batches of float32 images, as in TensorFlow's guide to tf.data."""
  paths, labels = spec.read_split(key)

  def decode(path, labels):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    # Keras's own readers do not antialias, which turns fine print into noise.
    antialias = 'antialias' in spec.variant
    image = tf.image.resize(image, spec.image_shape, antialias=antialias)
    return image / 255, labels

  return (
    tf.data.Dataset.from_tensor_slices((paths, labels))
    .shuffle(len(paths))
    .repeat(num_epochs)
    .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    .batch(spec.batch_size)
    .prefetch(tf.data.AUTOTUNE)
  )


def _load_image(spec, path):
  image = keras.utils.load_img(path, target_size=spec.image_shape)
  return keras.utils.img_to_array(image) / 255


def measure_input(spec: measurement.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing."""
  return measurement.time_batches(
    _make_tf_data(spec, 'train_split', num_epochs=measurement.NUM_EPOCHS),
    spec,
  )


def measure_epoch(spec: measurement.Spec) -> dict[str, Any]:
  """One epoch of `fit` from the files, with validation."""
  started = time.perf_counter()
  model = _make_compiled(spec)
  if spec.variant == 'arrays':
    _fit_arrays(spec, model)
  else:
    model.fit(
      _make_tf_data(spec, 'train_split'),
      validation_data=_make_tf_data(spec, 'validation_split'),
      epochs=1,
      verbose=0,
    )
  return {'seconds': time.perf_counter() - started}


def _fit_arrays(spec, model):
  """The original script, which splits one array of all posters.

  Its memory is part of the measurement: the list of images, the array of all
  images, and the copies for the two parts are alive at the same time.
  """
  paths, labels = spec.read_split('train_split')
  num_train = len(paths)
  for key in ('validation_split', 'test_split'):
    if spec.config['dataset'][key]:
      more_paths, more_labels = spec.read_split(key)
      paths, labels = paths + more_paths, np.concatenate([labels, more_labels])
  images = [_load_image(spec, path) for path in paths]
  array = np.array(images)
  order = np.arange(len(array))
  # Indexing with an array copies, as in scikit-learn's train_test_split.
  train, test = array[order[:num_train]], array[order[num_train:]]
  model.fit(
    train,
    labels[:num_train],
    validation_data=(test, labels[num_train:]),
    batch_size=spec.batch_size,
    epochs=1,
    verbose=0,
  )


if __name__ == '__main__':
  measurement.respond(
    {'step': measure_step, 'input': measure_input, 'epoch': measure_epoch},
    platform=_platform,
  )
