"""The training command: LightningCLI over `ViTClassifier`, a data set and the explanation callback."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import RichModelSummary, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console

from agcam import data  # noqa: F401  # so that --data CUB200 is known by its short name
from agcam.callbacks.epoch_bar import EpochBar
from agcam.callbacks.exact_resume import ExactResume, tracked_run
from agcam.callbacks.explanation import ExplanationCallback
from agcam.callbacks.failure import FailureCallback, check_strategy, exit_status, say_interrupted
from agcam.callbacks.last_checkpoint import keep_last
from agcam.callbacks.monitors import MonitorCheck
from agcam.callbacks.non_finite import NonFiniteGuard, OnNan
from agcam.callbacks.progress import ProgressLines
from agcam.callbacks.run_record import RunRecord
from agcam.callbacks.stopping import StopCallback
from agcam.cli.explain_options import make_parser as explain_parser
from agcam.cli.export import export_command
from agcam.cli.export import make_parser as export_parser
from agcam.cli.idle_options import warn_of_idle
from agcam.cli.model_class import classifier_class
from agcam.cli.named_class import config_files, named_classes
from agcam.cli.options import add_replaced, blame, given_to_command, plain_texts, refused
from agcam.cli.resumed_options import check_callbacks, check_seed, model_beside
from agcam.cli.summary import SummaryCallback, say_pages
from agcam.cli.train_help import FULL_HELP, GROUP_TITLES
from agcam.cli.trainer_checks import check_trainer
from agcam.cli.tuning import TUNING, TuningTrainer
from agcam.console.adverts import drop_adverts, plain_warnings
from agcam.console.completion import add_completion
from agcam.console.debug import add_debug, debuggable
from agcam.console.interrupt import TERMINATED, interruptible, status_of
from agcam.console.progress import watched
from agcam.data.module import ImageDataModule
from agcam.errors import AgcamError, InputError, ModelError, brief
from agcam.io.atomic import write_whole
from agcam.io.lock import lock_folder
from agcam.io.redact import with_home, without_home
from agcam.io.yaml import read_yaml
from agcam.tracking import continue_run, log_config, open_trackers, protect, run_dir
from agcam.training.checkpoint_files import last_checkpoint, open_checkpoint, run_folders
from agcam.training.checkpoint_io import AtomicCheckpointIO
from agcam.training.classifier import ViTClassifier
from agcam.training.precision import check_installed
from agcam.training.remote import fetch, is_remote
from agcam.training.weights import class_path, restored_later


class TrainCLI(LightningCLI):
    """`fit`, `validate` and `test` as LightningCLI users know them, with `--explanation.*` beside `--model.*`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's commands and the tuner's, without `predict`: `agcam images` shows predictions better."""
        own = {name: {"model", "datamodule"} for name in TUNING}
        return {name: hidden for name, hidden in LightningCLI.subcommands().items() if name != "predict"} | own

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Have errors raised, so that they are one line, as all of ours; and a mistyped name taken for no other."""
        return super().init_parser(**kwargs | {"exit_on_error": False, "allow_abbrev": False})

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Add completion to the command as a whole."""
        super().setup_parser(*args, **kwargs)
        add_completion(self.parser, explain_parser, {"export": export_parser})
        add_debug(self.parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and look at the checkpoint before LightningCLI reads it: its own errors are tracebacks."""
        given = sys.argv[1:] if args is None else args
        files = config_files(given)
        for file in files:
            read_yaml(file)  # for its errors, which name file and line
        try:
            super().parse_arguments(parser, args)
        except AgcamError:
            raise
        except Exception as error:  # jsonargparse raises what an odd structure makes it stumble over
            raise blame(error, given_to_command(parser, given, files)) from error
        config = self.config[self.config["subcommand"]]
        if config["quiet"]:
            if "verbose" in config:  # the table of validate and test
                config["verbose"] = False
            os.environ.setdefault("WANDB_SILENT", "true")
            for name in ("lightning.pytorch", "lightning.fabric"):
                logging.getLogger(name).setLevel(logging.WARNING)
        for section in ("model", "data"):  # they travel in checkpoints
            if section in config:
                config[section] = without_home(config[section])
        config["trainer"] = with_home(plain_texts(config["trainer"]))
        command = self.config["subcommand"]
        if isinstance(config["trainer"], Namespace):  # what else it is, Lightning refuses
            check_installed(config["trainer"].get("precision"))
        warn_of_idle(sys.argv[1:] if args is None else args, command, config["explain"])
        path = with_home(config.get("ckpt_path"))
        if not path or path in ("hpc", "registry"):
            return
        if path == "best":
            raise InputError("--ckpt_path best: no run is in progress whose best one it could be; name a file, or last")
        if is_remote(path):
            fetched = fetch(path)
            if fetched.is_dir():
                raise InputError(f"--ckpt_path {path} holds weights alone; start from them: --model.weights {path}")
            path = str(fetched)
        config["ckpt_path"] = path
        folders = run_folders(config["trainer"])
        if path == "last":  # Lightning would look into the new run's folder only
            path = config["ckpt_path"] = str(last_checkpoint(folders))
        kind = classifier_class(config["model"])
        checkpoint = open_checkpoint(Path(path), folders, class_path(kind))
        given = parser.parse_args(args, env=False, defaults=False)[command]
        options = vars(given).get("model", {})
        if self.subclass_mode_model:
            options = vars(options).get("init_args", {})
        if isinstance(options, Namespace):
            options = options.as_dict()  # whose items are options, not the fields of those that are dataclasses
        fitting = command == "fit"
        try:
            model = model_beside(checkpoint, without_home(options), fitting, Path(path), kind)
            if self.subclass_mode_model:
                model = {"class_path": class_path(kind), "init_args": model}
            self.config = parser.parse_object({command: {"model": model}}, self.config)
        except AgcamError as error:
            raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
        except Exception as error:  # as above, of a stranger's settings
            raise ModelError(
                f"{path}: its settings are not those of this version's model ({brief(error)}); resume with the version "
                "that wrote it, or start from its weights: --model.weights"
            ) from error
        if fitting:
            check_callbacks(checkpoint, Path(path))
            check_seed(checkpoint, given.get("seed_everything"), Path(path))
            if run := tracked_run(checkpoint):
                continue_run(self.config[command]["trainer"].get("logger"), run)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: `parse_arguments` has settled it; in Lightning's own the checkpoint overrules every option."""

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Head the groups of options by what they are about, where Lightning takes the first line of a docstring."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for name, group in (parser.groups or {}).items():
            group.title = GROUP_TITLES.get(name, "this command")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the explanation callback and its switch, and what a loss of NaN does."""
        parser.add_argument(FULL_HELP, action="help", help="list every option, as here, and exit")
        parser.add_lightning_class_args(ExplanationCallback, "explanation")
        parser.add_argument("--explain", type=bool, default=True, help="false leaves out explanations and their scores")
        parser.add_argument(
            "--on_nan",
            "--on-nan",
            type=OnNan,
            default="stop",
            help="what a training step does whose loss or gradients are not finite: stop the run, or skip the step",
        )
        add_debug(parser)
        add_replaced(parser)
        parser.add_argument("--quiet", action="store_true", help="no progress and no tables; only what went wrong")

    def instantiate_classes(self) -> None:
        """Instantiate all classes; report what one refuses as an error of its options.

        Weights that training started from are not loaded where a checkpoint replaces them.
        """
        try:
            with restored_later() if self._get(self.config, "ckpt_path") else nullcontext():
                super().instantiate_classes()
        except Exception as error:
            raise refused(error) from error

    def before_fit(self) -> None:
        """Check the data before anything is written; open the trackers, so that one that cannot start costs no time."""
        trainer = self.trainer
        self.before_lr_find()
        open_trackers(trainer.loggers)
        if trainer.is_global_zero and not self._get(self.config, "quiet"):
            say_pages(trainer.loggers)
        protect(trainer)
        if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
            # without a logger the folder is the user's own, and pictures are all that goes there
            self._held = lock_folder(run_dir(trainer) / ("" if trainer.loggers else "explanations"))

    before_validate = before_test = before_fit

    def before_lr_find(self) -> None:
        """Check data and weights, so that a wrong file leaves no run behind; the other processes wait for the first."""
        if self.trainer.is_global_zero:
            stage = "fit" if self.subcommand in TUNING else str(self.subcommand)
            self.datamodule.check(stage, self.model.input_config)
            if isinstance(self.model, ViTClassifier) and not self._get(self.config, "ckpt_path"):
                self.model.fit_data(self.datamodule, stage)  # reads the weights

    before_scale_batch_size = before_lr_find

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add what no configuration chooses: checkpoints written whole, explanations only where they can be made."""
        quiet = self._get(self.config, "quiet")
        if quiet:
            kwargs |= {"enable_progress_bar": False, "enable_model_summary": False}
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it
        show = EpochBar.like if watched(Console()) else lambda bar: ProgressLines()
        callbacks[:] = [show(c) if type(c) is RichProgressBar else c for c in callbacks]
        tables = [c for c in callbacks if type(c) is RichModelSummary and c._max_depth == 1]
        callbacks[:] = [c for c in callbacks if c not in tables]
        for summary in (c for c in callbacks if isinstance(c, SummaryCallback)):
            summary.quiet, summary.describes_model = quiet, bool(tables)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        # first, so that nothing that ends slowly keeps what went wrong from being told
        own = [FailureCallback(), StopCallback(), NonFiniteGuard(self._get(self.config, "on_nan")), MonitorCheck()]
        callbacks[:] = [*own, *keep_last(callbacks)]
        check_trainer(trainer)
        if self._get(self.config, "explain"):
            check_strategy(trainer.strategy)
        else:
            callbacks[:] = [c for c in callbacks if not isinstance(c, ExplanationCallback)]
        return trainer


