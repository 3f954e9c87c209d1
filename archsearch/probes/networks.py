"""The networks to probe: untrained by name, or with the weights of a training or a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from archsearch.families.internimage import InternImageFamily, parse_network
from archsearch.networks import NetworkName, find_trial
from archsearch.probes.photos import Photo
from archsearch.results import load
from archsearch.running.weights import measured_weights
from archsearch.storage.study_folder import StudyFolder, TrialFolder
from archsearch.study import Trial
from archsearch.training.augmentation import to_float
from archsearch.training.data import load as load_data
from archsearch.training.images import IMAGENET_MEAN, IMAGENET_STD
from internimage.config import ModelConfig
from internimage.model import InternImage
from internimage.official import load_official
from internimage.weights import assemble, load_weights

NAME_FORMS = (
    "T, S, B, L, XL or H, four numbers (64-16-4-18), RUN:best, RUN:TRIAL, "
    "our .safetensors file or a released .pth file"
)


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, with frozen weights, and the preparation of its images.

    ``mean`` and ``std`` are per channel of images in 0..1; one channel means that the network was
    trained on gray images. ``trial`` is its training if that is one of a run.
    """

    label: str
    model: InternImage
    trained: bool
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    trial: Trial | None = None

    def input(self, picture: Photo) -> Tensor:
        """Return a picture as ``(1, 3, H, W)``, prepared as in training: normalized, maybe gray."""
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        if len(self.mean) == 1:
            x = x.mean(1, keepdim=True)
        return self.normalized(x).expand(-1, 3, -1, -1)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return uint8 ``(N, C, H, W)`` as normalized ``(N, 3, S, S)``; S is ``image_size``."""
        return self.normalized(to_float(pixels, self.image_size))

    def normalized(self, x: Tensor) -> Tensor:
        """Return images in 0..1, ``(N, C, H, W)``, with this network's mean and std."""
        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        return (x - mean) / std

    def untrained(self) -> "Network":
        """Return the same network before training."""
        return replace(self, model=_initialized(self.model.config), trained=False)


def open_network(text: str) -> Network:
    """Return the network of that name; `NAME_FORMS` lists the forms of a name.

    Raises:
        ValueError: if no network has that name, or its files cannot be read.
    """
    if Path(text).is_file():
        return _from_file(Path(text))
    name = NetworkName.parse(text)
    if name.run is not None:
        return _from_run(name.run, name.which)
    try:
        config = parse_network(text).config()
    except ValueError as error:
        if text.replace("-", "").isdigit():
            raise
        raise ValueError(f"no network is called {text!r}: give {NAME_FORMS}") from error
    return Network(text.upper(), _initialized(config), trained=False)


def _initialized(config: ModelConfig) -> InternImage:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return InternImage(config).eval().requires_grad_(False)


def _from_file(path: Path) -> Network:
    official = path.suffix in (".pth", ".pt", ".bin")
    model = load_official(path) if official else load_weights(path)
    return Network(path.stem, model.eval().requires_grad_(False), trained=True)


def _from_run(run: Path, which: str) -> Network:
    trial = find_trial(load(run), which).trial
    folder = StudyFolder(run).trial(trial.id)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        raise ValueError(f"{folder.path} has no checkpoint: repeat the command of its run")
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
    if not isinstance(trial.variant, InternImageFamily):
        raise ValueError(
            f"this looks into networks of InternImage, and {trial.variant.name} is a "
            f"{type(trial.variant).__name__}"
        )
    config = trial.variant.config_for(trial.data.num_classes, trial.recipe)
    model = assemble(config, measured_weights(state), False, folder.path)
    return model.requires_grad_(False)
