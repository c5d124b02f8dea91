"""Tables as plain text."""

import pytest

from restore.tables import format_table, print_table

ROWS = [
    {"model": "a [bold]b[/bold]", "PSNR (dB)": "28.42", "images": "4"},
    {"model": "c", "PSNR (dB)": "9.1", "images": "12"},
]


def test_columns_are_aligned_and_square_brackets_are_kept() -> None:
    assert format_table(ROWS, 80) == [
        "model             PSNR (dB)  images",
        "-----------------------------------",
        "a [bold]b[/bold]      28.42       4",
        "c                       9.1      12",
    ]


def test_a_long_name_is_folded_whole() -> None:
    name = "runs/with/a/very/long/path/to/some/weights.safetensors"
    lines = format_table([{"model": name, "PSNR (dB)": "28.42"}], 40)
    assert max(map(len, lines)) <= 40
    assert lines[2].endswith("28.42")
    assert "".join(line.removesuffix("28.42").strip() for line in lines[2:]) == name


def test_columns_that_do_not_fit_follow_below_beside_the_first() -> None:
    row = {"norm": "batch"} | {f"quantity {number}": str(number) for number in range(9)}
    lines = format_table([row], 60)
    assert max(map(len, lines)) <= 60
    text = "\n".join(lines)
    assert text.count("batch") == text.count("norm") == 3
    assert all(f"quantity {number}" in text for number in range(9))


def test_nothing_is_printed_of_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("A title.", [])
    assert capsys.readouterr().out == ""


def test_into_a_pipe_tables_are_ascii_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("A title.", [{"model": "m" * 100, "PSNR (dB)": "1"}])
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert max(map(len, printed.splitlines())) <= 80