class _SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the run, whole or not at all, and hands it to the trackers."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **kwargs: Any) -> None:
        super().__init__(parser, without_home(config), **kwargs)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Save the configuration, once failing trackers can no longer end the run."""
        protect(trainer)
        folder = trainer.log_dir  # the same on all processes, which tell each other
        if folder is not None and trainer.is_global_zero and not self.already_saved:
            write_whole(Path(folder) / self.config_filename, self.parser.dump(self.config, skip_none=False).encode())
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tell the trackers."""
        log_config(trainer.loggers, json.loads(self.parser.dump(self.config, skip_none=False, format="json")))


@debuggable
def main(args: Sequence[str] | None = None) -> int:
    """Run the training command; returns its exit status.

    A bad input is one line on stderr, with 2. So is being stopped: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    given = list(sys.argv[1:] if args is None else args)
    drop_adverts()
    try:
        with interruptible(), plain_warnings():
            if given[:1] == ["export"]:
                return export_command(given[1:])
            TrainCLI(
                ViTClassifier,
                ImageDataModule,
                subclass_mode_model=bool(named_classes(given, "model")),
                subclass_mode_data=True,
                save_config_callback=_SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_class=TuningTrainer,
                seed_everything_default=0,
                auto_configure_optimizers=False,
                trainer_defaults={"callbacks": [SummaryCallback(), ExactResume(), RunRecord()]},
                parser_kwargs={
                    "description": "Train a Vision Transformer and see where it looks.",
                    "epilog": "`export --help` tells how to hand a trained model on to timm.",
                },
                args=None if args is None else given,
            )
    except SIGTERMException:  # on SLURM, and said already
        return TERMINATED
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # which Lightning has caught
            return status_of(end.__context__)
        raise
    except KeyboardInterrupt as interrupt:  # before it could
        return say_interrupted(interrupt)
    except Exception as error:
        return exit_status(error)
    return 0
