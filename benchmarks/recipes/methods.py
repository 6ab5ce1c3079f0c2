"""What is compared for its accuracy: trainings, their means, and changes of the recipe's settings.

A recipe is what train_ovo.py is told beside the backbone, the dataset and the seed. A method is one
recipe, or the mean of several: an ensemble.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

PROBE, STAGE_PROBE = "probe", "stage_probe"
PROBES = {  # what is other than in BEST
    PROBE: "--pooled_stages last",
    STAGE_PROBE: "--pooled_stages trained --img_size 512",
}
SOUP = "soup"
UNSEEDED = (*PROBES, SOUP)  # there is one for a fold
BEST = "shared"  # the small-data recipe as it is
CHANGED = "shared_last"  # the recipe of before, whose settings were changed one by one
_RECIPE = "--recipe small_data"
# as it was before it pooled all trained stages and corrected for its class weights
_BEFORE = f"{_RECIPE} --pooled_stages last --prior_correction false"
RECIPES = {
    "softmax": f"--head softmax {_RECIPE}",
    "softmax_last": f"--head softmax {_BEFORE}",
    # the guide's loss, augmentation and frozen stages; its hundred epochs would take hours each
    "guide": "--head ovo --learning_rate 3e-4 --epochs 30 --warmup_epochs 3",
    "ovo": f"--head ovo {_RECIPE}",
    BEST: f"--head shared {_RECIPE}",
    "shared_weighted": f"--head shared {_RECIPE} --prior_correction false",
    CHANGED: f"--head shared {_BEFORE}",
}
TRAINED = (*PROBES, *RECIPES, SOUP)
TITLES = {
    PROBE: "(a) scikit-learn OvO logistic regression on frozen features",
    STAGE_PROBE: "(a) the same on features of every stage, 512 px",
    "softmax": "(b) 5-way softmax, small-data recipe",
    "softmax_last": "(b) softmax, last stage alone, no prior correction",
    "guide": "(c) ten OVO classifiers, the guide's settings",
    "ovo": "(d) ten OVO classifiers, small-data recipe",
    BEST: "(e) shared OVO, small-data recipe",
    "shared_weighted": "(e) shared OVO, no prior correction",
    CHANGED: "(e) shared OVO, last stage alone, no prior correction",
    SOUP: "(f) weights of all seeds of (e), averaged (soup)",
}
# what all others are compared with
REFERENCES = (*PROBES, "softmax", "softmax seeds", CHANGED, BEST)
NOTES = {
    "guide": "30 epochs in place of 100, a learning rate of 3e-4, 3 epochs of warm-up and the "
    "recipe's image size; its best epochs were chosen on the images that it is judged on"
}


@dataclass(frozen=True)
class Member:
    """A recipe for one backbone."""

    recipe: str  # of TRAINED
    model: str


@dataclass(frozen=True)
class Method:
    """One member, or the mean of several members' class probabilities."""

    name: str
    title: str
    members: tuple[Member, ...]
    over_seeds: bool = False  # the mean of all seeds, too, so that there is one result

    @property
    def is_single(self) -> bool:
        """Tell whether it is a recipe, not a mean."""
        return len(self.members) == 1 and not self.over_seeds

    @property
    def note(self) -> str:
        """Say what makes its figures other than they seem; "" if nothing does."""
        notes = (NOTES.get(member.recipe, "") for member in self.members)
        return next(filter(None, notes), "")


def methods_of(models: Sequence[str]) -> list[Method]:
    """List all methods for one backbone, then what further backbones add to it."""
    first, singles = models[0], [Member(recipe, models[0]) for recipe in (*PROBES, *RECIPES)]
    found = [Method(m.recipe, TITLES[m.recipe], (m,)) for m in singles]
    for model in models[1:]:
        title = f"{TITLES[BEST]}, {model}"
        found.append(Method(f"{BEST} {model}", title, (Member(BEST, model),)))
    best, softmax, ten, probe = (
        Member(recipe, first) for recipe in (BEST, "softmax", "ovo", STAGE_PROBE)
    )
    networks = tuple(Member(BEST, model) for model in models)
    found += [
        Method("softmax seeds", "(f) seeds of (b)", (softmax,), over_seeds=True),
        Method("ovo seeds", "(f) seeds of (d)", (ten,), over_seeds=True),
        Method("seeds", "(f) seeds of (e)", (best,), over_seeds=True),
        Method(SOUP, TITLES[SOUP], (Member(SOUP, first),)),
        Method("heads", "(f) heads: (b) + (e)", (softmax, best)),
        Method("with probe", "(f) (a) of every stage + (e)", (probe, best)),
    ]
    if len(models) > 1:
        of_all = f"{len(models)} networks of (e)"
        found += [
            Method("networks", f"(f) {of_all}", networks),
            Method("networks with softmax", f"(f) (b) + {of_all}", (softmax, *networks)),
            Method("networks with probe", f"(f) (a) of every stage + {of_all}", (probe, *networks)),
            Method("networks and seeds", f"(f) all seeds of {of_all}", networks, over_seeds=True),
        ]
    return found


