"""Every key of a config, with its unit and range.

Other configs start from this one and change a few keys. On the command line a
key is overridden with `--config.KEY=VALUE`. A `placeholder` is a number that
may be left unset; what then holds is said beside it. Nothing here is derived
from another key: that is done in `genre_flax/config.py`, after all
overrides.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The defaults: a small residual network, trained from scratch."""
  config = config_dict.ConfigDict()

  # Decides the initial parameters, the order of the posters, augmentation and
  # dropout. 0 to 2**31 - 1.
  config.seed = 0

  # --- Data ---
  config.dataset = config_dict.ConfigDict()
  # Folder that `genre_flax.prepare` wrote.
  config.dataset.data_dir = ''
  # > 0: draw this many synthetic posters into the workdir, and use these.
  config.dataset.synthetic_posters = 0
  config.dataset.train_split = 'train'
  # Watched during training; the best checkpoint is chosen on it.
  config.dataset.validation_split = 'validation'
  # Evaluated once, when training has ended; '' for none.
  config.dataset.test_split = 'test'
  # 'none': decode each poster whenever it is needed. 'memory': keep decoded
  # posters in the memory of the host (height * width * 3 bytes each). 'disk':
  # keep them in a file that runs on this machine share.
  # 'features': where only the head is trained, compute what it reads once, keep
  # it in the workdir, and train on that; there is then no augmentation.
  config.dataset.cache = 'none'
  # Folder of the file, on a local disk; '': ~/.cache/genre_flax/decoded.
  config.dataset.cache_dir = ''
  # Threads that read and decode, per host; each makes a whole batch, so no more
  # than prefetch_batches are at work. 1 to 1024; unset: twice the CPU cores.
  config.dataset.num_threads = config_dict.placeholder(int)
  # Decoded batches to keep ready, per host. 1 to 1024.
  config.dataset.prefetch_batches = 4

  # Input size in pixels, 16 to 8192. Posters are stretched to it. A height or
  # width of its own wins over image_size.
  config.image_size = 224
  config.image_height = config_dict.placeholder(int)
  config.image_width = config_dict.placeholder(int)
  # Pixels enter the network as (value - pixel_mean) / pixel_scale, value in
  # [0, 255]; the scale above 0.
  config.pixel_mean = 127.5
  config.pixel_scale = 127.5

  # --- Augmentation, on the device, of training batches only ---
  config.augment = config_dict.ConfigDict()
  # Least share of height and of width that a random crop keeps, (0, 1]; 1: no
  # crop. The crop is scaled back to the input size.
  config.augment.crop_scale = 0.8
  # Farthest shift beyond the crop, as a share of the side, [0, 0.5]. The border
  # is repeated.
  config.augment.translation = 0.05
  # Brightness is multiplied by 1 +- at most this, [0, 1).
  config.augment.brightness = 0.2
  # Contrast about the poster's mean is multiplied by 1 +- at most this, [0, 1).
  config.augment.contrast = 0.2
  # Colours are moved away from or towards grey by at most this share, [0, 1].
  config.augment.saturation = 0.0
  # Probability of a mirror image, [0, 1]. Posters carry text: 0 by default.
  config.augment.horizontal_flip = 0.0
  # Probability that a rectangle is made grey, [0, 1].
  config.augment.random_erasing = 0.0
  # Blends pairs of posters with weights from Beta(alpha, alpha); 0: do not.
  config.augment.mixup_alpha = 0.0

  # --- Model ---
  config.model = config_dict.ConfigDict()
  # One of genre_flax.models.registry.MODELS, whose own keys are below, under
  # its name; or 'module:attribute' of a Flax module of your own, which gets
  # those of `options` (docs/extending.md).
  config.model.name = 'resnet'
  config.model.options = config_dict.ConfigDict()
  # Of the computation: 'float32' or 'bfloat16'. Parameters are float32.
  config.model.dtype = 'float32'

  config.model.convnext = config_dict.ConfigDict()
  # 'atto', 'femto', 'pico', 'nano', 'tiny', 'small', 'base' or 'large'.
  config.model.convnext.size = 'tiny'
  # 1 or 2.
  config.model.convnext.version = 1
  # What the scales of the branches start from, in version 1. > 0.
  config.model.convnext.layer_scale = 1e-6
  # Normalise the features before the head with a BatchNorm of its own.
  config.model.convnext.feature_norm = False
  # Before the logits, [0, 1).
  config.model.convnext.dropout_rate = 0.0
  # Of the last block's branch, growing from 0 at the first, [0, 1).
  config.model.convnext.stochastic_depth_rate = 0.1
  # Compute the insides of blocks again in the backward pass: less memory.
  config.model.convnext.rematerialize = False

  config.model.efficientnet_lite = config_dict.ConfigDict()
  # 0, 1 or 2.
  config.model.efficientnet_lite.variant = 0
  # Before the logits, [0, 1).
  config.model.efficientnet_lite.dropout_rate = 0.2
  # Of the last block's branch, growing from 0 at the first, [0, 1).
  config.model.efficientnet_lite.stochastic_depth_rate = 0.1
  # 'frozen': use and keep the running statistics, in training too.
  # 'synchronized': use and update those of the global batch.
  config.model.efficientnet_lite.batch_norm = 'frozen'
  # Also give the head the mean and the deviation of each channel after every
  # stage, which hold the style of a poster.
  config.model.efficientnet_lite.stage_features = False
  # Normalise the features before the head with a BatchNorm of its own.
  config.model.efficientnet_lite.feature_norm = False

  config.model.poster_cnn = config_dict.ConfigDict()
  config.model.poster_cnn.features = (16, 32, 64, 64)
  config.model.poster_cnn.dense_features = (128, 64)
  config.model.poster_cnn.kernel_size = 5
  config.model.poster_cnn.conv_dropout_rate = 0.25
  config.model.poster_cnn.dense_dropout_rate = 0.5

  config.model.resnet = config_dict.ConfigDict()
  # Channels and blocks of each stage; each stage halves height and width.
  config.model.resnet.features = (32, 64, 128, 256)
  config.model.resnet.num_blocks = (1, 1, 1, 1)
  # Before the logits, [0, 1).
  config.model.resnet.dropout_rate = 0.2

  config.model.tiny = config_dict.ConfigDict()
  config.model.tiny.features = (16, 32, 64)
  # Before the logits, [0, 1).
  config.model.tiny.dropout_rate = 0.1

  config.model.vit = config_dict.ConfigDict()
  # 'Ti', 'S', 'B' or 'L'.
  config.model.vit.size = 'S'
  # Side of a patch in pixels, 1 to 256; divides the images' height and width.
  config.model.vit.patch = 16
  # 'token' (class token), 'mean' or 'attention'.
  config.model.vit.pool = 'token'
  # Tokens that are read and written and not pooled. 0 to 64.
  config.model.vit.num_registers = 0
  # Normalise before the first block, as CLIP does.
  config.model.vit.pre_norm = False
  # 'exact', 'tanh' or 'quick'.
  config.model.vit.gelu = 'exact'
  # What the scales of the branches start from, >= 0; 0: none.
  config.model.vit.layer_scale = 0.0
  # Of all LayerNorms. > 0.
  config.model.vit.norm_epsilon = 1e-6
  # Normalise the features before the head with a BatchNorm of its own.
  config.model.vit.feature_norm = False
  # Before the logits, [0, 1).
  config.model.vit.dropout_rate = 0.0
  # Of the last block's branches, growing from 0 at the first, [0, 1).
  config.model.vit.stochastic_depth_rate = 0.0
  # Compute the insides of blocks again in the backward pass: less memory.
  config.model.vit.rematerialize = False

  # --- Where parameters come from, and which are trained ---
  # Published weights for the backbone, or '' for none: 'efficientnet_lite0', 1
  # or 2; for it, 'vit' and 'convnext' the name of a network on the Hugging Face
  # hub, such as 'timm:vit_small_patch16_224.augreg_in21k' or 'hf:OWNER/NAME',
  # or the path of a .safetensors file. All need the extra `pretrained`.
  config.pretrained = ''
  # Workdir of another run to start from its best checkpoint, or ''.
  config.init_from = ''
  # What to take over from it: 'backbone', or 'all', the head too.
  config.init_from_parts = 'backbone'
  # Start the head's bias so that scores begin at the label prior.
  config.head_bias_from_prior = True
  # Regular expression of the whole paths of the parameters that are trained,
  # such as 'head/.*'.
  config.trainable = '.*'

  # --- Loss ---
  config.loss = config_dict.ConfigDict()
  # 'sigmoid_cross_entropy', 'focal' or 'asymmetric'; or 'module:attribute' of a
  # function of your own, which gets logits, labels and `options`.
  config.loss.name = 'sigmoid_cross_entropy'
  config.loss.options = config_dict.ConfigDict()
  # Share of each label that is moved to one half, [0, 1).
  config.loss.label_smoothing = 0.0
  # Weigh positives by their effective number, [0, 1); 0: alike. 0.99 is mild.
  config.loss.class_balanced_beta = 0.0
  # Of the focal loss, >= 0; 0: cross-entropy.
  config.loss.focal_gamma = 2.0
  # Of the asymmetric loss, >= 0; its margin in [0, 1). All 0: cross-entropy.
  config.loss.asymmetric_gamma_positive = 0.0
  config.loss.asymmetric_gamma_negative = 4.0
  config.loss.asymmetric_margin = 0.05

  # --- Optimisation ---
  # Posters a step over all hosts and devices; a multiple of the number of
  # devices times accumulate_steps.
  config.batch_size = 64
  # Each step adds up the gradients of this many equal parts of the batch, which
  # divides the memory for activations. >= 1. On CPU they are divided further.
  config.accumulate_steps = 1
  # Length of the training, in epochs; num_train_steps, in updates, wins.
  config.num_epochs = 20.0
  config.num_train_steps = config_dict.placeholder(int)

  config.optimizer = config_dict.ConfigDict()
  # 'adamw' or 'sgd' (with Nesterov momentum beta1); or 'module:attribute' of
  # what makes the direction of an update, such as 'optax:scale_by_lion', with
  # the arguments `options`.
  config.optimizer.name = 'adamw'
  config.optimizer.options = config_dict.ConfigDict()
  # At its peak. > 0.
  config.optimizer.learning_rate = 1e-3
  # After warm-up: 'constant', 'cosine' or 'linear', the latter two down to
  # final_learning_rate_factor, in [0, 1], times the peak at the last step.
  config.optimizer.schedule = 'cosine'
  config.optimizer.final_learning_rate_factor = 0.0
  # Linear from 0, in epochs. >= 0.
  config.optimizer.warmup_epochs = 1.0
  # Of the moving averages of the gradient and of its square, [0, 1); beta1 is
  # the momentum of 'sgd'. epsilon is above 0.
  config.optimizer.beta1 = 0.9
  config.optimizer.beta2 = 0.999
  config.optimizer.epsilon = 1e-8
  # Decoupled, of kernels only (no biases, no BatchNorm). >= 0.
  config.optimizer.weight_decay = 1e-2
  # Learning rate of all layers but the head, as a share of the head's, > 0.
  config.optimizer.backbone_factor = 1.0
  # Each layer learns at this share of the rate of the one after it, (0, 1], as
  # well: what is near the pixels changes least. 1: all alike.
  config.optimizer.layer_decay = 1.0
  # Greatest global norm of the gradient, > 0; unset: no clipping.
  config.optimizer.clip_norm = config_dict.placeholder(float)
  # Decay of the moving average of the parameters, [0, 1); 0: none. It grows to
  # this as (1 + step) / (10 + step), so that 0.99 is reached at step 890, and
  # 0.999 at 8,990. Evaluation uses the average where there is one.
  config.ema_decay = 0.0

  # --- Evaluation, checkpoints, logs ---
  # Posters an evaluation step over all hosts; unset: batch_size.
  config.eval_batch_size = config_dict.placeholder(int)
  # The network sees the central part of each poster, of these shares of its
  # height and width, each above 0 and at most 1, and its logits are averaged.
  # At most 32.
  config.eval_crops = (1.0,)
  # Evaluate on the validation split, and save, every so many epochs. > 0.
  config.eval_every_epochs = 1.0
  # Save also every so many steps between evaluations; unset: do not.
  config.checkpoint_every_steps = config_dict.placeholder(int)
  # Best checkpoints to keep (by validation mean average precision), beside the
  # latest one. >= 1.
  config.keep_best = 1
  # Steps between two lines of the log. >= 1.
  config.log_every = 20
  # Write TensorBoard events beside the JSON lines.
  config.tensorboard = True
  # Resamples of the bootstrap behind the 95 % intervals of final metrics. >= 0.
  config.bootstrap_samples = 1000
  # Write report.html in the end, where there is a test split: pictures and
  # charts for people, about ten seconds for 600 posters.
  config.report = True

  return config
