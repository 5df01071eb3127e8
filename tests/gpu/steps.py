"""The steps of the check. Each returns what it found in a few words, and raises Failed if something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from pipeline.records.command_line import Machine
from tests.gpu.here import CHECKOUT, Here, require, told
from tests.gpu.waves import draw_waves


class Step(NamedTuple):
    """A step of the check.

    work: the function
    seconds: its time limit on a GPU
    after: steps whose files it reads
    alone: True if nothing else may run at the same time, since it is timed
    """

    work: Callable[[Here], str]
    seconds: int
    after: tuple[str, ...]
    alone: bool


STEPS: dict[str, Step] = {}


def step(seconds: int, *after: str, alone: bool = False) -> Callable:
    """Registers a function as a step; see Step."""

    def register(work: Callable[[Here], str]) -> Callable[[Here], str]:
        STEPS[work.__name__] = Step(work, seconds, after, alone)
        return work

    return register


@step(60)
def machine(here: Here) -> str:
    """What the machine has; the device must be there."""
    import torch

    if not here.on_gpu:
        return f"torch {torch.__version__}, {os.cpu_count()} cores"
    require(torch.cuda.is_available(), f"torch {torch.__version__} finds no GPU")
    gpu = torch.cuda.get_device_properties(torch.device(here.device))
    software = f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    return f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {software}, {os.cpu_count()} cores"


@step(120)
def digits(here: Here) -> str:
    """The digits to their CSV, five folds, as a user does it."""
    home = here.root / "data" / "digits"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "data" / "digits" / "competition.toml", home)
    settings = ["SET=epochs=1"] if here.tiny else []
    here.run("pipeline", "submit", f"DEVICE={here.device}", *settings)
    [path] = (here.root / "submissions" / "digits").glob("*.csv")
    [record] = home.glob("runs/*/score.json")
    score = json.loads(record.read_text())["cv_score"]
    require(here.tiny or score > 0.985, f"the out-of-fold accuracy is {score:.4f}; on a CPU it is 0.995")
    return f"{len(pd.read_csv(path))} rows, out-of-fold accuracy {score:.4f}"


@step(300)
def tests(here: Here) -> str:
    """The tests of the learner and of the pixels, on this device."""
    some = ["tests/learner/test_resident.py", "tests/learner/test_arrangement.py"]
    folders = some if here.tiny else ["tests/learner", "tests/pixels"]
    words = ["-n", "1" if here.tiny else "8", "--dist", "loadgroup", "-p", "no:cacheprovider", "--tb=short"]
    device, _, number = here.device.partition(":")
    shown = number or os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    said = here.run("pytest", *words, *folders, FOLDWISE_TEST_DEVICE=device, CUDA_VISIBLE_DEVICES=shown)
    return said.strip().splitlines()[-1].strip("= ")


@step(90, "digits")
def types(here: Here) -> str:
    """float16 with loss scaling, parts, clipping and a moving average; float32; bfloat16."""
    epochs, found = 1 if here.tiny else 6, []
    for settings, dtype in (
        ("amp=fp16 accumulate=2 clip_grad=1 ema_decay=0.95", "float16"),
        ("amp=off", "float32"),
        ("amp=bf16 optimizer=sgd lr=0.05", "bfloat16"),
    ):
        facts = here.train("digits", "digits", f"epochs={epochs} {settings}")
        require(not here.on_gpu or facts["dtype"] == dtype, f"{settings} gave {facts['dtype']}")
        score = facts["last_epoch"]["val_score"]
        require(here.tiny or score > 0.9, f"{settings}: the accuracy is {score:.4f}")
        found.append(told(facts))
    return "; ".join(found)


@step(60, "digits")
def classify(here: Here) -> str:
    """A prediction shown as a picture, with a heat map."""
    image = min((here.root / "data" / "digits" / "images").rglob("test/*.png"))
    settings = ["SET=epochs=1"] if here.tiny else []
    said = here.run("pipeline", "classify", f"IMAGE={image}", f"DEVICE={here.device}", *settings)
    return said.strip().splitlines()[-1][:120]


@step(90)
def waves(here: Here) -> str:
    """Draws the made-up photographs, and prepares them up to the folds."""
    numbers = (80, 10, 96) if here.tiny else (2400, 100, 400)
    draw_waves(here.root / "data" / "wave", *numbers)
    here.run("pipeline", "folds", "COMPETITION=wave")
    return f"{numbers[0]} train and {numbers[1]} test images of {numbers[2]} px"


def sizes(here: Here, epochs: int = 0) -> str:
    """Settings of a short training on the waves."""
    size = "batch_size=16 image_size=32" if here.tiny else "batch_size=64 image_size=64"
    return f"epochs={epochs or (3 if here.tiny else 8)} {size}"


def same_bits(here: Here, recipe: str, settings: str, *more: str, patch: str = "") -> str:
    """Trains undisturbed, again, and interrupted; raises Failed unless the weights are the same."""
    folder, weights = here.fold("wave", recipe, settings).parent, []
    for attempt in (here.train, here.train, here.interrupted):
        shutil.rmtree(folder, ignore_errors=True)
        facts = attempt("wave", recipe, settings, *more, patch=patch)
        weights.append(facts["weights_sha256"][:8])
    require(len(set(weights)) == 1, f"undisturbed {weights[0]}, again {weights[1]}, interrupted {weights[2]}")
    return f"{told(facts)}; the same bits again, and after an interruption"


@step(120, "waves")
def resume(here: Here) -> str:
    """DETERMINISTIC=1, images on the device: the same bits, whatever interrupts."""
    return same_bits(here, "resnet18_sprint", sizes(here), "--deterministic")


@step(120, "waves")
def resume_from_the_host(here: Here) -> str:
    """The same with the host's loader, mixing, sizes that grow, and a moving average."""
    return same_bits(here, "resnet18", f"{sizes(here)} ema_decay=0.98", "--deterministic")


