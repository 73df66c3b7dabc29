"""docs/metrics.md is generated; ``python -m tests.test_metrics_doc`` writes it."""

from pathlib import Path

from kube2etcd.metrics import Metrics

FILE = Path(__file__).parents[1] / "docs" / "metrics.md"


def generated() -> str:
    lines = [
        "# Metrics",
        "",
        "Served at `/metrics` of `--listen`. This table is generated: `python -m tests.test_metrics_doc`.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, kind, labels, text in sorted(Metrics().catalog):
        shown = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {shown} | {text} |")
    return "\n".join([*lines, ""])


def test_document_is_up_to_date() -> None:
    assert FILE.read_text("utf-8") == generated()


def test_help_of_every_metric_is_a_sentence() -> None:
    assert [name for name, _, _, text in Metrics().catalog if not text.endswith(".")] == []


if __name__ == "__main__":
    FILE.write_text(generated(), "utf-8")
