"""A table as HTML: escaped, aligned, the best value of comparable rows in bold."""

import re

from medzeroseg.tables import Table


def table(columns: list[str], rows: list[list[str]], values: list[dict[str, object]] | None = None) -> Table:
    return Table("table9", "Caption <1>", columns, rows, ["5 < 6 & more"], values or [{} for _ in rows])


def bold(html: str) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", html)


def test_everything_is_escaped() -> None:
    html = table(["A & B"], [["<script>alert('x')</script>"]]).to_html()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert "A &amp; B" in html
    assert "Caption &lt;1&gt;" in html
    assert "5 &lt; 6 &amp; more" in html


def test_numbers_are_aligned_right_and_words_are_not() -> None:
    columns = ["Model", "DSC", "HD95", "p", "Config", "Difference"]
    rows = [
        ["small", "81.20 ± 3.00**", "4.10 ± 1.00 mm", "<0.001", "12ab56cd", "+1.20 [0.10, 2.30]"],
        ["2nd", "-", "mixed units", "reference", "99999999", "reference"],
    ]
    html = table(columns, rows).to_html()
    heads = re.findall(r"<th scope=\"col\"( class=\"number\")?>(\w+)", html)
    assert [name for side, name in heads if side] == ["DSC", "HD95", "p", "Difference"]


def test_the_best_of_a_dataset_is_bold_and_lower_distances_are_better() -> None:
    rows = [["a", "80.00 ± 1.00", "9.00 mm"], ["b", "80.50*", "12.00 mm"], ["c", "9.75", "1.00 mm"], ["d", "-", "-"]]
    values: list[dict[str, object]] = [{"dataset": "x"}, {"dataset": "x"}, {"dataset": "y"}, {"dataset": "x"}]
    # the only row of y has nothing to be better than
    assert bold(table(["Model", "DSC", "HD95"], rows, values).to_html()) == ["9.00 mm", "80.50*"]


def test_equal_values_are_all_bold_and_other_columns_never() -> None:
    rows = [["a", "50.00", "7"], ["b", "50.00", "8"]]
    html = table(["Model", "i→t top-1", "Cases"], rows, [{"dataset": "x"}, {"dataset": "x"}]).to_html()
    assert bold(html) == ["50.00", "50.00"]


def test_rows_that_used_labels_are_not_compared() -> None:
    rows = [
        ["a", "50.00"],
        ["b", "40.00"],
        ["full", "90.00"],
        ["told", "95.00"],
        ["taught", "96.00"],
        ["chosen", "97.00"],
    ]
    marks: list[dict[str, object]] = [
        {},
        {},
        {"supervision": "full"},
        {"reveals_ground_truth": True},
        {"labels_used": True},
        {"chosen_on_validation": True},
    ]
    assert bold(table(["Model", "DSC"], rows, [mark | {"dataset": "x"} for mark in marks]).to_html()) == ["50.00"]


def test_sources_are_a_column_of_their_own() -> None:
    html = table(["Model"], [["a"], ["b"]]).to_html(['<a href="#x">x</a>', "-"])
    assert html.count("<td") == 4
    assert '<td><a href="#x">x</a></td>' in html
    assert ">Source</th>" in html
