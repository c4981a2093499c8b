"""Search settings for the generated shapes with Optuna; nothing to download.

    pip install optuna
    python sweeps/optuna_shapes.py --trials 20

Each trial is the quickstart (76 seconds on two Xeon cores) with other settings. What follows `--` is passed to
`agcam fit`: `-- --trainer.max_epochs 2` for quicker trials. Trials are kept in runs/optuna/study.db: run the command
again to resume.
"""

import argparse
import csv
import sys
from pathlib import Path

import optuna

from agcam.cli.train import main as train

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def accuracy(trial: optuna.Trial, folder: Path, more: list[str]) -> float:
    """Train once; return the validation accuracy of the last epoch."""
    run = folder / f"trial_{trial.number:03d}"
    arguments = {
        "model.lr": trial.suggest_float("model.lr", 1e-4, 5e-3, log=True),
        "model.weight_decay": trial.suggest_float("model.weight_decay", 1e-3, 0.3, log=True),
        "model.drop_path": trial.suggest_float("model.drop_path", 0.0, 0.2),
        "data.augmentation.scale": trial.suggest_float("data.augmentation.scale", 0.35, 1.0),
    }
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {run}, name: ''}}}}"
    given = [f"--{name}={value}" for name, value in arguments.items()]
    if train(["fit", f"--config={CONFIG}", logger, *given, *more]) != 0:
        raise RuntimeError(f"trial {trial.number} could not train; its message is above")
    with (run / "version_0" / "metrics.csv").open() as file:
        values = [float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"]]
    return values[-1]


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="runs to make now (20)")
    parser.add_argument("--output", type=Path, default=Path("runs/optuna"), help="where runs and study lie")
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    options, more = parser.parse_args(given[:cut]), given[cut + 1 :]
    sys.argv = sys.argv[:1]  # LightningCLI looks at it, too
    options.output.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{options.output / 'study.db'}",
        study_name="shapes",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=0),
    )
    study.optimize(lambda trial: accuracy(trial, options.output, more), n_trials=options.trials)
    best = " ".join(f"--{name}={value:.3g}" for name, value in study.best_params.items())
    print(f"best: {study.best_value:.3f} with {best}")  # noqa: T201  # its result


if __name__ == "__main__":
    main()
