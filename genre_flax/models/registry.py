"""The networks, by name.

A network is a Flax module that maps normalized images [B, H, W, 3] and `train`
to logits, float32 [B, num_genres]. Further parameters are extra columns of the
dataset, arrays [B], and the features of the text, `text_ids` and `text_weights`
[B, K]. Its attributes:

* `mixes_examples`: whether the logits of an example depend on other examples in
  training, as with BatchNorm;
* `layer_order`: optional, see `optimizer.layers_below_head`;
* `rng_streams`: names of the random keys that it draws from in training; by
  default ('dropout',);
* `published_network`: of a custom network, the name of the built-in one whose
  published weights, as the options of that name describe them, fit its
  parameters outside of the head.

The last layer is named 'head'. The last feature map is marked by
`layers.feature_map`, for Grad-CAM. Networks with a backbone also have methods
`embed` and `classify`, which make up `__call__`. A custom network, named
'module:attribute', needs only `mixes_examples` and the head.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import classifier
from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import params as params_lib
from genre_flax.models import poster_cnn
from genre_flax.models import resnet
from genre_flax.models import text_branch
from genre_flax.models import tiny
from genre_flax.models import vit
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import target

MODELS: dict[str, Callable[..., nn.Module]] = {
  'convnext': functools.partial(classifier.create, convnext.ConvNeXt),
  'efficientnet_lite': functools.partial(
    classifier.create, efficientnet_lite.EfficientNetLite, dropout_rate=0.2
  ),
  'poster_cnn': poster_cnn.PosterCNN,
  'resnet': resnet.ResNet,
  'text': text_branch.TextNetwork,
  'tiny': tiny.Tiny,
  'vit': functools.partial(classifier.create, vit.ViT),
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def create_from_config(
  config: Mapping[str, Any], *, num_genres: int, axis_name: str | None = None
) -> nn.Module:
  """Calls `create_model` with the values of `config.model`."""
  name = config['name']
  options = config['options' if custom.is_custom(name) else name]
  if name == 'text':
    options = _branch_options(config)
  model = create_model(
    name,
    num_genres=num_genres,
    dtype=config['dtype'],
    options=options,
    axis_name=axis_name,
  )
  if config['use_text'] and name != 'text':
    model = text_branch.ImageAndText(
      model, num_genres, **_branch_options(config)
    )
  return with_reference_ops(model) if config['reference_ops'] else model


def _branch_options(config):
  """The attributes of a text branch; the other options are of its features."""
  names = ('num_buckets', 'dropout_rate')
  return {name: config['text'][name] for name in names}


def with_reference_ops(model: nn.Module) -> nn.Module:
  """The network with the reference implementation of every operation.

  Unlike the kernels, the references have derivatives of every order, in forward
  and in reverse mode, on every platform. Variables and outputs are those of
  `model`, up to rounding.
  """
  fields = [
    field.name
    for field in dataclasses.fields(model)
    if field.init and field.name not in ('parent', 'name')
  ]
  values = {name: getattr(model, name) for name in fields}
  return _reference_class(type(model))(**values)


@functools.cache
def _reference_class(network: type[nn.Module]) -> type[nn.Module]:

  class ReferenceOps(network):
    @nn.nowrap
    def apply(self, *args, **kwargs):
      with target.traced_for(target.PORTABLE):
        return super().apply(*args, **kwargs)

  return ReferenceOps


def create_model(
  name: str,
  *,
  num_genres: int,
  dtype: str = 'float32',
  options: Mapping[str, Any] | None = None,
  axis_name: str | None = None,
) -> nn.Module:
  """Creates a network.

  Args:
    name: a key of MODELS, or 'module:attribute'.
    num_genres: number of logits.
    dtype: of the computation, a key of DTYPES.
    options: further attributes of the network.
    axis_name: mapped axis over which BatchNorm averages its statistics.

  Raises:
    InputError: a custom network cannot be created.
  """
  options = {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in (options or {}).items()
  }
  arguments = dict(
    num_genres=num_genres, dtype=DTYPES[dtype], axis_name=axis_name
  )
  if not custom.is_custom(name):
    return MODELS[name](**arguments, **options)
  model = custom.call(name, key='model.name', options=options, **arguments)
  mixes_examples = getattr(model, 'mixes_examples', None)
  if not isinstance(model, nn.Module) or not isinstance(mixes_examples, bool):
    raise errors.InputError(
      f'config.model.name={name!r} returns a {type(model).__name__}; expected a'
      ' flax.linen.Module with a bool `mixes_examples`, whether the logits of'
      ' an example depend on other examples in training, as with BatchNorm.'
    )
  return model


def check_attributes(config: Mapping[str, Any], model: nn.Module) -> None:
  """Raises InputError if a custom network lacks what its config needs."""
  needed = ['published_network'] if config['pretrained'] else []
  if config['dataset']['cache'] == 'features':
    needed += ['embed', 'classify']
  model = text_branch.image_network(model)
  missing = [attribute for attribute in needed if not hasattr(model, attribute)]
  if missing:
    raise errors.InputError(
      f'config.model.name={config["model"]["name"]!r} has no attributes'
      f" {missing}, which config.pretrained or config.dataset.cache='features'"
      ' needs.'
    )


def variable_shapes(
  model: nn.Module, *, name: str, image_shape: tuple[int, int], num_genres: int
) -> dict[str, Any]:
  """Traces a network once, for the shapes of its variables and checks.

  Args:
    model: a network of `create_model`.
    name: of the network, for error messages.
    image_shape: (height, width) in pixels.
    num_genres: number of logits.

  Returns:
    {'params', 'batch_stats'} of `jax.ShapeDtypeStruct`.

  Raises:
    InputError: the images are too small for the network, or a custom network
      has other outputs than the contract above states.
  """
  images = jax.ShapeDtypeStruct((2, *image_shape, 3), jnp.float32)

  def init(images):
    return model.init_with_output(jax.random.key(0), images, train=False)

  try:
    with target.traced_for(target.PORTABLE):
      logits, variables = jax.eval_shape(init, images)
  except errors.InputError:
    raise
  except (AttributeError, TypeError, ValueError, ZeroDivisionError) as e:
    message = str(e).partition('\n')[0]
    raise errors.InputError(
      f'config.model.name={name!r} cannot be applied to images of'
      f' {image_shape[0]} x {image_shape[1]} pixels with train=False:'
      f' {message}. Are the images too small for its layers, or is an argument'
      ' no extra column of the dataset?'
    ) from e
  expected = ((2, num_genres), jnp.dtype('float32'))
  if expected != (getattr(logits, 'shape', ()), getattr(logits, 'dtype', None)):
    raise errors.InputError(
      f'config.model.name={name!r} returns {logits} for two images; expected'
      f' logits, float32 {expected[0]}.'
    )
  params = variables.get('params', {})
  if params_lib.HEAD not in params:
    raise errors.InputError(
      f'config.model.name={name!r} has no layer {params_lib.HEAD!r}; its layers'
      f' are {", ".join(params) or "none"}. The last layer, which returns the'
      " logits, must be nn.Dense(num_genres, name='head')."
    )
  return {'params': params, 'batch_stats': variables.get('batch_stats', {})}
