"""The commands and their flags. The implementations are in the other modules of this folder."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="choline-data",
    help="Any dataset, one schema, one stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
mix_app = typer.Typer(help="Look at mixes, and take them over from other tools.", no_args_is_help=True)
app.add_typer(mix_app, name="mix")

HomeOption = Annotated[
    str,
    typer.Option("--home", help="Where datasets are kept: a path or an fsspec URL.", envvar="CHOLINE_DATA_HOME"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": False})
def add(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="A card's name, a path, a glob, a URL or a hub id.")],
    name: Annotated[str, typer.Option(help="The dataset's name in the catalog.")] = "",
    as_kind: Annotated[str, typer.Option("--as", metavar="KIND", help="The kind of its samples.")] = "",
    field_map: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Which column a field comes from.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="Read it with this adapter.")] = "",
    config: Annotated[str, typer.Option(help="Only this config of a hub dataset.")] = "",
    split: Annotated[str, typer.Option(help="Only this split.")] = "",
    license_: Annotated[str, typer.Option("--license", help="Its licence, an SPDX id.")] = "",
    language: Annotated[str, typer.Option(help="Its language, where one holds for all.")] = "",
    revision: Annotated[str, typer.Option(help="The source's revision to pin.")] = "",
    limit: Annotated[int, typer.Option(help="Only the first N samples.", min=0)] = 0,
    dedup: Annotated[str, typer.Option(help="Leave out repeats: exact or near.")] = "",
    max_rejects: Annotated[float, typer.Option(help="The share of rows that may be rejected.", min=0, max=1)] = 0.01,
    compression: Annotated[str, typer.Option(help="zstd or lz4; none by default.")] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="Stream Parquet from where it lies.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a dataset of this name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    runner: Annotated[str, typer.Option(help="A Beam runner: local, dask, flink, spark, dataflow.")] = "",
    workers: Annotated[int, typer.Option(help="Processes that ingest.", min=1)] = 1,
    scheduler: Annotated[str, typer.Option(help="The Dask scheduler, tcp://host:port.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Look at a dataset, say what it is, and store it in the one schema.

    Flags for a Beam runner follow after `--`.
    """
    from choline_data.places.apart import run_apart

    def work() -> None:
        if workers > 1 and not (runner or dry_run or in_place):
            from choline_data.catalog.processes import start_server

            start_server("choline_data.catalog.crew")  # before our imports: it imports the same modules in parallel
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
            license_=license_,
            language=language,
            revision=revision,
            limit=limit,
            dedup=dedup,
            max_rejects=max_rejects,
            compression=compression,
            in_place=in_place,
            replace_existing=replace,
            dry_run=dry_run,
            yes=yes,
            runner=runner,
            workers=workers,
            scheduler=scheduler,
            flags=tuple(ctx.args),
            as_json=as_json,
        )

    def on_crash(pid: int) -> None:
        from choline_data.places.home import Home

        Home(home or None).drop_staged(pid)

    run_apart(work, on_crash)


@app.command("list")
def list_(home: HomeOption = "", as_json: JsonOption = False) -> None:
    """The datasets of the catalog."""
    from choline_data.cli.dataset_commands import list_datasets

    list_datasets(home, as_json=as_json)


