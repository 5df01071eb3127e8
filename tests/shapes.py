"""Stand-ins with the files, names and columns of well-known Kaggle competitions, each with a few tiny images."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import py7zr
from PIL import Image

from tests.archives import zip_of
from tests.formats.test_dicom import dicom

Files = dict[str, bytes]
SHAPES: dict[str, Callable[[], Files]] = {}


def shape(function: Callable[[], Files]) -> Callable[[], Files]:
    """Registers a function that returns the files of raw/, by its name with hyphens."""
    SHAPES[function.__name__.replace("_", "-")] = function
    return function


def picture(number: int, format: str = "JPEG") -> bytes:
    """The bytes of a tiny image of its own."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def csv(header: str, rows: Iterable[tuple[object, ...]]) -> bytes:
    return "".join(f"{line}\n" for line in [header, *(",".join(map(str, row)) for row in rows)]).encode()


def hexid(number: int, length: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:length]


def seven_zip(files: Files) -> bytes:
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return buffer.getvalue()


def pictures(names: Iterable[str], format: str = "JPEG", first: int = 0) -> Files:
    return {name: picture(number, format) for number, name in enumerate(names, start=first)}


TRAIN, TEST = range(20), range(100, 106)


@shape
def dogs_vs_cats_redux_kernels_edition() -> Files:
    train = pictures(f"train/{('cat', 'dog')[n % 2]}.{n}.jpg" for n in TRAIN)
    sample = csv("id,label", ((n, 0.5) for n in range(1, 7)))
    files = {"train.zip": zip_of(train), "test.zip": zip_of(pictures((f"test/{n}.jpg" for n in range(1, 7)), first=50))}
    return {"dogs-vs-cats-redux.zip": zip_of({**files, "sample_submission.csv": sample})}


@shape
def dog_breed_identification() -> Files:
    breeds = [f"breed_{n}" for n in range(4)]
    files = pictures(f"train/{hexid(n, 32)}.jpg" for n in TRAIN) | pictures(
        (f"test/{hexid(n, 32)}.jpg" for n in TEST), first=50
    )
    files["labels.csv"] = csv("id,breed", ((hexid(n, 32), breeds[n % 4]) for n in TRAIN))
    files["sample_submission.csv"] = csv("id," + ",".join(breeds), ((hexid(n, 32), *[0.25] * 4) for n in TEST))
    return {"dog-breed-identification.zip": zip_of(files)}


@shape
def plant_pathology_2020() -> Files:
    header = "image_id,healthy,multiple_diseases,rust,scab"
    files = pictures(f"images/Train_{n}.jpg" for n in TRAIN) | pictures(
        (f"images/Test_{n}.jpg" for n in TEST), first=50
    )
    files["train.csv"] = csv(header, ((f"Train_{n}", *[int(n % 4 == k) for k in range(4)]) for n in TRAIN))
    files["test.csv"] = csv("image_id", ((f"Test_{n}",) for n in TEST))
    files["sample_submission.csv"] = csv(header, ((f"Test_{n}", *[0.25] * 4) for n in TEST))
    return {"plant-pathology-2020-fgvc7.zip": zip_of(files)}


@shape
def plant_pathology_2021() -> Files:
    labels = ["healthy", "scab", "rust", "complex", "scab rust", "rust complex", "scab complex"]
    files = pictures(f"train_images/{hexid(n, 16)}.jpg" for n in range(28))
    files |= pictures((f"test_images/{hexid(n, 16)}.jpg" for n in TEST), first=50)
    files["train.csv"] = csv("image,labels", ((f"{hexid(n, 16)}.jpg", labels[n % 7]) for n in range(28)))
    files["sample_submission.csv"] = csv("image,labels", ((f"{hexid(n, 16)}.jpg", "healthy") for n in TEST))
    return {"plant-pathology-2021-fgvc8.zip": zip_of(files)}


@shape
def cassava_leaf_disease_classification() -> Files:
    files = pictures(f"train_images/{1000015157 + 79 * n}.jpg" for n in TRAIN)
    files["test_images/2216849948.jpg"] = picture(50)
    files["train.csv"] = csv("image_id,label", ((f"{1000015157 + 79 * n}.jpg", n % 5) for n in TRAIN))
    files["sample_submission.csv"] = csv("image_id,label", [("2216849948.jpg", 4)])
    files |= {"train_tfrecords/ld_train00-1338.tfrec": b"x", "label_num_to_disease_map.json": b"{}"}
    return {"cassava-leaf-disease-classification.zip": zip_of(files)}