@dataclass(frozen=True)
class Change:
    """The small-data recipe of before, with one setting changed.

    flags: of train_ovo.py; trial: of accuracy_trials.py. A change without either is one of the
    prediction alone, and asks the classifiers of the recipe again.
    """

    setting: str
    to: str
    flags: str = ""
    trial: str = ""
    tta: str = ""
    vote: str = "coupling"

    @property
    def name(self) -> str:
        """Name its folder, and itself on the command line."""
        return re.sub(r"[^a-z0-9.]+", "_", f"{self.setting} {self.to}".lower()).strip("_")

    @property
    def recipe(self) -> str:
        """Say what trains it."""
        return f"{RECIPES[CHANGED]} {self.flags}".strip()

    @property
    def is_training(self) -> bool:
        """Tell whether it has classifiers of its own."""
        return bool(self.flags or self.trial)

    @property
    def is_run(self) -> bool:
        """Tell whether something has to be trained or predicted; another vote needs neither."""
        return self.is_training or bool(self.tta)


CHANGES = (
    Change("image size", "224 px", "--img_size 224"),
    Change("image size", "320 px", "--img_size 320"),
    Change("image size", "448 px", "--img_size 448"),
    Change("image size", "512 px", "--img_size 512"),
    Change("flips", "none", "--horizontal_flip false --vertical_flip false"),
    Change("rotation", "25 degrees", "--rotation_range 25"),
    Change("scale and shift", "none", "--scale_range 0 --shift_range 0"),
    Change("brightness and contrast", "none", "--brightness_range 0 --contrast_range 0"),
    Change("CLAHE", "on", "--enable_clahe true"),
    Change("peak learning rate", "2e-4", "--learning_rate 2e-4"),
    Change("peak learning rate", "1e-3", "--learning_rate 1e-3"),
    Change("head's learning rate", "as the rest", "--head_lr_factor 1"),
    Change("layer decay", "0.7", "--layer_decay 0.7"),
    Change("frozen", "nothing", "--freeze_weights false"),
    Change("frozen", "stem and two stages", "--frozen_stages 2"),
    Change("epochs", "6", "--epochs 6"),
    Change("epochs", "24", "--epochs 24"),
    Change("averaged weights (EMA)", "off", "--ema_decay 0"),
    Change("averaged weights (EMA)", "0.99", "--ema_decay 0.99"),
    Change("label smoothing", "0.1", "--label_smoothing 0.1"),
    Change("loss", "focal", "--enable_focal_loss true"),
    Change("class weights", "none", "--class_weight_power 0"),
    Change("class weights", "in full", "--class_weight_power 1"),
    Change("class weights", "with prior correction", "--prior_correction true"),
    Change("weight decay", "0.05", "--weight_decay 0.05"),
    Change("classifier", "sees the mean after each trained stage, too", "--pooled_stages trained"),
    Change("dropout", "none", "--ovo_dropout 0"),
    Change("classifier's start", "random", "--classifier_init random"),
    Change("classifier's start", "probe", "--classifier_init probe"),
    Change("best epoch", "by AUC on val", "--monitor val_auc"),
    Change("best epoch", "by loss on val", "--monitor val_loss"),
    Change("test-time augmentation", "none", tta="none"),
    Change("test-time augmentation", "flips (4 views)", tta="flips"),
    Change("test-time augmentation", "d4 (8 views)", tta="d4"),
    Change("start", "pulled back to (L2-SP)", trial="l2_sp"),
    Change("mixup", "0.2", trial="mixup"),
    Change("pairs of other grades", "learn, too", trial="pseudo_pairs"),
    Change("self-distillation", "from EMA 0.99", "--ema_decay 0.99", trial="self_distillation"),
    Change("class weights", "half, by sampling", "--class_weight_power 0", trial="half_balanced"),
    Change("class weights", "in full, by sampling", "--class_weight_power 0", trial="balanced"),
    Change("vote", "soft", vote="soft"),
    Change("vote", "hard", vote="hard"),
)


BY_NAME = {change.name: change for change in CHANGES}


def flags_of(recipe: str) -> str:
    """Return the flags of a recipe, or of a change by its name."""
    if recipe in PROBES:
        return f"{RECIPES[BEST]} {PROBES[recipe]}".strip()
    recipe = BEST if recipe == SOUP else recipe
    return RECIPES.get(recipe) or BY_NAME[recipe].recipe


def trial_of(recipe: str) -> str:
    """Return the change of the training that the product does not have; "" mostly."""
    return BY_NAME[recipe].trial if recipe in BY_NAME else ""


def views_of(recipe: str) -> str:
    """Return the views that a change of the prediction alone averages; "" for all that trains."""
    return BY_NAME[recipe].tta if recipe in BY_NAME else ""
