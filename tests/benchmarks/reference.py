"""The seed-style reference: what a copied notebook does. Pillow opens, torchvision resizes, everything else is default.

    python -m tests.benchmarks.reference fold --folds data/.../folds.csv --images data/.../images --fold 0

``fold`` trains one fold as the notebook would and prints one line of JSON; the parts serve bench.py too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PictureFolder(Dataset):
    """Pictures opened, resized, made float and normalised one by one, each time anew."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], side: int) -> None:
        self.files, self.labels, self.side = files, labels, side
        self.transform = T.Compose([T.Resize((side, side)), T.ToTensor(), T.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[row]).convert("RGB")), self.labels[row]


def make_step(model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model and Adam at 1e-3, as they come."""
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
    """One default step; the loss is asked for at once, as notebooks do."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def predict(model: nn.Module, loader: DataLoader) -> torch.Tensor:
    """Probabilities (N, C), in the loader's order."""
    model.eval()
    return torch.cat([model(images).softmax(1) for images, _ in loader])


def rows_of(folds: pd.DataFrame, images: Path) -> tuple[list[Path], list[int]]:
    """Files and class indices of rows of folds.csv."""
    return [images / f"{name}.jpg" for name in folds["image_id"]], (folds["label"] == "dog").astype(int).tolist()


def train_fold(
    folds: pd.DataFrame, images: Path, fold: int, side: int, epochs: int, seed: int
) -> tuple[nn.Module, float]:
    """The notebook's loop over one fold: the model and the accuracy of the last epoch."""
    torch.manual_seed(seed)
    train = DataLoader(PictureFolder(*rows_of(folds[folds["fold"] != fold], images), side), 64, shuffle=True)
    val = PictureFolder(*rows_of(folds[folds["fold"] == fold], images), side)
    model, optimizer = make_step(timm.create_model("resnet18", num_classes=2))
    accuracy = 0.0
    for _ in range(epochs):
        model.train()
        for pictures, labels in train:
            train_step(model, optimizer, pictures, labels)
        probs = predict(model, DataLoader(val, 64))
        accuracy = float((probs.argmax(1) == torch.tensor(val.labels)).float().mean())
    return model, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fold", "five"])
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folds = pd.read_csv(args.folds, dtype={"image_id": str})
    began, cpu = time.perf_counter(), time.process_time()
    accuracies, test_probs = [], []
    for fold in [args.fold] if args.what == "fold" else range(5):
        model, accuracy = train_fold(folds, args.images / "train", fold, 64, args.epochs, args.seed)
        accuracies.append(accuracy)
        if args.what == "five":
            files = sorted((args.images / "test").glob("*.jpg"), key=lambda path: int(path.stem))
            test = DataLoader(PictureFolder(files, [0] * len(files), 64), 64)
            test_probs.append(predict(model, test))
    if test_probs:
        table = pd.DataFrame({"id": [path.stem for path in files], "label": torch.stack(test_probs).mean(0)[:, 1]})
        table.to_csv(args.folds.parent / "reference.csv", index=False)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    print(json.dumps({"accuracy": sum(accuracies) / len(accuracies), **seconds}))


if __name__ == "__main__":
    main()
