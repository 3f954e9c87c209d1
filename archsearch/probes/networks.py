"""A network to look at: untrained by its name, or with the weights of a training or a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from archsearch.core.metrics import metric
from archsearch.core.recipe import trained_config
from archsearch.core.study import Trial
from archsearch.families.internimage import parse_variant
from archsearch.probes.photos import Photo
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.training.augmentation import to_float
from archsearch.training.data import load
from internimage.config import PRESETS, ModelConfig
from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import assemble, load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

WANTED = (
    "T, S, B, L, XL or H, four numbers (64-16-4-18), RUN:best, RUN:TRIAL, "
    "a .safetensors file of ours or a released .pth"
)


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode that asks for no gradients, and what its images look like.

    ``mean`` and ``std`` are per channel of images in 0..1; one channel means that it learned from
    grey images. ``trial`` is the training that it comes from, if it comes from one of ours.
    """

    label: str
    model: InternImage
    trained: bool
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    trial: Trial | None = None

    def input(self, picture: Photo) -> Tensor:
        """``(1, 3, H, W)`` as this network was given its images; grey if it learned from grey."""
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        if len(self.mean) == 1:
            x = x.mean(1, keepdim=True)
        return self.normalised(x).expand(-1, 3, -1, -1)

    def prepare(self, pixels: Tensor) -> Tensor:
        """``(N, 3, S, S)`` of uint8 ``(N, C, H, W)``, S being ``image_size``."""
        return self.normalised(to_float(pixels, self.image_size))

    def normalised(self, x: Tensor) -> Tensor:
        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        return (x - mean) / std

    def untrained(self, seed: int = 0) -> "Network":
        """The same network as it is before training."""
        return replace(self, model=_fresh(self.model.config, seed), trained=False)


def open_network(text: str, seed: int = 0) -> Network:
    """The network that ``text`` names; see `WANTED`. ``seed`` is for weights that are not trained.

    Raises:
        ValueError: nothing is called so, or its files cannot be read.
    """
    if Path(text).is_file():
        return _of_file(Path(text))
    run, colon, which = text.rpartition(":")
    if colon:
        return _of_run(StudyFolder(run), which)
    return Network(text.upper(), _fresh(_config(text), seed), trained=False)


def _config(text: str) -> ModelConfig:
    if text.upper() in PRESETS:
        return PRESETS[text.upper()].config
    try:
        return parse_variant(text).config()
    except ValueError as error:
        if text.replace("-", "").isdigit():
            raise
        raise ValueError(f"no network is called {text!r}: wanted {WANTED}") from error


def _fresh(config: ModelConfig, seed: int) -> InternImage:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return InternImage(config).eval().requires_grad_(False)


def _of_file(path: Path) -> Network:
    official = path.suffix in (".pth", ".pt", ".bin")
    model = load_official(path) if official else load_weights(path)
    return Network(path.stem, model.eval().requires_grad_(False), trained=True)


def _of_run(study: StudyFolder, which: str) -> Network:
    folder = study.trial(_best(study) if which == "best" else _one_of(study, which))
    trial, found = folder.trial(), folder.load_checkpoint()
    if found is None:
        raise ValueError(f"{folder.path} has no checkpoint: train it with the command of its run")
    dataset = load(trial.data.name)
    return Network(
        label=trial.variant.name,
        model=_with_weights(trial, found[1], folder),
        trained=True,
        image_size=trial.recipe.image_size,
        mean=dataset.mean,
        std=dataset.std,
        trial=trial,
    )


def _with_weights(trial: Trial, state: dict[str, object], folder: TrialFolder) -> InternImage:
    """The weights that its record was measured with: averaged ones, where the recipe averages."""
    weights = state["model"] if state["average"] is None else state["average"]
    assert isinstance(weights, dict)
    # AveragedModel wraps the network as `module` and adds a count.
    named = {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}
    config = trained_config(trial.variant, trial.recipe, trial.data.num_classes)
    return assemble(config, named, False, folder.path).requires_grad_(False)


def _best(study: StudyFolder) -> str:
    """The best training of the network that the run calls best, as `archsearch train` does."""
    from archsearch.reproduce import cell_of
    from archsearch.results import load as results_of

    by = metric(study.study().metric)
    found = {t.trial.id: t.value(by) for t in cell_of(results_of(study.path), "best").trials}
    merits = {i: by.merit(value) for i, value in found.items() if value is not None}
    return max(merits, key=lambda i: merits[i])


def _one_of(study: StudyFolder, which: str) -> str:
    """The only trial whose id begins like this."""
    fitting = [i for i in study.ids() if which and i.startswith(which)]
    if len(fitting) != 1:
        raise ValueError(
            f"{which!r} is {'no trial' if not fitting else 'more than one trial'} of {study.path}: "
            "wanted best, or a trial's id (or how it begins) as `archsearch status` lists them"
        )
    return fitting[0]