@shape
def aptos2019_blindness_detection() -> Files:
    files = pictures((f"train_images/{hexid(n, 12)}.png" for n in TRAIN), "PNG")
    files |= pictures((f"test_images/{hexid(n, 12)}.png" for n in TEST), "PNG", first=50)
    files["train.csv"] = csv("id_code,diagnosis", ((hexid(n, 12), n % 5) for n in TRAIN))
    files["test.csv"] = csv("id_code", ((hexid(n, 12),) for n in TEST))
    files["sample_submission.csv"] = csv("id_code,diagnosis", ((hexid(n, 12), 0) for n in TEST))
    return {"aptos2019-blindness-detection.zip": zip_of(files)}


@shape
def histopathologic_cancer_detection() -> Files:
    files = pictures((f"train/{hexid(n, 40)}.tif" for n in TRAIN), "TIFF")
    files |= pictures((f"test/{hexid(n, 40)}.tif" for n in TEST), "TIFF", first=50)
    files["train_labels.csv"] = csv("id,label", ((hexid(n, 40), n % 2) for n in TRAIN))
    files["sample_submission.csv"] = csv("id,label", ((hexid(n, 40), 0) for n in TEST))
    return {"histopathologic-cancer-detection.zip": zip_of(files)}


@shape
def siim_isic_melanoma_classification() -> Files:
    files = pictures(f"jpeg/train/ISIC_{n:07}.jpg" for n in TRAIN)
    files |= pictures((f"jpeg/test/ISIC_{n:07}.jpg" for n in TEST), first=50)
    header = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    rows = ((f"ISIC_{n:07}", f"IP_{n // 3}", "male", 45.0, "torso", "nevus", "benign", n % 2) for n in TRAIN)
    files["train.csv"] = csv(header, rows)
    files["test.csv"] = csv("image_name,patient_id,sex", ((f"ISIC_{n:07}", f"IP_{n}", "male") for n in TEST))
    files["sample_submission.csv"] = csv("image_name,target", ((f"ISIC_{n:07}", 0) for n in TEST))
    return {"siim-isic-melanoma-classification.zip": zip_of(files)}


@shape
def humpback_whale_identification() -> Files:
    whales = ["new_whale"] * 8 + [f"w_{hexid(n // 2, 7)}" for n in range(12)]
    files = pictures(f"train/{hexid(n, 8)}.jpg" for n in TRAIN) | pictures(
        (f"test/{hexid(n, 8)}.jpg" for n in TEST), first=50
    )
    files["train.csv"] = csv("Image,Id", ((f"{hexid(n, 8)}.jpg", whales[n]) for n in TRAIN))
    guesses = "new_whale w_1287fbc w_98baff9 w_7554f44 w_1eafe46"
    files["sample_submission.csv"] = csv("Image,Id", ((f"{hexid(n, 8)}.jpg", guesses) for n in TEST))
    return {"humpback-whale-identification.zip": zip_of(files)}


@shape
def cifar_10() -> Files:
    train = seven_zip(pictures((f"train/{n}.png" for n in range(1, 21)), "PNG"))
    test = seven_zip(pictures((f"test/{n}.png" for n in range(1, 7)), "PNG", first=50))
    labels = csv("id,label", ((n, ("cat", "dog", "ship")[n % 3]) for n in range(1, 21)))
    sample = csv("id,label", ((n, "cat") for n in range(1, 7)))
    files = {"train.7z": train, "test.7z": test, "trainLabels.csv": labels, "sampleSubmission.csv": sample}
    return {"cifar-10.zip": zip_of(files)}


@shape
def digit_recognizer() -> Files:
    header = ",".join(f"pixel{n}" for n in range(64))
    values = np.random.default_rng(0).integers(0, 256, (26, 64))
    train = csv(f"label,{header}", ((n % 10, *values[n]) for n in TRAIN))
    sample = csv("ImageId,Label", ((n, 0) for n in range(1, 7)))
    return {"digit-recognizer.zip": zip_of(
        {"train.csv": train, "test.csv": csv(header, map(tuple, values[20:])), "sample_submission.csv": sample}
    )}  # fmt: skip


@shape
def petfinder_pawpularity_score() -> Files:
    meta = "Subject Focus,Eyes,Face,Near,Group"
    files = pictures(f"train/{hexid(n, 32)}.jpg" for n in range(40))
    files |= pictures((f"test/{hexid(n, 32)}.jpg" for n in TEST), first=50)
    files["train.csv"] = csv(
        f"Id,{meta},Pawpularity", ((hexid(n, 32), *[n >> k & 1 for k in range(5)], 1 + n * 37 % 99) for n in range(40))
    )
    files["test.csv"] = csv(f"Id,{meta}", ((hexid(n, 32), *[1] * 5) for n in TEST))
    files["sample_submission.csv"] = csv("Id,Pawpularity", ((hexid(n, 32), 65.03) for n in TEST))
    return {"petfinder-pawpularity-score.zip": zip_of(files)}


