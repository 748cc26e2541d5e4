"""The one command, `poseline`: a table of sub-commands, each imported only when it is run.

It stands above every room, so that no room imports its users. A sub-command whose extra is not installed answers with
the command that installs it; an error that Poseline raised on purpose is one line, not a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import typer

from poseline.errors import PoselineError


class Entry(NamedTuple):
    """Where a sub-command lives, the extra it needs, and what it does in one line."""

    target: str
    extra: str | None
    help: str


COMMANDS: dict[str, Entry] = {
    "serve": Entry("poseline_service.cli:serve", "service", "Serve the HTTP and WebSocket API, the page and metrics."),
    "keys": Entry("poseline_service.keys_cli:keys", "service", "Make, list and revoke API keys of a server."),
    "swap": Entry("poseline_service.cli:swap", "service", "Let another model answer on a running server."),
    "stream": Entry("poseline_cli.stream:stream", None, "Put a recording, a video or a camera into a live stream."),
    "localize": Entry("poseline_cli.localize:localize", None, "Find the actions of a recording, here or by a server."),
    "enroll": Entry("poseline_cli.enroll:enroll", None, "Make a class from one to five examples, without training."),
    "actor": Entry("poseline.cli:actor", None, "Print a performance of the scripted actor, as a recording to try."),
    "layouts": Entry("poseline.cli:layouts", None, "List the joint layouts that are understood."),
    "models": Entry("poseline.cli:models", None, "List the model bundles of a folder."),
    "pose-model": Entry(
        "poseline_video.cli:manage_pose_model", "video", "Make the pose extractor's model, for videos and the browser."
    ),
    "schemas": Entry("poseline_service.schemas:write", "service", "Write the API's OpenAPI document and JSON Schema."),
    "corpus": Entry("poseline_cli.corpus:corpus", None, "Make a corpus to train on from recordings and labels."),
    "pretrain": Entry("poseline_training.cli:pretrain", "training", "Teach the encoder without labels."),
    "finetune": Entry("poseline_training.cli:finetune", "training", "Teach the localizer with labels."),
    "evaluate": Entry("poseline_training.cli:evaluate", "training", "Stream a test split and score what comes out."),
    "export": Entry("poseline_training.cli:export", "training", "Turn a checkpoint into a model bundle."),
    "giveaways": Entry(
        "poseline_training.giveaways:giveaways", "training", "Measure what gives stitched streams away."
    ),
    "folds": Entry("poseline_training.cli:folds", "training", "Judge a recipe on people whom it was not taught by."),
    "measure": Entry("poseline_training.cli:measure", "training", "Measure a run or bundle: a row of the results."),
    "robustness": Entry("poseline_training.cli:robustness", "training", "Bend a bundle's input by degrees; attack it."),
    "alarms": Entry("poseline_training.cli:alarms", "training", "How soon starts are told, and how often in vain."),
    "results": Entry("poseline_training.cli:results", "training", "Write the page of results from the rows."),
    "reproduce": Entry("poseline_training.cli:reproduce", "training", "Train a row of the results again and compare."),
    "pick": Entry("poseline_training.pick:pick", "training", "Pick what to label of what was captured."),
    "compare": Entry("poseline_training.compare:compare", "training", "Say which of two bundles is better."),
    "bench": Entry("poseline_bench.cli:bench", "bench", "Measure speed."),
}


app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:  # pyright: ignore[reportUnusedFunction]
    """Actions in streams of human poses: what, and exactly when."""


def _stand_in(name: str, entry: Entry) -> Callable[[typer.Context], None]:
    """A command that imports the real one and hands its arguments on, `--help` included."""

    def run(ctx: typer.Context) -> None:
        real = typer.Typer(add_completion=False)
        real.command(name, help=entry.help)(_import(name, entry))
        real(args=ctx.args, prog_name=f"poseline {name}")

    return run


def _import(name: str, entry: Entry) -> Callable[..., None]:
    module, function = entry.target.split(":")
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if entry.extra is None or missing.startswith("poseline"):
            raise  # a fault of ours, not a missing extra
        typer.echo(
            f"poseline {name} needs {missing}: pip install 'poseline[{entry.extra}]' (in a checkout: make setup)",
            err=True,
        )
        raise typer.Exit(1) from None


for _name, _entry in COMMANDS.items():
    app.command(
        _name,
        help=_entry.help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_stand_in(_name, _entry))


def main() -> None:
    """The console script."""
    try:
        app(prog_name="poseline")
    except PoselineError as error:
        typer.echo(f"{error.code}: {error.detail}", err=True)
        raise SystemExit(1) from None