@step(120, "waves")
def resume_freely(here: Here) -> str:
    """Without DETERMINISTIC=1 an interrupted fold ends well; whether with the same bits is only told."""
    settings = f"{sizes(here)} seed=1"
    before = here.train("wave", "resnet18_sprint", settings)
    shutil.rmtree(here.fold("wave", "resnet18_sprint", settings).parent)
    after = here.interrupted("wave", "resnet18_sprint", settings)
    same = "the same bits" if before["weights_sha256"] == after["weights_sha256"] else "other bits, which may be here"
    return f"undisturbed {told(before)}; interrupted {told(after)}: {same}"


@step(90, "waves")
def pools(here: Here) -> str:
    """DETERMINISTIC=1 with every network whose pools are its own."""
    models = ("cifar_net", "lenet", "cnn_batchnorm")
    for model in models:
        here.train("wave", "tiny", f"epochs=1 image_size=40 model_args={{}} model={model}", "--deterministic")
    return ", ".join(models)


#: Compiles every training, however short; on a CPU by a backend that needs no C compiler.
COMPILE = "import pipeline.learner.arrangement as a, pipeline.learner.compiling as c; a.COMPILE_FROM = 0"
COMPILE_ON_CPU = f"{COMPILE}; a.COMPILE_ON = ('cpu',); a.SPLIT_BATCH_ON = ('cpu',); c.BACKEND = 'aot_eager'"


@step(200, "waves")
def compiled(here: Here) -> str:
    """Compiled, with sizes that grow; interrupted, it runs the same graphs and ends with the same bits."""
    settings = f"{sizes(here)} start_scale=0.5 seed=2" + (" model=small_cnn" if here.tiny else "")
    patch = COMPILE if here.on_gpu else COMPILE_ON_CPU
    found = same_bits(here, "resnet18_sprint", settings, "--deterministic", patch=patch)
    require("compiled" in found, "it was not compiled; the log says why")
    return found


def images_per_second(here: Here, model: str, side: int, batch: int) -> str:
    """The rates of the training loop and of a plain loop, in one process."""
    from tests.gpu.rates import job_for, ours, plain

    machine = Machine(device=here.device, threads=0 if here.on_gpu else here.cores)
    seconds = 0.5 if here.tiny else 3.0
    job = job_for(model, side, batch, [], machine)
    jitter = job_for(model, side, batch, ["augment.color_jitter.p=0.8", "augment.erase.p=0.25"], machine)
    found = {
        "plain loop, synthetic": plain(model, side, batch, seconds, machine),
        "ours, synthetic": ours(job, seconds, True),
        "real, crops on the device": ours(job, seconds, False),
        "real, loader processes": ours(job, seconds, False, keep=False),
        "real, loader processes, jitter and erasing": ours(jitter, seconds, False, keep=False),
    }
    best = max(found["real, crops on the device"], found["real, loader processes"])
    return "; ".join(f"{name} {rate:,.0f}" for name, rate in found.items()) + (
        f" images/s; ours / plain {found['ours, synthetic'] / found['plain loop, synthetic']:.2f}, "
        f"real / synthetic {best / found['ours, synthetic']:.2f}"
    )


