"""The plugins in examples/tools, copied into a workspace and called by a model in a turn."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.tools.plugin_folder import PluginFolder

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "tools"
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def plugins(plugins: PluginFolder) -> PluginFolder:
    for file in EXAMPLES.glob("*.py"):
        plugins.write(file.name, file.read_text(encoding="utf-8"))
    return plugins


async def test_the_page_names_them_all(plugins: PluginFolder) -> None:
    rows = re.findall(r"^\| \[\w+\.py\]\((\w+\.py)\) \| (.+?) \|", PAGE, re.MULTILINE)
    assert {file: re.findall(r"`(\w+)`", tools) for file, tools in rows} == {
        file.name: re.findall(r"^    name = \"(\w+)\"", file.read_text(), re.MULTILINE)
        for file in EXAMPLES.glob("*.py")
    }
    assert {*await plugins.tools()} == {*re.findall(r"`(\w+)`", " ".join(tools for _, tools in rows))}
    assert await plugins.faults() == {}


def test_the_guide_shows_the_smallest() -> None:
    readme = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    assert f"```python\n{(EXAMPLES / 'days.py').read_text(encoding='utf-8')}```" in readme


async def test_days(plugins: PluginFolder) -> None:
    assert await plugins.result("days_between", start="2028-02-28", end="2028-03-01") == "2 days, Wednesday"
    tomorrow = date.today() + timedelta(days=1)
    assert re.match(r"[01] days, \w+day", await plugins.result("days_between", end=str(tomorrow)))
    assert (await plugins.result("days_between", end="24.12.")).endswith("Dates look like 2030-12-24.")


@pytest.mark.parametrize(
    ("value", "unit", "to", "shown"),
    [
        (350, "°F", "°C", "350 °F = 176.6666667 °C"),
        (-40, "°C", "°F", "-40 °C = -40 °F"),
        (0, "K", "°C", "0 K = -273.15 °C"),
        (26.2, "mi", "km", "26.2 mi = 42.1648128 km"),
        ("1", "lb", "g", "1 lb = 453.59237 g"),
        (2, "cup", "ml", "2 cup = 473.176473 ml"),
        (36, "km/h", "m/s", "36 km/h = 10 m/s"),
        (1, "GiB", "MB", "1 GiB = 1073.741824 MB"),
    ],
)
async def test_units(plugins: PluginFolder, value: float, unit: str, to: str, shown: str) -> None:
    assert await plugins.result("convert_units", value=value, unit=unit, to=to) == shown


async def test_units_that_do_not_fit(plugins: PluginFolder) -> None:
    (result,) = (await plugins.turn("convert_units", value=1, unit="kg", to="m")).results
    assert result.outcome == "error"
    assert "Units that fit each other: m, km" in result.content


async def test_expenses(plugins: PluginFolder) -> None:
    assert await plugins.result("expense_report") == "There are no expenses yet."
    for amount, category, day in [("12,50", "Food", "2030-01-05"), ("7", "food", "2030-01-09")]:
        assert "Noted" in await plugins.result("log_expense", amount=amount, category=category, date=day)
    await plugins.result(
        "log_expense", amount=30.1, category="travel", note='a "taxi", late', date="2030-02-01"
    )
    assert await plugins.result("expense_report", period="2030-01") == "food: 19.50\ntotal: 19.50"
    assert await plugins.result("expense_report") == "travel: 30.10\nfood: 19.50\ntotal: 49.60"
    assert await plugins.result("expense_report", period="1999") == "There are no expenses in 1999."
    ledger = (plugins.workspace / "expenses.csv").read_text()
    assert ledger.splitlines()[0] == "date,amount,category,note"
    assert '2030-02-01,30.10,travel,"a ""taxi"", late"' in ledger


@pytest.mark.parametrize(
    "wrong", [{"amount": "a lot"}, {"amount": "NaN"}, {"amount": "1", "date": "yesterday"}]
)
async def test_expenses_that_make_no_sense(plugins: PluginFolder, wrong: dict[str, str]) -> None:
    assert (await plugins.result("log_expense", category="food", **wrong)).startswith("Error: ")
    assert not (plugins.workspace / "expenses.csv").exists()


async def test_a_table_is_queried(plugins: PluginFolder) -> None:
    table = "city;units;price\nOslo;3;1.5\nRome;10;2\nOslo;4;\n\n"
    (plugins.workspace / "sales.csv").write_text(table, encoding="utf-8-sig")
    sql = "SELECT city, sum(units) AS total FROM data GROUP BY city ORDER BY total DESC"
    assert await plugins.result("query_csv", file="sales.csv", sql=sql) == "city | total\nRome | 10\nOslo | 7"
    assert await plugins.result("query_csv", file="sales.csv", sql="SELECT price FROM data") == (
        "price\n1.5\n2\n"
    )
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 99) SELECT i FROM n"
    assert (await plugins.result("query_csv", file="sales.csv", sql=many)).endswith("50\n… and more rows")


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH DATABASE 'stolen.db' AS other",
        "DROP TABLE data",
        "INSERT INTO data VALUES (1)",
        "PRAGMA database_list",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT missing FROM data",
        "nonsense",
    ],
)
async def test_other_sql_is_refused(plugins: PluginFolder, sql: str) -> None:
    (plugins.workspace / "a.csv").write_text("a\n1\n")
    assert (await plugins.result("query_csv", file="a.csv", sql=sql)).startswith("Error: ")
    assert [file.name for file in plugins.workspace.iterdir() if file.suffix == ".db"] == []


async def test_only_tables_in_the_workspace(plugins: PluginFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("key\n1\n")
    (plugins.workspace / "link.csv").symlink_to(tmp_path / "secret.csv")
    (plugins.workspace / "empty.csv").write_text("")
    for file in ("../secret.csv", str(tmp_path / "secret.csv"), "link.csv", "tools", "missing.csv"):
        assert "there is no file" in await plugins.result("query_csv", file=file, sql="SELECT * FROM data")
    assert await plugins.result("query_csv", file="empty.csv", sql="SELECT * FROM data") == "empty"
