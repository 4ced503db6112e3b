"""The sections of a configuration. Defaults, help texts and bounds of all settings are declared here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xmodal_cli.device import PRECISIONS
from xmodal_cli.settings import MAX_SEED, setting
from xmodal_cli.types import Decoding

MODEL_KINDS = ("matcher", "captioner", "tagger")
OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "linear")


@dataclass(frozen=True)
class Component:
    """A component chosen by name, with the arguments of its ``build``."""

    name: str = setting("", "")
    args: dict[str, Any] = setting({}, "")


@dataclass(frozen=True)
class ModelConfig:
    """The architecture and its components."""

    name: str = setting("vse", "architecture: a matcher, captioner or tagger of the catalog")
    args: dict[str, Any] = setting({}, "arguments of the architecture")
    embed_dim: int = setting(1024, "dimension of the embeddings; 0: that of the image features", min=0, max=65_536)
    image_encoder: Component = setting(Component("linear"), "matchers: image features to embeddings")
    text_encoder: Component = setting(Component("gru"), "matchers: tokens or text features to embeddings")
    similarity: Component = setting(Component("cosine"), "matchers: similarity of an image and a text embedding")


@dataclass(frozen=True)
class FeaturesConfig:
    """The image features that the model reads.

    With ``optimizer.image_tower_lr_scale`` above 0 the backbone is trained too: its last ``tuned_blocks`` on cached
    outputs of the blocks before them; or at 0 all of it, from pixels.
    """

    backbone: str = setting("efficientnet-lite2", "image backbone, as NAME, NAME@FILE or NAME@RUN")
    kind: str = setting("global", "kind of features: global, grid, regions or trunk-N")
    crops: int = setting(
        1, "views of an image: 1; 2 for the image and its mirror image; 10 for ten crops", choices=(1, 2, 10)
    )
    tuned_blocks: int = setting(
        0, "last blocks of the image backbone that are trained on a cached trunk; 0: all, from pixels", min=0
    )
    memory: float = setting(
        0.0,
        "GB of features of a split that are kept in memory, larger ones are read from disk; 0: a quarter of the memory",
        min=0,
    )


@dataclass(frozen=True)
class TextConfig:
    """A pretrained text encoder before the model's own.

    With ``optimizer.text_tower_lr_scale`` above 0 it is trained too: its last ``tuned_layers``, or at 0 all of them.
    """

    backbone: str = setting(
        "", "pretrained text encoder, as minilm; same: the text tower of the image backbone; empty: none"
    )
    tuned_layers: int = setting(0, "last layers of the text encoder that are trained; 0: all of them", min=0)
    word_vectors: str = setting("", "file of GloVe or word2vec vectors that word embeddings are initialized from")


@dataclass(frozen=True)
class DataConfig:
    """The dataset, its splits and the vocabulary. ``path`` in a TOML file is relative to that file."""

    name: str = setting(
        "", "dataset to train on if --data is not given: a name, or a path in the current folder; empty: shapes"
    )
    path: str = setting(
        "",
        "folder or file of the dataset, instead of its name; relative to the TOML file, in --set to the current folder",
    )
    features_from: str = setting(
        "",
        "backbone of the dataset's precomputed features, with features.crops views; empty: as registered, or unknown",
    )
    train_splits: tuple[str, ...] = setting(("train", "restval"), "splits to train on")
    val_split: str = setting("val", "split that decides which epoch is the best")
    min_word_count: int = setting(1, "rarer words are out of vocabulary", min=1)
    max_vocab: int = setting(0, "size of the vocabulary: its most frequent words; 0: no limit", min=0)
    max_caption_words: int = setting(
        0, "longest caption that is trained on, in words; longer ones are left out; 0: no limit", min=0
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer. At a learning-rate multiplier of 0 a pretrained network is frozen."""

    name: str = setting("adam", "optimizer", choices=OPTIMIZERS)
    lr: float = setting(2e-4, "learning rate", above=0)
    image_tower_lr_scale: float = setting(0.0, "learning-rate multiplier of the image backbone; 0: frozen", min=0)
    text_tower_lr_scale: float = setting(
        0.0, "learning-rate multiplier of the pretrained text encoder or language model; 0: frozen", min=0
    )
    loss_lr_scale: float = setting(1.0, "learning-rate multiplier of the weights of the loss, such as proxies", min=0)
    weight_decay: float = setting(0.0, "weight decay; biases and norms have none", min=0)
    l2_penalty: float = setting(
        0.0, "times the sum of squares of all trained weights, biases too, is added to the loss", min=0
    )
    grad_clip: float = setting(2.0, "largest norm of the gradient; 0: no clipping", min=0)


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time."""

    name: str = setting("constant", "learning-rate schedule after the warmup", choices=SCHEDULES)
    warmup_steps: int = setting(0, "steps over which the learning rate rises from 0", min=0)
    step_epochs: int = setting(15, "step schedule: epochs between two decays", min=1)
    gamma: float = setting(0.1, "step schedule: factor of a decay", above=0, max=1)


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop."""

    epochs: int = setting(15, "number of epochs", min=1)
    batch_size: int = setting(128, "captions per batch", min=1)
    patience: int = setting(0, "stop after so many evaluations without a better val score; 0: no early stopping", min=0)
    metric: str = setting(
        "", "val metric that decides which model is the best, as rsum, R@1, bleu_4 or meteor; empty: rsum or cider"
    )
    validate_every: int = setting(1, "evaluate on val after so many epochs or steps, and after the last", min=1)
    validate_unit: str = setting("epochs", "unit of validate_every", choices=("epochs", "steps"))
    ema: float = setting(
        0.0, "decay of the moving average of the weights, which is evaluated and saved; 0: no average", min=0, below=1
    )
    eval_initial: bool = setting(False, "evaluate the model before the first step too; it may be the best")
    chunk_size: int = setting(
        0, "matchers: images and captions encoded at once, with the gradients of the whole batch; 0: all of it", min=0
    )
    local_loss: bool = setting(
        False, "matchers: a process, or a chunk, computes the scores of its own images and captions only"
    )
    gradient_checkpointing: bool = setting(
        False, "blocks of a fine-tuned image backbone are recomputed in the backward pass, for less memory"
    )
    group_captions_by_image: bool = setting(False, "all captions of an image are in the same batch")
    shuffle_window: int = setting(
        0,
        "training from pixels: images that are shuffled together, in blocks of contiguous ones, where random reads are "
        "slow; 0: all images",
        min=0,
    )
    seed: int = setting(0, "seed of all random numbers", min=0, max=MAX_SEED)
    precision: str = setting("auto", "precision of the forward pass", choices=PRECISIONS)
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    log_every: int = setting(20, "steps between two lines of the log, which has the last step of an epoch too", min=1)
    tensorboard: bool = setting(True, "write TensorBoard event files, if tensorboardX is installed")