@shape
def aerial_cactus_identification() -> Files:
    train = pictures(f"train/{hexid(n, 32)}.jpg" for n in TRAIN)
    test = pictures((f"test/{hexid(n, 32)}.jpg" for n in TEST), first=50)
    files = {"train.zip": zip_of(train), "test.zip": zip_of(test)}
    files["train.csv"] = csv("id,has_cactus", ((f"{hexid(n, 32)}.jpg", n % 2) for n in TRAIN))
    files["sample_submission.csv"] = csv("id,has_cactus", ((f"{hexid(n, 32)}.jpg", 0.5) for n in TEST))
    return {"aerial-cactus-identification.zip": zip_of(files)}


@shape
def paddy_disease_classification() -> Files:
    kinds = ["blast", "hispa", "normal", "tungro"]
    files = pictures(f"train_images/{kinds[n % 4]}/{100001 + n}.jpg" for n in TRAIN)
    files |= pictures((f"test_images/{200001 + n}.jpg" for n in range(6)), first=50)
    rows = ((f"{100001 + n}.jpg", kinds[n % 4], "ADT45", 45 + n) for n in TRAIN)
    files["train.csv"] = csv("image_id,label,variety,age", rows)
    files["sample_submission.csv"] = csv("image_id,label", ((f"{200001 + n}.jpg", "") for n in range(6)))
    return {"paddy-disease-classification.zip": zip_of(files)}


@shape
def state_farm_distracted_driver_detection() -> Files:
    kinds = [f"c{n}" for n in range(4)]
    files = pictures(f"imgs/train/{kinds[n % 4]}/img_{n}.jpg" for n in range(40))
    files |= pictures((f"imgs/test/img_{n}.jpg" for n in TEST), first=50)
    rows = ((f"p{n // 8:03}", kinds[n % 4], f"img_{n}.jpg") for n in range(40))
    files["driver_imgs_list.csv"] = csv("subject,classname,img", rows)
    files["sample_submission.csv"] = csv("img," + ",".join(kinds), ((f"img_{n}.jpg", *[0.25] * 4) for n in TEST))
    return {"state-farm-distracted-driver-detection.zip": zip_of(files)}


@shape
def invasive_species_monitoring() -> Files:
    files = {"train.7z": seven_zip(pictures(f"train/{n}.jpg" for n in range(1, 21)))}
    files["test.7z"] = seven_zip(pictures((f"test/{n}.jpg" for n in range(1, 7)), first=50))
    tables = {
        "train_labels.csv": csv("name,invasive", ((n, n % 2) for n in range(1, 21))),
        "sample_submission.csv": csv("name,invasive", ((n, 0.5) for n in range(1, 7))),
    }
    for name, content in tables.items():
        files[f"{name}.zip"] = zip_of({name: content, f"__MACOSX/._{name}": b"x"})
    return files


@shape
def plant_seedlings_classification() -> Files:
    kinds = ["Black-grass", "Charlock", "Common Chickweed"]
    files = pictures((f"train/{kinds[n % 3]}/{hexid(n, 9)}.png" for n in range(21)), "PNG")
    files |= pictures((f"test/{hexid(n, 9)}.png" for n in TEST), "PNG", first=50)
    files["sample_submission.csv"] = csv("file,species", ((f"{hexid(n, 9)}.png", "Sugar beet") for n in TEST))
    return {"plant-seedlings-classification.zip": zip_of(files)}


@shape
def leaf_classification() -> Files:
    species = [f"Acer_{hexid(n, 5)}" for n in range(5)]
    features = ",".join(f"{kind}{n}" for kind in ("margin", "shape", "texture") for n in range(1, 65))
    train, test = [n for n in range(1, 26) if n % 5], [n for n in range(1, 26) if not n % 5]
    tables = {
        "train.csv": csv(f"id,species,{features}", ((n, species[n % 5 % 4], *["0.01"] * 192) for n in train)),
        "test.csv": csv(f"id,{features}", ((n, *["0.01"] * 192) for n in test)),
        "sample_submission.csv": csv("id," + ",".join(species[:4]), ((n, *[0.25] * 4) for n in test)),
    }
    files = {f"{name}.zip": zip_of({name: content}) for name, content in tables.items()}
    files["images.zip"] = zip_of(pictures(f"images/{n}.jpg" for n in [*train, *test]))
    return {"leaf-classification.zip": zip_of(files)}


