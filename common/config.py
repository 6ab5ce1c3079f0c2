"""The training configuration: each field with its default, its help and its check."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from common.in_force import Change, switch_off
from common.pairs import HEADS
from common.recipes import (
    DEFAULT_RECIPE,
    OWN_WEIGHTS,
    RECIPES,
    as_flags,
    recipe_help,
    recipe_settings,
)

LAST = "last"  # the monitor that keeps the last epoch, whatever it scores
MONITORS = ("val_balanced_accuracy", "val_accuracy", "val_auc", "val_loss", LAST)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SWITCH = ("auto", "on", "off")
VIEWS = {"none": 1, "flips": 4, "d4": 8}  # of an image, by its test-time augmentation
# fields that may differ between a run and its continuation: they do not change what is learned
FREE_FIELDS = (
    "dataset_path",
    "output_dir",
    "cache_dir",
    "weights",
    "device",
    "num_workers",
    "threads",
    "experiment_name",
    "recipe",
    "skip_unreadable",
    "checkpoint_frequency",
    "grad_checkpointing",
    "pair_parallelism",
    "referable_from",
    "tta",
)
# fields that no --override changes in mid-run: other networks or pixels, or another scale of scores
FIXED_FIELDS = (
    "model",
    "head",
    "num_classes",
    "class_names",
    "img_size",
    "enable_clahe",
    "clahe_clip_limit",
    "clahe_tile_grid_size",
    "freeze_weights",
    "frozen_stages",
    "pooled_stages",
    "classifier_init",
    "prior_correction",
    "pretrained",
    "monitor",
)
CLASSIFIER_STARTS = ("random", "probe")
POOLED_STAGES = ("last", "trained", "auto")
SCHEDULERS = ("cosine", "linear", "plateau", "none")
# what a run is about and starts from, which is no part of a recipe
_NO_RECIPE = ("model", "num_classes", "class_names", "pretrained")
# the numbers that share a range
_ONE_OR_MORE = (
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "patience",
    "validation_frequency",
    "checkpoint_frequency",
    "num_workers",
)
_POSITIVE = ("learning_rate", "head_lr_factor", "clahe_clip_limit", "focal_loss_alpha")
_NOT_NEGATIVE = (
    "weight_decay",
    "min_lr",
    "min_delta",
    "max_grad_norm",
    "warmup_epochs",
    "focal_loss_gamma",
    "seed",
)
_SHARES = (
    "label_smoothing",
    "ovo_dropout",
    "brightness_range",
    "contrast_range",
    "scale_range",
    "shift_range",
    "ema_decay",
)


@dataclass(frozen=True)
class PixelOptions:
    """What a user may choose of a model's pixels; the rest is the pretrained model's own."""

    img_size: int = 0  # of the square's side; 0: the model's own
    enable_clahe: bool = True
    clahe_clip_limit: float = 2.0
    clahe_tile_grid_size: int = 8


@dataclass(frozen=True)
class AugmentationRanges:
    """How far the images of an epoch may be changed at random; 0 leaves them as they are."""

    rotation: float = 25.0  # degrees, either way
    brightness: float = 0.2  # factor within 1 +- this
    contrast: float = 0.2  # factor within 1 +- this
    horizontal_flip: bool = False  # of every other image: left for right
    vertical_flip: bool = False  # of every other image: top for bottom
    scale: float = 0.0  # factor within 1 +- this
    shift: float = 0.0  # either way along both sides, as a share of the side


def _is_folder_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\\0")


def _option(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that one backbone's training depends on; raises ValueError if it cannot work."""

    # what is trained, and on what
    model: str = _option("", "backbone, set from --base_models")
    dataset_path: str = _option(
        "./dataset_eyepacs_5class_balanced_enhanced_v2",
        "folder with train/ val/ test/, each with one folder per grade (env DATASET_PATH)",
    )
    output_dir: str = _option(
        "",
        "result directory (default ./<alias>_<K>class_results, with _shared or _softmax behind the "
        "alias); of several backbones or seeds, the folder in which each has one",
    )
    experiment_name: str = _option("", "a name for the log and config.json")
    recipe: str = _option(DEFAULT_RECIPE, recipe_help(), tuple(RECIPES))
    head: str = _option(
        "ovo",
        "one classifier per pair, one network with an output per pair, or one with an output per "
        "grade",
        HEADS,
    )
    num_classes: int = _option(5, "number of grades")
    class_names: tuple[str, ...] = _option((), "class folders in grade order")
    referable_from: str = _option(
        "", "first class that is referred, by name or index (default: by the names)"
    )
    img_size: int = _option(0, "input size in pixels (0: the model's own)")
    # how long, and how fast
    epochs: int = _option(100, "epochs at most")
    batch_size: int = _option(
        2,
        "samples of a pair; times gradient_accumulation_steps is the effective batch, which "
        "is computed in pieces as large as memory allows",
    )
    gradient_accumulation_steps: int = _option(4, "batches of a pair per optimiser step")
    learning_rate: float = _option(5e-5, "peak learning rate of AdamW")
    head_lr_factor: float = _option(1.0, "learning rate of the classifier over that of the stages")
    layer_decay: float = _option(
        1.0, "learning rate of a stage over that of the stage above it (1: all learn alike)"
    )
    ema_decay: float = _option(
        0.0,
        "moving average of the weights, which is validated and kept: this much of it stays in a "
        "step (0: off)",
    )
    weight_decay: float = _option(0.00025, "decoupled decay; none on norms and biases")
    scheduler: str = _option("cosine", "decay after the warm-up", SCHEDULERS)
    warmup_epochs: int = _option(10, "epochs of linear warm-up")
    min_lr: float = _option(1e-7, "learning rate that the decay ends at")
    max_grad_norm: float = _option(1.0, "gradient clipping norm (0: off)")
    # which weights are kept
    patience: int = _option(28, "validations without gain before a pair stops")
    min_delta: float = _option(0.001, "least gain that counts as one")
    monitor: str = _option(
        "val_balanced_accuracy",
        "what picks the epoch whose weights are kept (last: the last one, without early stopping)",
        MONITORS,
    )
    # the loss
    enable_focal_loss: bool = _option(True, "focal loss; false: cross-entropy")
    focal_loss_gamma: float = _option(3.0, "focusing exponent")
    focal_loss_alpha: float = _option(2.5, "plain factor of the focal loss")
    enable_class_weights: bool = _option(
        True, "weigh classes by n / (2 n_c), n / (K n_c) of softmax"
    )
    class_weight_power: float = _option(
        1.0, "power of these weights: 0.5 is the square root, 0 weighs all alike"
    )
    prior_correction: bool = _option(
        False,
        "probabilities follow how frequent the grades are in training, whatever the class weights: "
        "the loss alone sees the logits moved by the logarithms of the weights",
    )
    class_weight_0: float = _option(0.0, "weight of grade 0 in place of the above (0: none)")
    class_weight_1: float = _option(0.0, "weight of grade 1")
    class_weight_2: float = _option(0.0, "weight of grade 2")
    class_weight_3: float = _option(0.0, "weight of grade 3")
    class_weight_4: float = _option(0.0, "weight of grade 4")
    label_smoothing: float = _option(0.1, "targets t become t (1 - s) + s / 2, s / K of softmax")
    # pixels, and how they vary
    enable_clahe: bool = _option(True, "contrast-limited adaptive histogram equalisation")
    clahe_clip_limit: float = _option(2.0, "CLAHE contrast limit")
    clahe_tile_grid_size: int = _option(8, "CLAHE tiles per side")
    rotation_range: float = _option(25.0, "random rotation, +- degrees")
    horizontal_flip: bool = _option(False, "mirror every other image at random, left for right")
    vertical_flip: bool = _option(False, "mirror every other image at random, top for bottom")
    scale_range: float = _option(0.0, "random scale factor, 1 +- this")
    shift_range: float = _option(0.0, "random shift either way, as a share of the side")
    brightness_range: float = _option(0.2, "random brightness factor, 1 +- this")
    contrast_range: float = _option(0.2, "random contrast factor, 1 +- this")
    # the network, and where it starts
    ovo_dropout: float = _option(0.28, "dropout before each binary classifier")
    classifier_init: str = _option(
        "random",
        "where classifiers start: at random, or as linear probes (logistic regressions) of the "
        "training images' pretrained features",
        CLASSIFIER_STARTS,
    )
    freeze_weights: bool = _option(True, "freeze the stem and first stages; false: train all")
    frozen_stages: int = _option(
        -1, "how many stages freeze, and the stem with them (-1: the model's own cut; 0: nothing)"
    )
    pooled_stages: str = _option(
        "last",
        "whose means the classifiers see: that of the last stage alone, or those of all that are "
        "trained (auto: where the network lets them)",
        POOLED_STAGES,
    )
    pretrained: bool = _option(True, "start from pretrained weights; see --no_pretrained")
    weights: str = _option("", "file of pretrained weights instead of the hub")
    # how it runs
    validation_frequency: int = _option(1, "epochs between validations")
    checkpoint_frequency: int = _option(1, "epochs between checkpoints for --resume")
    num_workers: int = _option(4, "threads that fill the cache, at most the cores")
    threads: str = _option(
        "auto",
        "threads that compute on the CPU: a number, or auto: OMP_NUM_THREADS if that is set, else "
        "one for each core that other programs leave",
    )
    tta: str = _option(
        "none",
        "test-time augmentation: predictions average the logits of an image's mirror images "
        "(flips), or of these in all quarter turns (d4); validation in training goes without",
        tuple(VIEWS),
    )
    skip_unreadable: bool = _option(False, "go on without images that cannot be read, and say so")
    cache_dir: str = _option("./cache", "folder of decoded pixels (env CACHE_DIR)")
    seed: int = _option(
        42,
        "seed of every random stream; several: train each backbone with each of them, into "
        "<alias>_seed<N>_<K>class_results in --output_dir",
    )
    device: str = _option("auto", "auto, cpu, cuda or cuda:N")
    use_amp: bool = _option(True, "let --precision auto choose mixed precision")
    precision: str = _option("auto", "arithmetic", PRECISIONS)
    grad_checkpointing: str = _option(
        "auto",
        "recompute activations to save memory (auto: once memory ran out)",
        SWITCH,
    )
    pair_parallelism: str = _option(
        "auto",
        "train several pairs in one launch (auto: on a GPU, where it measures faster; on a CPU, "
        "but not in fp32, several side by side)",
        SWITCH,
    )

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_classes()
        for item in fields(self):
            choices, value = item.metadata["choices"], getattr(self, item.name)
            if choices:
                self._expect(item.name, value in choices, f"one of {', '.join(choices)}")
        self._expect("head", self.head == "ovo" or self.num_classes > 2, "ovo for two classes")
        self._expect("dataset_path", bool(self.dataset_path), "a folder")
        if self.scheduler == "plateau" and self.monitor == LAST:
            raise ValueError(
                "--scheduler plateau waits for a better value, and --monitor last looks at none; "
                "choose another of the two"
            )
        self._expect("frozen_stages", self.frozen_stages >= -1, "-1, 0 or more")
        if self.frozen_stages > 0 and not self.freeze_weights:
            raise ValueError(
                f"--frozen_stages {self.frozen_stages} and --freeze_weights false contradict "
                "each other"
            )
        if self.classifier_init == "probe" and not self.pretrained:
            raise ValueError(
                "--classifier_init probe needs pretrained weights, not --no_pretrained"
            )
        given = [name for name in OWN_WEIGHTS if getattr(self, name)]
        given += ["class_weight_power"] * (self.class_weight_power != 1)
        given += ["prior_correction"] * self.prior_correction
        if given and not self.enable_class_weights:
            raise ValueError(f"--{given[0]} has no effect with --enable_class_weights false")

    def _check_numbers(self) -> None:
        infinity = float("inf")
        for name in _ONE_OR_MORE:
            self._expect(name, getattr(self, name) >= 1, "1 or more")
        for name in _POSITIVE:
            self._expect(name, 0 < getattr(self, name) < infinity, "more than 0")
        for name in (*_NOT_NEGATIVE, *OWN_WEIGHTS):
            self._expect(name, 0 <= getattr(self, name) < infinity, "0 or more")
        for name in _SHARES:
            self._expect(name, 0 <= getattr(self, name) < 1, "0 <= value < 1")
        self._expect("layer_decay", 0.01 <= self.layer_decay <= 1, "0.01 to 1")
        self._expect("class_weight_power", 0 <= self.class_weight_power <= 1, "0 to 1")
        self._expect("rotation_range", 0 <= self.rotation_range <= 180, "0 to 180 degrees")
        at_most = f"at most --learning_rate {self.learning_rate:g}"
        self._expect("min_lr", self.min_lr <= self.learning_rate, at_most)
        self._expect("img_size", self.img_size in (0, *range(32, 4097)), "0, or 32 to 4096")
        self._expect("clahe_tile_grid_size", 1 <= self.clahe_tile_grid_size <= 64, "1 to 64")
        self._expect("seed", self.seed < 2**63, "less than 2^63")

    def _check_classes(self) -> None:
        names, count = self.class_names, self.num_classes
        self._expect("num_classes", 2 <= count <= 100, "2 to 100")
        self._expect("class_names", len(set(names)) == len(names), "different names")
        self._expect("class_names", all(map(_is_folder_name, names)), "names of folders")
        fits = len(names) in (0, count)
        self._expect("class_names", fits, f"{count} names, as many as --num_classes says")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            found = getattr(self, name)
            shown = " ".join(found) if isinstance(found, tuple) else found
            raise ValueError(f"--{name}: expected {expected}, found {shown}")

    def class_weight(self, grade: int) -> float:
        """Return the weight given for a grade; 0 where there is none."""
        return getattr(self, OWN_WEIGHTS[grade]) if grade < len(OWN_WEIGHTS) else 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes: those given, or "0", "1" and so on."""
        return self.class_names or tuple(str(grade) for grade in range(self.num_classes))

    @property
    def freezes(self) -> bool:
        """Tell whether any stage freezes."""
        return self.freeze_weights and self.frozen_stages != 0

    @property
    def pixel_options(self) -> PixelOptions:
        """Return what was chosen of the pixels."""
        return PixelOptions(
            img_size=self.img_size,
            enable_clahe=self.enable_clahe,
            clahe_clip_limit=self.clahe_clip_limit,
            clahe_tile_grid_size=self.clahe_tile_grid_size,
        )

    @property
    def augmentation(self) -> AugmentationRanges:
        """Return how far images are changed at random."""
        return AugmentationRanges(
            rotation=self.rotation_range,
            brightness=self.brightness_range,
            contrast=self.contrast_range,
            horizontal_flip=self.horizontal_flip,
            vertical_flip=self.vertical_flip,
            scale=self.scale_range,
            shift=self.shift_range,
        )

    @property
    def recipe_line(self) -> str:
        """Say which recipe this is, and in which settings it differs from it."""
        plain = {**_DEFAULTS, **recipe_settings(self.recipe, asdict(self))}
        other = {
            name: value
            for name, value in asdict(self).items()
            if name not in (*FREE_FIELDS, *_NO_RECIPE, *self.without_effect)
            and value != plain[name]
        }
        changed = f"but {as_flags(other)}" if other else "unchanged"
        return f"recipe {self.recipe}, {changed}"

    @property
    def without_effect(self) -> dict[str, str]:
        """Say by name which settings, other than by default, others leave without effect."""
        values, found = asdict(self), {}
        for name, value in values.items():
            switch = switch_off(name, values)
            if switch and value not in (_DEFAULTS[name], *switch.agreeing):
                other = as_flags({switch.name: values[switch.name]})
                found[name] = f"{as_flags({name: value})} has no effect with {other}"
        return found

    @property
    def effective_batch(self) -> int:
        """Count the samples of an optimiser step."""
        return self.batch_size * self.gradient_accumulation_steps

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, fit for JSON and for `torch.load(weights_only=True)`."""
        return {**asdict(self), "class_names": list(self.class_names)}


_DEFAULTS = {item.name: item.default for item in fields(TrainConfig)}


def config_differences(old: dict[str, Any], new: TrainConfig) -> list[Change]:
    """List the settings in which a continued run would learn something else.

    old: the configuration as config.json has it; newer settings that it lacks had their defaults.
    """
    old, values = {**TrainConfig().to_dict(), **old}, new.to_dict()
    free: tuple[str, ...] = FREE_FIELDS
    batch = ("batch_size", "gradient_accumulation_steps")
    if all(isinstance(old[name], int) for name in batch):
        same = old["batch_size"] * old["gradient_accumulation_steps"] == new.effective_batch
        free += batch if same else ()
    return [
        Change(name, old[name], value)
        for name, value in values.items()
        if name not in free and old[name] != value and not _idle_in_both(name, old, values)
    ]


def _idle_in_both(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether a setting has no effect, before and now; what is fixed may be on record."""
    if name in FIXED_FIELDS:
        return False
    return bool(switch_off(name, old) and switch_off(name, new))