@dataclass(frozen=True)
class WarmupConfig:
    """Matchers: another loss in the first epochs, since hardest negatives alone can collapse an untrained model."""

    epochs: int = setting(0, "first epochs, which are trained with another loss", min=0)
    loss: Component = setting(Component("triplet"), "loss of these epochs")


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation of images that are trained on from pixels."""

    min_area: float = setting(0.6, "smallest area of a random crop, relative to the image", above=0, max=1)
    flip: float = setting(0.5, "probability of a horizontal flip", min=0, max=1)
    jitter: float = setting(0.0, "largest change of brightness, contrast and saturation", min=0, below=1)


@dataclass(frozen=True)
class CaptioningConfig:
    """Settings of captioners. The learning-rate multiplier of the language model is text_tower_lr_scale."""

    language_model: str = setting("", "pretrained language model: gpt2, hf/NAME or a folder; empty: from scratch")
    tag_prob: float = setting(
        0.0, "probability that one or two words of a training caption are given before it, for --tags", min=0, max=1
    )
    tagger: str = setting(
        "", "tagger whose tags of the image are given, with probability tag_prob; empty: words of the caption"
    )
    num_tags: int = setting(5, "number of tags of the tagger that are given", min=1)
    one_caption_per_image: bool = setting(False, "an epoch has one random caption of each image")
    scheduled_sampling: float = setting(
        0.0, "probability that a token is sampled from the model, in the last epoch; it rises from 0", min=0, max=1
    )


@dataclass(frozen=True)
class TaggingConfig:
    """Settings of taggers: the content words of the training captions that are tags."""

    num_tags: int = setting(1000, "largest number of tags; the most frequent words are chosen", min=1)
    min_images: int = setting(10, "a tag occurs in the captions of at least this many training images", min=1)
    soft_targets: bool = setting(
        False, "the target of a tag is the fraction of the image's captions with it, not 1 for any"
    )


@dataclass(frozen=True)
class Config:
    """All that decides a training run except its data."""

    preset: str = setting("", "name of the preset")
    kind: str = setting("matcher", "kind of model", choices=MODEL_KINDS)
    model: ModelConfig = setting(ModelConfig(), "architecture")
    loss: Component = setting(Component("triplet"), "training objective")
    warmup: WarmupConfig = setting(WarmupConfig(), "loss of the first epochs")
    features: FeaturesConfig = setting(FeaturesConfig(), "image features")
    text: TextConfig = setting(TextConfig(), "pretrained text encoder")
    data: DataConfig = setting(DataConfig(), "dataset, splits and vocabulary")
    optimizer: OptimizerConfig = setting(OptimizerConfig(), "optimizer")
    schedule: ScheduleConfig = setting(ScheduleConfig(), "learning rate over time")
    training: TrainingConfig = setting(TrainingConfig(), "training loop")
    augmentation: AugmentationConfig = setting(AugmentationConfig(), "augmentation of images trained on from pixels")
    captioning: CaptioningConfig = setting(CaptioningConfig(), "settings of captioners")
    decoding: Decoding = setting(Decoding(), "decoding of captions")
    tagging: TaggingConfig = setting(TaggingConfig(), "settings of taggers")