@shape
def ubc_ocean() -> Files:
    kinds, files = ["CC", "EC", "HGSC"], {}
    for n in range(21):
        files[f"train_thumbnails/{n + 4}_thumbnail.png"] = files[f"train_images/{n + 4}.png"] = picture(n, "PNG")
    files["test_thumbnails/41_thumbnail.png"] = files["test_images/41.png"] = picture(50, "PNG")
    header = "image_id,label,image_width,image_height,is_tma"
    files["train.csv"] = csv(header, ((n + 4, kinds[n % 3], 12, 9, "False") for n in range(21)))
    files["test.csv"] = csv("image_id,image_width,image_height", [(41, 12, 9)])
    files["sample_submission.csv"] = csv("image_id,label", [(41, "HGSC")])
    return {"UBC-OCEAN.zip": zip_of(files)}


@shape
def ranzcr_clip_catheter_line_classification() -> Files:
    lines = ["ETT - Abnormal", "ETT - Normal", "Swan Ganz Catheter Present"]
    uids = {n: f"1.2.826.0.1.3680043.8.498.{int(hexid(n, 12), 16)}" for n in [*TRAIN, *TEST]}
    files = pictures(f"train/{uids[n]}.jpg" for n in TRAIN) | pictures((f"test/{uids[n]}.jpg" for n in TEST), first=50)
    rows = ((uids[n], *[n >> k & 1 for k in range(3)], hexid(n // 3, 9)) for n in TRAIN)
    files["train.csv"] = csv("StudyInstanceUID," + ",".join(lines) + ",PatientID", rows)
    files["sample_submission.csv"] = csv("StudyInstanceUID," + ",".join(lines), ((uids[n], 0, 0, 0) for n in TEST))
    return {"ranzcr-clip-catheter-line-classification.zip": zip_of(files)}


@shape
def the_nature_conservancy_fisheries_monitoring() -> Files:
    kinds = ["ALB", "BET", "NoF", "YFT"]
    ids = [f"img_{900 + n:05}.jpg" for n in range(5)], [f"test_stg2/image_{n:05}.jpg" for n in range(1, 6)]
    sample = csv("image," + ",".join(kinds), ((name, *[0.25] * 4) for name in [*ids[0], *ids[1]]))
    return {
        "train.zip": zip_of(pictures(f"train/{kinds[n % 4]}/img_{n:05}.jpg" for n in range(24))),
        "test_stg1.zip": zip_of(pictures((f"test_stg1/{name}" for name in ids[0]), first=50)),
        "test_stg2.zip": zip_of(pictures(ids[1], first=60)),
        "sample_submission_stg2.csv.zip": zip_of({"sample_submission_stg2.csv": sample}),
    }


@shape
def planet_understanding_the_amazon_from_space() -> Files:
    tags, files = ["clear primary", "clear water", "cloudy", "haze primary", "haze water", "clear"], {}
    for split, first, number in (("train", 0, 24), ("test", 50, 6)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for n in range(number):
                content, info = picture(first + n), tarfile.TarInfo(f"{split}-jpg/{split}_{n}.jpg")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        files[f"{split}-jpg.tar.7z"] = seven_zip({f"{split}-jpg.tar": buffer.getvalue()})
    labels = csv("image_name,tags", ((f"train_{n}", tags[n % 6]) for n in range(24)))
    sample = csv("image_name,tags", ((f"test_{n}", "primary clear haze") for n in range(6)))
    files["train_v2.csv.zip"] = zip_of({"train_v2.csv": labels})
    files["sample_submission_v2.csv.zip"] = zip_of({"sample_submission_v2.csv": sample})
    return files


@shape
def dicom_in_folders() -> Files:
    """As rsna-pneumonia has them, but with a label for each image."""
    files = {f"stage_2_train_images/{hexid(n, 32)}.dcm": dicom(WindowCenter=2000 + n, WindowWidth=900) for n in TRAIN}
    files |= {f"stage_2_test_images/{hexid(n, 32)}.dcm": dicom(WindowCenter=500 + n, WindowWidth=900) for n in TEST}
    # A patient with several boxes has several rows.
    rows = [(hexid(n, 32), n % 2) for n in TRAIN for _ in range(1 + n % 2)]
    files["stage_2_train_labels.csv"] = csv("patientId,Target", rows)
    files["stage_2_sample_submission.csv"] = csv("patientId,Target", ((hexid(n, 32), 0.5) for n in TEST))
    return {"rsna.zip": zip_of(files)}


def put(files: Files, raw: Path) -> None:
    """Writes the files into raw/."""
    for name, content in files.items():
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