@app.command()
def search(
    query: Annotated[list[str], typer.Argument(help="Words, and filters such as license:mit or kind:chat.")],
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find datasets among the packaged cards and those of the catalog."""
    from choline_data.cli.dataset_commands import search_datasets

    search_datasets(home, query, as_json=as_json)


@app.command()
def show(name: str, home: HomeOption = "", as_json: JsonOption = False) -> None:
    """All that is known about a dataset or a card."""
    from choline_data.cli.dataset_commands import show_dataset

    show_dataset(home, name, as_json=as_json)


@app.command()
def head(
    name: str,
    count: Annotated[int, typer.Option("-n", help="How many samples.", min=1)] = 5,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """The first samples of a dataset."""
    from choline_data.cli.dataset_commands import head_dataset

    head_dataset(home, name, count, as_json=as_json)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="A dataset; all of them without.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check every checksum, and list every fault with what to do about it."""
    from choline_data.cli.dataset_commands import verify_datasets

    raise typer.Exit(verify_datasets(home, name, as_json=as_json))


@app.command()
def repair(
    name: Annotated[str, typer.Argument(help="A dataset; the whole home without.")] = "",
    workers: Annotated[int, typer.Option(help="Processes that ingest.", min=1)] = 1,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put back what is damaged, from the sources and from what is sound."""
    from choline_data.cli.dataset_commands import repair_datasets

    raise typer.Exit(repair_datasets(home, name, workers=workers, as_json=as_json))


@app.command()
def rm(name: str, home: HomeOption = "", as_json: JsonOption = False) -> None:
    """Take a dataset out of the catalog; `gc` frees its bytes."""
    from choline_data.cli.dataset_commands import remove_dataset

    remove_dataset(home, name, as_json=as_json)


@app.command()
def gc(
    keep_days: Annotated[
        float, typer.Option(help="Keep what was removed, replaced or read in so many days; 0 frees it now.", min=0)
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, delete nothing.")] = False,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for writers at work.", min=0)] = 0,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete files that nothing needs any more, and say what is kept and why."""
    from choline_data.cli.garbage_commands import collect_garbage

    collect_garbage(home, keep_days=keep_days, dry_run=dry_run, wait=wait, as_json=as_json)


@app.command()
def pin(
    name: Annotated[str, typer.Argument(help="NAME or NAME@REVISION; without, the pins are listed.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Keep a revision of a dataset from `gc`."""
    from choline_data.cli.garbage_commands import pin_dataset

    pin_dataset(home, name, as_json=as_json)


@app.command()
def unpin(name: str, home: HomeOption = "", as_json: JsonOption = False) -> None:
    """Let `gc` free a pinned revision once nothing else needs it."""
    from choline_data.cli.garbage_commands import unpin_dataset

    unpin_dataset(home, name, as_json=as_json)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='DuckDB SQL; every dataset is a view, "catalog" lists them.')],
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Ask the catalog and its datasets in SQL."""
    from choline_data.cli.dataset_commands import run_sql

    run_sql(home, query, as_json=as_json)


@app.command()
def export(
    name: str,
    to: Annotated[str, typer.Option("--to", help="parquet, webdataset, jsonl or croissant.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The folder to write to.")] = "",
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a dataset in another format."""
    from choline_data.cli.dataset_commands import export_dataset

    export_dataset(home, name, to, out, as_json=as_json)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on, or unix:PATH.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 9000,
    workers: Annotated[int, typer.Option(help="Server processes on the one port.", min=1)] = 1,
    token_file: Annotated[str, typer.Option(help="Who may read what; see docs/serving.md.")] = "",
    tls_cert: Annotated[str, typer.Option(help="The certificate chain, PEM.")] = "",
    tls_key: Annotated[str, typer.Option(help="Its key, PEM.")] = "",
    client_ca: Annotated[str, typer.Option(help="Ask clients for a certificate of this authority.")] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without TLS or tokens.")
    ] = False,
    max_streams: Annotated[int, typer.Option(help="Streams at once in a process.", min=1)] = 1000,
    memory: Annotated[str, typer.Option(help="For cached blocks and messages, such as 512MB.")] = "512MB",
    http_port: Annotated[int, typer.Option(help="Also serve NDJSON over plain HTTP here; -1 is off.", min=-1)] = -1,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics; -1 is off.", min=-1)] = -1,
    reflection: Annotated[bool, typer.Option("--reflection", help="Answer gRPC reflection.")] = False,
    audit: Annotated[str, typer.Option(help="Record who opened what in this file; - is standard error.")] = "",
    tokenizer: Annotated[
        list[str] | None, typer.Option(help="NAME=tokenizer.json or tiktoken:NAME that readers may name.")
    ] = None,
    http_host: Annotated[
        list[str] | None, typer.Option(help="A name by which the HTTP port may be asked, beside its addresses.")
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of docs/serving.md, Limits.")] = None,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Serve the catalog's datasets as streams."""
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
    mix: Annotated[str, typer.Argument(help="A mix: a name, web:0.7,code:0.3, web/test, '*', or a YAML file.")],
    server: Annotated[str, typer.Option(help="host:port of a server; without, this machine's home.")] = "",
    view: Annotated[str, typer.Option(help="samples or text.")] = "samples",
    start: Annotated[int, typer.Option(help="The position to begin with.", min=0)] = 0,
    form: Annotated[str, typer.Option("--format", help="jsonl or text.")] = "jsonl",
    count: Annotated[int, typer.Option("-n", help="How many samples; 0 for one epoch.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="The seed of the order.")] = 0,
    shuffle: Annotated[bool, typer.Option("--shuffle/--no-shuffle", help="Shuffled, or in source order.")] = True,
    where: Annotated[str, typer.Option(help="Only samples for which this holds.")] = "",
    token_file: Annotated[str, typer.Option(help="A file with the token for the server.")] = "",
    home: HomeOption = "",
) -> None:
    """The firehose on standard output."""
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
    names: list[str],
    tokenizer: Annotated[str, typer.Option(help="bytes, a tokenizer.json, or tiktoken:NAME.")] = "bytes",
    boundary: Annotated[str, typer.Option(help="Tokens around a document: eos, bos, bos+eos or none.")] = "eos",
    workers: Annotated[int, typer.Option(help="Processes that tokenize.", min=1)] = 1,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store the tokens of datasets, once for all runs."""
    from choline_data.cli.stream_command import tokenize as run

    run(home, names, tokenizer=tokenizer, boundary=boundary, workers=workers, as_json=as_json)


@mix_app.command("explain")
def mix_explain(
    mix: str,
    tokens: Annotated[float, typer.Option(help="Tokens to train on.")] = 300e9,
    home: HomeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Each source's split, share, samples, tokens and epochs, when it runs out, its licence."""
    from choline_data.cli.stream_command import explain as run

    run(home, mix, tokens=tokens, as_json=as_json)


@mix_app.command("import")
def mix_import(
    source: Annotated[str, typer.Argument(help="A file, the text itself, or - for standard input.")],
) -> None:
    """A mix of Megatron, datasets, MosaicML or Axolotl as ours."""
    from choline_data.cli.stream_command import import_mix as run

    run(source)
