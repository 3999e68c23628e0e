"""Networks of PyTorch with random parameters that all matter."""

import numpy as np
import torch

_TOKENS = ('embed', 'token', 'latent', 'probe')


def randomize(network):
  """Sets random parameters; returns the network for evaluation."""
  torch.manual_seed(0)
  with torch.no_grad():
    for buffer in network.buffers():  # The statistics of BatchNorm.
      if buffer.is_floating_point():
        buffer.copy_(0.7 + 0.6 * torch.rand_like(buffer))
    for name, parameter in network.named_parameters():
      if parameter.ndim < 2 or 'gamma' in name or 'grn' in name:
        # Scales near 1, biases near 0; no layer scale of 1e-6.
        near = 0.0 if name.endswith('bias') else 1.0
        parameter.copy_(near + 0.2 * torch.randn_like(parameter))
      elif any(part in name for part in _TOKENS) and 'patch' not in name:
        parameter.copy_(torch.randn_like(parameter))
  return network.eval()


def random_images(image_shape):
  """Images as float32 [2, H, W, 3], and as a tensor [2, 3, H, W]."""
  images = np.random.default_rng(0).normal(size=(2, *image_shape, 3))
  images = images.astype(np.float32)
  return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_close(got, expected):
  assert np.std(expected) > 0.01
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(got, expected, atol=1e-4 * scale)
