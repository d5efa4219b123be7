"""``gnopt inspect-curvature``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gnopt.cli.common import (
    claim_beside,
    config_flags,
    given_flags,
    member,
    of_member,
    overwrite,
    print_json,
)
from gnopt.cli.sections import SectionedCommand, under
from gnopt.errors import ConfigError, GnoptError

if TYPE_CHECKING:
    from gnopt.config import Flags
    from gnopt.inspection.inspect import Findings, InspectionRequest


@click.command("inspect-curvature", cls=SectionedCommand)
@click.argument(
    "targets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CONFIG|RUN..."
)
@under(
    "Which weights and rows",
    click.option(
        "--init-from",
        type=click.Path(path_type=Path),
        metavar="CKPT",
        help="Weights of a checkpoint.",
    ),
    click.option(
        "--checkpoints",
        "which",
        default="latest",
        show_default=True,
        metavar="latest|best|all|N,N",
        help="Which weights of a RUN.",
    ),
    member,
    click.option(
        "--samples",
        type=click.IntRange(1),
        metavar="N",
        help="Use the first N training rows (1000, or all there are).",
    ),
)
@under(
    "Summary of the curvature",
    click.option(
        "--curvature",
        metavar="A,B,...|all",
        help="Methods, exact, and the dense exact blocks hessian and "
        "gauss_newton (default: every approximation, no dense block).",
    ),
    click.option(
        "--layers", default="all", show_default=True, metavar="1,3|all", help="Layers to show."
    ),
    click.option(
        "--kfac-samples",
        type=click.IntRange(1),
        metavar="S",
        help="Targets drawn per data point by kfac and ekfac (as configured; up to 1000 with "
        "--export).",
    ),
    click.option(
        "--theorem-rows",
        type=click.IntRange(1),
        metavar="N",
        help="Data points whose block Hessians are tested for definiteness (as many as are cheap).",
    ),
    click.option(
        "--no-summary", is_flag=True, help="Leave the summary out, such as for alignment alone."
    ),
)
@under(
    "Alignment with the exact step",
    click.option(
        "--alignment",
        is_flag=True,
        help="Cosine of each method's update with the exact Gauss-Newton update.",
    ),
    click.option(
        "--damping",
        metavar="X,Y,...",
        help="λ of the updates that --alignment compares, one or several "
        "(default: from the configuration).",
    ),
    click.option(
        "--cg-tolerance",
        type=click.FloatRange(0, 1, min_open=True),
        default=1e-4,
        show_default=True,
        help="Relative residual of the exact update.",
    ),
    click.option(
        "--cg-iterations",
        type=click.IntRange(1),
        default=200,
        show_default=True,
        help="Most iterations of conjugate gradients for it.",
    ),
)
@under(
    "Spectral density",
    click.option(
        "--density",
        is_flag=True,
        help="Spectral density of the whole Gauss-Newton matrix and Hessian.",
    ),
    click.option(
        "--lanczos-steps",
        type=click.IntRange(2),
        default=40,
        show_default=True,
        help="Steps of Lanczos' method for --density.",
    ),
    click.option(
        "--lanczos-probes",
        type=click.IntRange(1),
        default=2,
        show_default=True,
        help="Random starts that it averages.",
    ),
)
@under(
    "Surface of the objective",
    click.option(
        "--surface",
        is_flag=True,
        help="Draw the objective over two random directions (Figure 1 of the paper).",
    ),
    click.option(
        "--surface-range",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="How far --surface goes, in norms of a layer's weights.",
    ),
)
@under(
    "Self-test",
    click.option(
        "--check",
        is_flag=True,
        help="Test loss, activations and curvature against differences, in float64.",
    ),
)
@under(
    "Files",
    click.option(
        "--export", type=click.Path(path_type=Path), metavar="F.h5", help="Write the matrices."
    ),
    click.option(
        "--csv",
        "csv_file",
        type=click.Path(path_type=Path),
        metavar="F.csv",
        help="Write the summary, a row for each layer and method.",
    ),
    click.option("--figures", type=click.Path(path_type=Path), metavar="DIR", help="Draw figures."),
    overwrite,
)
@config_flags
def command(
    targets: tuple[Path, ...],
    init_from: Path | None,
    which: str,
    samples: int | None,
    sets: tuple[str, ...],
    out: Path | None,
    csv_file: Path | None,
    figures: Path | None,
    check: bool,
    member: int | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    export: Path | None,
    data: str | None,
    seed: int | None,
    device: str | None,
    dtype: str | None,
    **asked: Any,
) -> None:
    """Look at the curvature of a network: at the initial weights of CONFIG, or at the checkpoints
    of a RUN.

    Several RUNs are for --alignment: their curves are drawn together. Exit code 1 where a --check
    fails.
    """
    targets = tuple(of_member(target, member) for target in targets)
    problems = [
        text
        for wrong, text in (
            (
                len(targets) > 1 and not asked["alignment"],
                f"CONFIG|RUN: expected one, found {len(targets)}; several are for --alignment",
            ),
            (len(targets) > 1 and export is not None, "--export: expected one CONFIG or RUN"),
            (
                asked["no_summary"]
                and not (
                    asked["alignment"] or asked["density"] or asked["surface"] or export or check
                ),
                "--no-summary: nothing else was asked for; add --alignment, --density, "
                "--surface or --export",
            ),
            (
                check
                and bool(
                    asked["alignment"]
                    or asked["density"]
                    or asked["surface"]
                    or export
                    or figures
                    or csv_file
                ),
                "--check stands alone: without --alignment, --density, --surface, --export, "
                "--figures and --csv",
            ),
            (
                export is not None and "," not in which and which == "all",
                "--export: expected one checkpoint, found all",
            ),
            (
                export is not None and "," in which,
                f"--export: expected one checkpoint, found {which}",
            ),
        )
        if wrong
    ]
    if problems:
        raise ConfigError(problems)
    flags = given_flags(
        data=data,
        seed=seed,
        device=device or ("cpu" if check else None),
        dtype="float64" if check else dtype,
    )
    if check:
        _check(targets[0], sets, flags, samples, init_from, which, as_json)
        return

    def claim(file: Path) -> Path:
        return claim_beside(targets, file, overwrite, *([init_from] if init_from else []))

    for file in _earlier(csv_file, figures, out):
        claim(file)
    export, csv_file = export and claim(export), csv_file and claim(csv_file)
    _inspect(
        targets,
        sets,
        flags,
        samples,
        init_from,
        which,
        _inspection_request(export, **asked),
        csv_file,
        figures or (out and out / "figures") or _default_figures(targets[0], asked),
        out,
        as_json,
        quiet,
    )


def _earlier(csv_file: Path | None, figures: Path | None, out: Path | None) -> list[Path]:
    """Return files that may be written beside those that the user has named: tables, and figures of
    an earlier inspection.
    """
    from gnopt.inspection.finding_files import TABLES, alignment_beside
    from gnopt.plots.inspection import drawn_before

    files = [alignment_beside(csv_file)] if csv_file else []
    files += [out / name for name in TABLES] if out else []
    for folder in (figures, out and out / "figures"):
        files += drawn_before(folder) if folder else []
    return files


def _inspection_request(export: Path | None, **asked: Any) -> InspectionRequest:
    from gnopt.inspection.alignment import Solve
    from gnopt.inspection.inspect import InspectionRequest

    solve = None
    if asked["alignment"]:
        solve = Solve(_dampings(asked["damping"]), asked["cg_tolerance"], asked["cg_iterations"])
    return InspectionRequest(
        asked["curvature"],
        asked["layers"],
        not asked["no_summary"],
        asked["kfac_samples"],
        asked["theorem_rows"],
        solve,
        (asked["lanczos_steps"], asked["lanczos_probes"]) if asked["density"] else None,
        asked["surface_range"] if asked["surface"] else None,
        export,
    )


def _dampings(text: str | None) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        values = (-1.0,)
    if any(not 0.0 < value < float("inf") for value in values):
        raise ConfigError(f"--damping {text!r}: expected numbers > 0 joined by commas")
    return values


def _default_figures(target: Path, asked: dict[str, Any]) -> Path | None:
    """Return the folder for --surface without --figures or --out, or None without --surface.

    It is ``inspection`` inside a run, else ``inspection/<config>``.
    """
    from gnopt.files import inside

    if not asked["surface"]:
        return None
    return inside(target, "inspection") if target.is_dir() else Path("inspection") / target.stem


def _inspect(
    targets: Sequence[Path],
    sets: tuple[str, ...],
    flags: Flags,
    samples: int | None,
    init_from: Path | None,
    which: str,
    request: InspectionRequest,
    csv_file: Path | None,
    figures: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    import time

    from gnopt.inspection import finding_files, finding_texts
    from gnopt.inspection.inspect import inspect
    from gnopt.inspection.subject import open_subject

    start = time.monotonic()

    def note(text: str) -> None:
        if not quiet:
            click.echo(f"{time.monotonic() - start:7.1f} s  {text}", err=True)

    findings: list[Findings] = []
    results: list[dict[str, Any]] = []
    for target in targets:
        with open_subject(target, sets, flags, samples, init_from, which) as subject:
            note(finding_texts.headline(subject))
            findings.append(inspect(subject, request, note))
            results.append(finding_files.as_json(subject, findings[-1]))
            if not as_json:
                finding_texts.print_findings(subject, findings[-1])
    files = [
        *([request.export] if request.export else []),
        *finding_files.write_all(findings, csv_file, out),
    ]
    if figures is not None:
        files += _draw(findings, figures, out is not None and figures == out / "figures", note)
    result = {**results[0], "files": [str(path) for path in files]}
    if len(results) > 1:
        result = {"targets": results, "files": result["files"]}
    if as_json:
        print_json(result)
    else:
        click.echo("".join(f"{path}\n" for path in files), nl=False)


def _draw(
    findings: Sequence[Findings], folder: Path, optional: bool, note: Callable[[str], None]
) -> list[Path]:
    """Draw the figures and return their files.

    ``optional`` figures, drawn beside the tables of --out, are left out without matplotlib, with a
    line on stderr. Otherwise GnoptError is raised.
    """
    from gnopt.plots.inspection import draw_findings

    try:
        return draw_findings(findings, folder)
    except GnoptError as error:
        if not optional:
            raise
        note(f"no figures: {error}")
        return []


def _check(
    target: Path,
    sets: tuple[str, ...],
    flags: Flags,
    samples: int | None,
    init_from: Path | None,
    which: str,
    as_json: bool,
) -> None:
    from gnopt.inspection import finding_texts
    from gnopt.inspection.check import check, refuse_failures
    from gnopt.inspection.subject import open_subject, take_snapshot

    with open_subject(target, sets, flags, samples, init_from, which) as subject:
        verdicts = check(take_snapshot(subject, subject.weights(subject.places[-1])))
    if as_json:
        print_json(
            {
                "target": subject.name,
                "passed": all(v.passed for v in verdicts),
                "checks": [v.row() for v in verdicts],
            }
        )
    else:
        finding_texts.print_verdicts(verdicts)
    refuse_failures(verdicts)
