"""How many days until then? Models are bad at calendars, this tool is not."""

from datetime import date

from nanobot.agent.tools import Tool


class DaysBetween(Tool):
    name = "days_between"
    description = "Count the days between two dates, and tell the weekday of the second."
    parameters = {
        "type": "object",
        "properties": {
            "start": {"type": "string", "description": "YYYY-MM-DD; today if left out"},
            "end": {"type": "string", "description": "YYYY-MM-DD"},
        },
        "required": ["end"],
    }
    read_only = True

    async def execute(self, end: str, start: str = "", **kwargs) -> str:
        try:
            first = date.fromisoformat(start) if start else date.today()
            last = date.fromisoformat(end)
        except ValueError as error:
            return f"Error: {error}. Dates look like 2030-12-24."
        return f"{(last - first).days} days, {last:%A}"
