"""The same network in Keras on TensorFlow, as its users write it."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import child
from benchmarks import measure


def make_poster_cnn(spec: child.Spec) -> keras.Model:
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
  # Keras decides about XLA, which on CPU is several times slower than without.
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


def measure_step(spec: child.Spec) -> dict[str, Any]:
  """Training and inference on float32 images that are there already."""
  model = _make_compiled(spec)
  images = tf.random.uniform((spec.batch_size, *spec.image_shape, 3))
  labels = tf.cast(
    tf.random.uniform((spec.batch_size, spec.num_genres)) < 0.1, tf.float32
  )
  timing = {'batch_size': spec.batch_size, 'num_steps': spec.num_steps}
  # Both calls return numbers on the host: there is nothing to wait for.
  training = measure.time_steps(
    lambda: model.train_on_batch(images, labels), lambda _: None, **timing
  )
  inference = measure.time_steps(
    lambda: model.predict_on_batch(images), lambda _: None, **timing
  )
  return {
    'num_parameters': model.count_params(),
    'training_images_per_second': training['images_per_second'],
    'inference_images_per_second': inference['images_per_second'],
    'compile_seconds': training['compile_seconds'],
  }


def _platform():
  return 'gpu' if tf.config.list_physical_devices('GPU') else 'cpu'


def _read_with_tf_data(spec, key, *, num_epochs=1):
  """Batches of float32 images, in the form that TensorFlow's guide gives."""
  paths, labels = spec.read_split(key)

  def decode(path, labels):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    # Without it fine print turns into noise; Keras's own readers do without.
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


def measure_input(spec: child.Spec) -> dict[str, Any]:
  """Reading, decoding and resizing."""
  if spec.variant.startswith('tf.data'):
    return measure.time_batches(
      _read_with_tf_data(spec, 'train_split', num_epochs=measure.NUM_EPOCHS),
      batch_size=spec.batch_size,
      num_batches=max(1, spec.num_images // spec.batch_size),
    )
  paths, _ = spec.read_split('train_split')
  return measure.time_batches(
    (_load_image(spec, path) for path in paths),
    batch_size=1,
    num_batches=len(paths),
  )


def measure_epoch(spec: child.Spec) -> dict[str, Any]:
  """One epoch of `fit` from the files, with validation."""
  started = time.perf_counter()
  model = _make_compiled(spec)
  if spec.variant.startswith('tf.data'):
    model.fit(
      _read_with_tf_data(spec, 'train_split'),
      validation_data=_read_with_tf_data(spec, 'validation_split'),
      epochs=1,
      verbose=0,
    )
  else:
    _fit_arrays(spec, model)
  return {'seconds': time.perf_counter() - started}


def _fit_arrays(spec, model):
  """The original script: all posters in one array, which is then split.

  Its names are kept, and so is what it keeps in memory: the list of images, the
  array that is made of them, and the two parts of that.
  """
  paths, labels = spec.read_split('train_split')
  num_train = len(paths)
  for key in ('validation_split', 'test_split'):
    if spec.config['dataset'][key]:
      more_paths, more_labels = spec.read_split(key)
      paths, labels = paths + more_paths, np.concatenate([labels, more_labels])
  train_image = [_load_image(spec, path) for path in paths]
  X = np.array(train_image)
  order = np.arange(len(X))
  # As scikit-learn's train_test_split does: by an array of indices, a copy.
  X_train, X_test = X[order[:num_train]], X[order[num_train:]]
  model.fit(
    X_train,
    labels[:num_train],
    validation_data=(X_test, labels[num_train:]),
    batch_size=spec.batch_size,
    epochs=1,
    verbose=0,
  )


if __name__ == '__main__':
  child.answer(
    {'step': measure_step, 'input': measure_input, 'epoch': measure_epoch},
    platform=_platform,
  )