@step(80, "waves", alone=True)
def rates_resnet50(here: Here) -> str:
    """ResNet-50 at 224 px."""
    return images_per_second(here, "resnet50", *((32, 4) if here.tiny else (224, 128)))


@step(70, "waves", alone=True)
def rates_resnet18(here: Here) -> str:
    """ResNet-18 at 224 px."""
    return images_per_second(here, "resnet18", *((32, 8) if here.tiny else (224, 256)))


@step(50, "waves", alone=True)
def small_steps(here: Here) -> str:
    """ResNet-18 at 64 px and batch 64, where the host is the limit; and no step waits for the GPU unseen."""
    from tests.gpu.rates import hidden_waits, job_for, ours, plain

    machine = Machine(device=here.device, threads=0 if here.on_gpu else here.cores)
    side, batch, seconds = (32, 8, 0.5) if here.tiny else (64, 64, 3.0)
    job = job_for("resnet18", side, batch, ["ema_decay=0.99", "clip_grad=1"], machine)
    ms = [1e3 * batch / rate for rate in (plain("resnet18", side, batch, seconds, machine), ours(job, seconds, False))]
    waits = hidden_waits(job)
    require(not waits, f"a step waits for the GPU at {', '.join(waits)}")
    return f"a step: plain loop {ms[0]:.2f} ms, ours with real images {ms[1]:.2f} ms; no hidden wait"


@step(100, "waves", alone=True)
def five_folds(here: Here) -> str:
    """Five folds side by side against one, with all that a user waits for."""
    settings, walls = sizes(here, 1 if here.tiny else 10), []
    for folds, seed in (("FOLD=0", 5), ("FOLDS=0,1,2,3,4", 6)):
        began = time.monotonic()
        here.run("pipeline", "train", "COMPETITION=wave", f"SET={settings} seed={seed}", f"DEVICE={here.device}", folds)
        walls.append(time.monotonic() - began)
    return f"one fold {walls[0]:.1f} s, five {walls[1]:.1f} s: {walls[1] / walls[0]:.2f} times as long"


@step(90, "waves")
def strong(here: Here) -> str:
    """Two epochs of gpu_strong."""
    small = "batch_size=16 image_size=64 model=resnet18d" if here.tiny else "batch_size=64"
    return told(here.train("wave", "gpu_strong", f"epochs=2 {small}"))


@step(90, "waves")
def memory(here: Here) -> str:
    """A batch that does not fit a twentieth of the memory goes in parts, in training and in validation."""
    large = "batch_size=64 image_size=64" if here.tiny else "batch_size=768 image_size=224"
    settings = f"epochs=1 {large} seed=3"
    patch = f"import torch; torch.cuda.set_per_process_memory_fraction(0.05, torch.device({here.device!r}))"
    facts = here.train("wave", "resnet18_sprint", settings, patch=patch if here.on_gpu else "")
    require(not here.on_gpu or facts["parts"] > 1, "the batch was not split")
    return f"{facts['parts']} parts; {told(facts)}"


@step(90, "waves")
def ranks(here: Here) -> str:
    """Two processes for one fold: refused on one GPU, in one sentence; fine on a CPU."""
    words = ["pipeline.tools.ranks", "2", "train", "--competition", "wave", "--recipe", "tiny", "--fold", "0"]
    here.run(*words, "--device", "cpu", "--threads", str(here.cores), "--set", "epochs=1", "seed=2")
    if here.on_gpu:
        import torch

        if torch.cuda.device_count() > 1:
            here.run(*words, "--set", "epochs=1", "seed=3")
            return "two processes on the CPU, and on two GPUs"
        said = here.run(*words, "--set", "epochs=1", "seed=3", status=1)
        require("2 GPUs were asked for and this machine has 1" in said, "the refusal does not say why")
    return "two processes on the CPU" + ("; refused on one GPU" if here.on_gpu else "")
