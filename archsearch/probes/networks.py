"""A network to look at: untrained by its name, or with the weights of a training or a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from archsearch.families.internimage import InternImageFamily, parse_network
from archsearch.networks import NetworkName, trial_named
from archsearch.probes.photos import Photo
from archsearch.results import load
from archsearch.running.train_full import measured_weights
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Trial
from archsearch.training.augmentation import to_float
from archsearch.training.data import load as load_data
from internimage.config import ModelConfig
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
    name = NetworkName.parse(text)
    if name.run is not None:
        return _of_run(name.run, name.which)
    try:
        config = parse_network(text).config()
    except ValueError as error:
        if text.replace("-", "").isdigit():
            raise
        raise ValueError(f"no network is called {text!r}: wanted {WANTED}") from error
    return Network(text.upper(), _fresh(config, seed), trained=False)


def _fresh(config: ModelConfig, seed: int) -> InternImage:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return InternImage(config).eval().requires_grad_(False)


def _of_file(path: Path) -> Network:
    official = path.suffix in (".pth", ".pt", ".bin")
    model = load_official(path) if official else load_weights(path)
    return Network(path.stem, model.eval().requires_grad_(False), trained=True)


def _of_run(run: Path, which: str) -> Network:
    trial = trial_named(load(run), which).trial
    folder = StudyFolder(run).trial(trial.id)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise ValueError(f"{folder.path} has no checkpoint: train it with the command of its run")
    dataset = load_data(trial.data.name)
    return Network(
        label=trial.variant.name,
        model=_with_weights(trial, checkpoint[1], folder),
        trained=True,
        image_size=trial.recipe.image_size,
        mean=dataset.mean,
        std=dataset.std,
        trial=trial,
    )


def _with_weights(trial: Trial, state: dict[str, object], folder: TrialFolder) -> InternImage:
    assert isinstance(trial.variant, InternImageFamily)
    config = trial.variant.config_for(trial.data.num_classes, trial.recipe)
    model = assemble(config, measured_weights(state), False, folder.path)
    return model.requires_grad_(False)
