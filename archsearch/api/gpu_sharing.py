"""Several trainings on each GPU, where the estimate says that they fit and leave idle time."""

from dataclasses import replace
from typing import TYPE_CHECKING

from archsearch.api.live import say
from archsearch.api.options import Launch

if TYPE_CHECKING:
    from archsearch.running.estimate import Estimate
    from archsearch.storage.study_folder import StudyFolder


def share_gpus(folder: "StudyFolder", launch: Launch, estimate: "Estimate | None") -> Launch:
    """Return the options with a number of workers for which several share each GPU, if that is
    expected to be faster; a given number of workers stays, and so do other runners than local."""
    from archsearch.running.gpu_sharing import trainings_per_gpu
    from archsearch.running.runners import gpus_of
    from archsearch.training import machine

    if estimate is None or launch.workers is not None or launch.runner not in ("auto", "local"):
        return launch
    trials = folder.trials()
    gpus = gpus_of(launch.resources(trials[0].recipe.threads))
    free_bytes = machine.free_gpu_bytes(gpus)
    if free_bytes is None:
        return launch
    cores = machine.cores() // (len(gpus) * trials[0].recipe.threads)
    per_gpu = trainings_per_gpu(estimate, trials, free_bytes, cores)
    if per_gpu == 1:
        return launch
    say(
        f"{per_gpu} trainings share each GPU, which the estimate does not count; "
        f"--workers {len(gpus)} gives each its own"
    )
    return replace(launch, workers=per_gpu * len(gpus))
