"""The commands and their flags. The implementations are in the other modules of this folder."""

from __future__ import annotations

from typing import Annotated

import typer

from choline_data.cli.about_commands import common_options, formats, search
from choline_data.cli.cards_commands import cards_app
from choline_data.cli.engine_flags import EngineFlagsCommand, engine_flags
from choline_data.cli.help_pages import HelpTyper
from choline_data.cli.mix_commands import mix_app
from choline_data.cli.shared_options import (
    ConfigByOption,
    DelimiterOption,
    EncodingOption,
    HeaderOption,
    HomeOption,
    JoinOption,
    JsonOption,
    NameArgument,
    PinArgument,
    SplitByOption,
)

app = HelpTyper(name="choline-data", add_completion=True)
app.add_typer(mix_app, name="mix")
app.add_typer(cards_app, name="cards")
app.callback()(common_options)
app.command()(formats)
app.command()(search)


@app.command(cls=EngineFlagsCommand)
def add(
    ctx: typer.Context,
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="A path, a glob, a URL, a hub id, or a card. Or several paths and URLs."),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the dataset in the catalog. Default: from the source.")
    ] = "",
    as_kind: Annotated[
        str, typer.Option("--as", metavar="KIND", help="Kind of the samples, such as text or chat. Default: detected.")
    ] = "",
    field_map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Take a field from this column. Repeatable."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Read the source with this adapter. Default: detected.")
    ] = "",
    config: Annotated[str, typer.Option(metavar="NAME", help="Add only this config.")] = "",
    split: Annotated[str, typer.Option(metavar="NAME", help="Add only this split.")] = "",
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only files with such a name, as '*.json'. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="No files with such a name, as 'old/*'. Repeatable.")
    ] = None,
    join: JoinOption = None,
    split_by: SplitByOption = "",
    config_by: ConfigByOption = "",
    encoding: EncodingOption = None,
    header: HeaderOption = None,
    delimiter: DelimiterOption = None,
    license_: Annotated[
        str, typer.Option("--license", metavar="ID", help="Licence of the dataset, as an SPDX id.")
    ] = "",
    language: Annotated[str, typer.Option(metavar="TAG", help="Language of all samples, such as en.")] = "",
    revision: Annotated[str, typer.Option(metavar="ID", help="Revision of the source to add, such as a commit.")] = "",
    limit: Annotated[
        int, typer.Option(metavar="N", help="Add only the first N samples.", min=0, show_default="all")
    ] = 0,
    dedup: Annotated[str, typer.Option(metavar="MODE", help="Leave out repeated samples: exact or near.")] = "",
    max_rejects: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of rows that may be rejected.", min=0, max=1)
    ] = 0.01,
    compression: Annotated[
        str, typer.Option(metavar="NAME", help="Compress store files with zstd or lz4. Default: not compressed.")
    ] = "",
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Leave Parquet files where they are, and stream them from there.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the dataset that has this name.")] = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare a sample with the source.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen. Write nothing.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Show every file, and what becomes of it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask questions.")] = False,
    runner: Annotated[
        str, typer.Option(metavar="NAME", help="Run on Beam: local, dask, flink, spark or dataflow.")
    ] = "",
    workers: Annotated[int, typer.Option(metavar="N", help="Number of processes.", min=1)] = 1,
    scheduler: Annotated[str, typer.Option(metavar="ADDRESS", help="Dask scheduler, as tcp://host:port.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store a dataset.

    Detects the format and the meaning of the columns, shows both, and writes the samples in the schema of choline-data.
    Flags for a Beam runner follow after `--`.
    """
    from choline_data.places.apart import run_apart

    def work() -> None:
        from choline_data.cli.add_process import prepare_process

        prepare_process(workers=workers > 1 and not (runner or dry_run or in_place))
        from choline_data.cli.add_command import add as run

        run(
            source,
            home=home,
            name=name,
            as_kind=as_kind,
            field_map=field_map or [],
            format_=format_,
            config=config,
            split=split,
            include=include or (),
            exclude=exclude or (),
            join=join or (),
            split_by=split_by,
            config_by=config_by,
            encoding=encoding or (),
            header=header or (),
            delimiter=delimiter or (),
            license_=license_,
            language=language,
            revision=revision,
            limit=limit,
            dedup=dedup,
            max_rejects=max_rejects,
            compression=compression,
            in_place=in_place,
            replace_existing=replace,
            check=check,
            dry_run=dry_run,
            yes=yes,
            runner=runner,
            workers=workers,
            scheduler=scheduler,
            flags=engine_flags(ctx),
            all_files=files,
            as_json=as_json,
        )

    def on_crash(pid: int) -> None:
        from choline_data.places.home import Home

        Home(home or None).drop_staged(pid)

    run_apart(work, on_crash)


@app.command("list")
def list_(home: HomeOption = "", as_json: JsonOption = False) -> None:
    """List the datasets."""
    from choline_data.cli.dataset_commands import list_datasets

    list_datasets(home, as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset in the home, or a card.")],
    files: Annotated[
        bool, typer.Option("--files", help="List the files of its source, and what became of each.")
    ] = False,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Describe a dataset."""
    if files:
        from choline_data.cli.account_output import show_files

        show_files(home, name, as_json=as_json)
        return
    from choline_data.cli.dataset_commands import show_dataset

    show_dataset(home, name, as_json=as_json)


@app.command()
def head(
    name: NameArgument,
    count: Annotated[int, typer.Option("-n", metavar="N", help="Number of samples.", min=1)] = 5,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print the first samples."""
    from choline_data.cli.dataset_commands import head_dataset

    head_dataset(home, name, count, as_json=as_json)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset. Default: the whole home.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check all checksums.

    Lists each fault with its file, its dataset and the remedy. Exits with code 1 if there is a fault.
    """
    from choline_data.cli.dataset_commands import verify_datasets

    raise typer.Exit(verify_datasets(home, name, as_json=as_json))


@app.command()
def repair(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset. Default: the whole home.")] = "",
    workers: Annotated[int, typer.Option(metavar="N", help="Number of processes.", min=1)] = 1,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Restore damaged files.

    Reads the source again and restores the same revision. Files that can be computed are computed again.
    """
    from choline_data.cli.dataset_commands import repair_datasets

    raise typer.Exit(repair_datasets(home, name, workers=workers, as_json=as_json))


@app.command()
def rm(name: NameArgument, home: HomeOption = "", as_json: JsonOption = False) -> None:
    """Remove a dataset.

    Takes the dataset out of the catalog. Its files stay until `gc` deletes them.
    """
    from choline_data.cli.dataset_commands import remove_dataset

    remove_dataset(home, name, as_json=as_json)


@app.command()
def gc(
    keep_days: Annotated[
        float,
        typer.Option(
            metavar="DAYS",
            help="Keep revisions that were removed, replaced or read in these days. 0: keep none.",
            min=0,
        ),
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen. Delete nothing.")] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait this long for writers that are at work.", min=0)
    ] = 0,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete unneeded files.

    Says what is kept, and why.
    """
    from choline_data.cli.garbage_commands import collect_garbage

    collect_garbage(home, keep_days=keep_days, dry_run=dry_run, wait=wait, as_json=as_json)


@app.command()
def pin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME or NAME@REVISION. Default: list all pins.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Protect a revision."""
    from choline_data.cli.garbage_commands import pin_dataset

    pin_dataset(home, name, as_json=as_json)


@app.command()
def unpin(name: PinArgument, home: HomeOption = "", as_json: JsonOption = False) -> None:
    """Remove a pin.

    `gc` may then delete the revision when nothing else needs it.
    """
    from choline_data.cli.garbage_commands import unpin_dataset

    unpin_dataset(home, name, as_json=as_json)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help='DuckDB SQL. Each dataset is a view; the view "catalog" lists them.')
    ],
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Query datasets with SQL."""
    from choline_data.cli.dataset_commands import run_sql

    run_sql(home, query, as_json=as_json)


@app.command()
def export(
    name: NameArgument,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="parquet, webdataset, jsonl or croissant.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write to.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write another format."""
    from choline_data.cli.dataset_commands import export_dataset

    export_dataset(home, name, to, out, as_json=as_json)


@app.command()
def serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on, or unix:PATH.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port to listen on. 0: any free port.", min=0, max=65535)
    ] = 9000,
    workers: Annotated[int, typer.Option(metavar="N", help="Number of server processes on the port.", min=1)] = 1,
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="File of tokens and their grants; see docs/serving.md.")
    ] = "",
    tls_cert: Annotated[str, typer.Option(metavar="FILE", help="Certificate chain of the server, in PEM.")] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", help="Key of the certificate, in PEM.")] = "",
    client_ca: Annotated[
        str, typer.Option(metavar="FILE", help="Require client certificates from this authority, in PEM.")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow other machines without TLS and tokens.")] = False,
    max_streams: Annotated[int, typer.Option(metavar="N", help="Streams that a process serves at once.", min=1)] = 1000,
    memory: Annotated[str, typer.Option(metavar="BYTES", help="Memory for cached blocks and messages.")] = "512MB",
    http_port: Annotated[
        int, typer.Option(metavar="PORT", help="Also serve JSON Lines over HTTP.", min=-1, show_default="off")
    ] = -1,
    metrics_port: Annotated[
        int, typer.Option(metavar="PORT", help="Serve Prometheus metrics.", min=-1, show_default="off")
    ] = -1,
    reflection: Annotated[bool, typer.Option("--reflection", help="Enable gRPC reflection.")] = False,
    audit: Annotated[
        str, typer.Option(metavar="FILE", help="Audit log: who opened which stream. -: standard error.")
    ] = "",
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Tokenizer that readers may use; or tiktoken:NAME. Repeatable."),
    ] = None,
    http_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Host name that the HTTP port also answers to. Repeatable.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Limit of the server; see docs/serving.md. Repeatable."),
    ] = None,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Serve streams over gRPC."""
    from choline_data.cli.stream_command import serve as run

    raise typer.Exit(
        run(
            home=home,
            host=host,
            port=port,
            workers=workers,
            token_file=token_file,
            tls_cert=tls_cert,
            tls_key=tls_key,
            client_ca=client_ca,
            insecure=insecure,
            max_streams=max_streams,
            memory=memory,
            http_port=None if http_port < 0 else http_port,
            metrics_port=None if metrics_port < 0 else metrics_port,
            reflection=reflection,
            audit=audit,
            tokenizers=tokenizer or (),
            http_hosts=http_host or (),
            limits=dict(item.partition("=")[::2] for item in limit or ()),
            as_json=as_json,
        )
    )


@app.command()
def stream(
    mix: Annotated[str, typer.Argument(metavar="MIX", help="A name, web:0.7,code:0.3, web/test, '*', or a YAML file.")],
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Read from this server. Default: read the home directly.")
    ] = "",
    view: Annotated[str, typer.Option(metavar="NAME", help="samples or text.")] = "samples",
    start: Annotated[int, typer.Option(metavar="N", help="First position.", min=0)] = 0,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="jsonl or text.")] = "jsonl",
    count: Annotated[
        int, typer.Option("-n", metavar="N", help="Number of samples.", min=0, show_default="one epoch")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the order.")] = 0,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--no-shuffle", help="Shuffle, or keep the order of the source.")
    ] = True,
    where: Annotated[
        str, typer.Option(metavar="FILTER", help='Only samples that match, such as "len(text) > 200".')
    ] = "",
    token_file: Annotated[str, typer.Option(metavar="FILE", help="File with the token for the server.")] = "",
    home: HomeOption = "",
) -> None:
    """Print a stream."""
    from choline_data.cli.stream_command import stream as run

    run(
        home,
        mix,
        server=server,
        view=view,
        start=start,
        count=count,
        form=form,
        seed=seed,
        shuffle=shuffle,
        where=where,
        token_file=token_file,
    )


@app.command()
def tokenize(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Datasets in the home.")],
    tokenizer: Annotated[
        str, typer.Option(metavar="NAME", help="bytes, a tokenizer.json, or tiktoken:NAME.")
    ] = "bytes",
    boundary: Annotated[
        str, typer.Option(metavar="NAME", help="Tokens around each document: eos, bos, bos+eos or none.")
    ] = "eos",
    workers: Annotated[int, typer.Option(metavar="N", help="Number of processes.", min=1)] = 1,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tokenize datasets.

    Stores the tokens in the home, so that every run can use them.
    """
    from choline_data.cli.stream_command import tokenize as run

    run(home, names, tokenizer=tokenizer, boundary=boundary, workers=workers, as_json=as_json)
