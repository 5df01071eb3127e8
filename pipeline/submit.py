"""Stage 7: a prediction becomes the file to upload, checked against the competition's own sample.

    make submit COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline.submit --competition dogs-vs-cats --recipe resnet18 --folds 0

Reads   runs/<run>/test.csv and score.json, the sample submission, and the test labels where they are known
Writes  submissions/<competition>/<run>.csv and <run>.json, where it came from; an older different file of that name
        is kept as <run>.<fingerprint>.csv, since it may have been uploaded
"""

from __future__ import annotations

from pipeline.records.console import answer_early, parser_for

PARSER = parser_for(__doc__, run=True, folds=True)
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

from pathlib import Path

import pandas as pd

from pipeline.records.competition import Competition, load_competition
from pipeline.records.console import make_line, paths_of, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import fingerprint, read_record, write_json, write_text
from pipeline.records.metrics import METRICS
from pipeline.records.paths import Paths, parse_folds, partial_name, shown
from pipeline.records.provenance import provenance
from pipeline.records.runs import asked_run, made_of
from pipeline.records.submission import check_sample, format_submission, submission_text
from pipeline.records.tables import one_hot, read_csv, read_manifest, require_same_ids
from pipeline.records.toml import read_toml
from pipeline.records.up_to_date import submit_target


def known_score(paths: Paths, competition: Competition, test: pd.DataFrame, names: list[str]) -> float | None:
    """The score on test labels, where [test] names them or the names of the images told them."""
    source = competition.test
    assert source is not None
    if source.labels is None and not source.names_tell_labels:
        return None
    path = paths.test_labels if source.names_tell_labels else paths.find(str(source.labels))
    known = read_csv(path)
    if known.empty:
        return None
    labels = known.set_index(known.columns[0])[known.columns[1]]
    here = test[test["id"].isin(labels.index)]
    if here.empty:
        raise FoldwiseError(f"{shown(path)} names none of the test ids, such as '{test['id'].iloc[0]}'")
    targets = one_hot(labels.loc[here["id"]].reset_index(drop=True), names).argmax(axis=1)
    return METRICS[competition.metric](targets, here[[f"p_{name}" for name in names]].to_numpy())


def keep_older(path: Path, text: str) -> None:
    """Renames a submission of other content, and its JSON, after its fingerprint."""
    if path.exists() and path.read_bytes() != text.encode():
        mark = fingerprint(path)[:8]
        for old in (path.with_name(f"{path.stem}.json"), path):  # the CSV last: until then all can be done again
            if old.exists():
                old.replace(old.with_name(f"{path.stem}.{mark}{old.suffix}"))
        say("submit", f"the older, different {path.name} is kept as {path.stem}.{mark}.csv")


def main() -> None:
    args = PARSER.parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, _ = asked_run(args, competition)
    chosen = parse_folds(args.folds, competition.folds.n)
    score_path, test_path = (
        paths.run(run) / partial_name(name, chosen, competition.folds.n, suffix)
        for name, suffix in (("score", ".json"), ("test", ".csv"))
    )
    target = submit_target(paths, read_toml(paths.toml), run, chosen, competition.folds.n)
    read = target.read_now()
    if not score_path.exists():
        raise FoldwiseError(f"the folds of {run} are not put together yet; type: {make_line('ensemble', args)}")
    score = read_record(score_path)
    form = competition.submission
    if form is None:
        say("submit", f"no test images: {run} ends with out-of-fold {score['metric']} {score['cv_score']:.4f}")
        return

    if not test_path.exists() or fingerprint(test_path) != score["test_sha256"]:
        raise FoldwiseError(
            f"{shown(test_path)} has changed since it was written; delete {shown(score_path)} and type the same again"
        )
    test = read_csv(test_path, ["id"])
    names = [column.removeprefix("p_") for column in test.columns[1:]]
    test = test.astype({f"p_{name}": float for name in names})
    manifest = read_manifest(paths.manifest)
    test_ids = manifest.loc[manifest["split"] == "test", "image_id"]
    require_same_ids(test_ids, test["id"], shown(test_path), f"type: {make_line('ensemble', args)}")
    table = format_submission(test["id"], test[[f"p_{name}" for name in names]].to_numpy(), names, form)
    sample = paths.find(form.sample) if form.sample and not paths.dry_run else None
    if sample:
        table = check_sample(table, sample, form)
    score_on_labels = known_score(paths, competition, test, names)

    path = paths.submissions / partial_name(run, chosen, competition.folds.n, ".csv")
    text = submission_text(table, form)
    keep_older(path, text)
    about = {
        "competition": paths.competition,
        "submission": path.name,
        "submission_sha256": fingerprint(text),
        "rows": len(table),
        "checked_against": sample.name if sample else None,
        "test_score": score_on_labels,
        "score": score,
        "competition_sha256": fingerprint(paths.toml),
        "made_of": made_of(paths, run),
        **provenance(),
    }
    write_text(path, text)
    write_json(target.record, {**about, **target.written(read, [path])})

    low, high = score["interval_95"]
    partial = f", PARTIAL: {len(chosen)} of {competition.folds.n} folds" if score["partial"] else ""
    checked = f", ids and header as in {sample.name}" if sample else ""
    say("submit", f"{count_of(len(table), 'row')}{checked}{partial} -> {shown(path)}")
    say(
        "submit",
        f"out-of-fold {score['metric']} {score['cv_score']:.4f}; expect {score['expected_score']:.4f} on the "
        f"leaderboard, 95 % interval {low:.4f} to {high:.4f}",
    )
    if score_on_labels is not None:
        say(
            "submit",
            f"{score['metric']} on the test labels kept aside: {score_on_labels:.4f}, on train images "
            f"{score['train_score']:.4f}",
        )
    if competition.slug and not paths.dry_run:
        message = f"{path.stem} cv={score['cv_score']:.4f}"
        say("submit", f'upload: kaggle competitions submit {competition.slug} -f {shown(path)} -m "{message}"')


if __name__ == "__main__":
    run_stage(main)
