"""A ledger: "I paid 12.50 for lunch", later "What did I spend on food this month?"

Copy this file into `workspace/tools`. The ledger is `expenses.csv` in the workspace, a table that any
spreadsheet opens.
"""

import csv
from collections import defaultdict
from datetime import date
from decimal import Decimal, InvalidOperation

from nanobot.agent.tools import Tool, ToolContext

COLUMNS = ["date", "amount", "category", "note"]


class LogExpense(Tool):
    name = "log_expense"
    description = "Write an expense into the owner's ledger."
    parameters = {
        "type": "object",
        "properties": {
            "amount": {"type": "string", "description": "Such as 12.50"},
            "category": {"type": "string", "description": "One word, such as food"},
            "note": {"type": "string"},
            "date": {"type": "string", "description": "YYYY-MM-DD; today if left out"},
        },
        "required": ["amount", "category"],
    }

    def __init__(self, context: ToolContext):
        self._ledger = context.workspace / "expenses.csv"

    async def execute(self, amount: str, category: str, note: str = "", date: str = "", **kwargs) -> str:
        try:
            row = [_day(date), f"{_money(amount):.2f}", category.strip().lower(), note]
        except ValueError as error:
            return f"Error: {error}"
        is_new = not self._ledger.exists()
        with self._ledger.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, row] if is_new else [row])
        return f"Noted: {row[1]} for {row[2]} on {row[0]}."


class ExpenseReport(Tool):
    name = "expense_report"
    description = "Add up the owner's expenses by category."
    parameters = {
        "type": "object",
        "properties": {
            "period": {"type": "string", "description": "YYYY, YYYY-MM or YYYY-MM-DD; all if left out"}
        },
    }
    read_only = True

    def __init__(self, context: ToolContext):
        self._ledger = context.workspace / "expenses.csv"

    async def execute(self, period: str = "", **kwargs) -> str:
        sums = defaultdict(Decimal)
        if self._ledger.exists():
            with self._ledger.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if row["date"].startswith(period):
                        sums[row["category"]] += Decimal(row["amount"])
        if not sums:
            return "There are no expenses" + (f" in {period}." if period else " yet.")
        lines = [
            f"{category}: {amount}" for category, amount in sorted(sums.items(), key=lambda sum: -sum[1])
        ]
        return "\n".join([*lines, f"total: {sum(sums.values())}"])


def _day(text: str) -> str:
    try:
        return (date.fromisoformat(text) if text else date.today()).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no date. Write it as 2030-12-24.") from None


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError(f"{text!r} is no amount. Write it as 12.50.")
    return amount
