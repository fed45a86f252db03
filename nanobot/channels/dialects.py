"""How the platforms write styles: a table."""

import re
from dataclasses import dataclass

Escapes = tuple[tuple[str, str], ...]


def utf16_len(text: str) -> int:
    """The length in UTF-16 code units, as Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a platform writes styles. Escapes are (regular expression, replacement), applied in order:
    `escape_code` to code and bare addresses, before it `escape_inline` to code in a line, `escape_value` to
    what is inside the markup.

    A message holds `limit` characters, or UTF-16 units, of what is shown or (`counts_markup`) of what is
    sent, and `byte_limit` bytes. `quote_line` stands before each line of a quote; `code_nests` says whether
    code may stand inside other styles; `links` which addresses may be linked.
    """

    limit: int
    utf16: bool = False
    counts_markup: bool = True
    byte_limit: int = 0
    escape: Escapes = ()
    escape_code: Escapes = ()
    escape_inline: Escapes = ()
    escape_value: Escapes = ()
    bold: str = "{text}"
    italic: str = "{text}"
    strike: str = "{text}"
    code: str = "{text}"
    heading: tuple[str, ...] = ("{text}",)  # by level; the last one counts for those below
    fence: str = "{text}"
    language_fence: str = ""
    link: str = ""
    links: str = r"(?:https?://|mailto:)\S+"
    quote: str = "{text}"
    quote_line: str = ""
    bullet: str = "•"
    indent: str = "   "
    rule: str = "———"
    code_nests: bool = True

    def length(self, text: str) -> int:
        """The length as the platform counts."""
        return utf16_len(text) if self.utf16 else len(text)


def escaped(text: str, escapes: Escapes) -> str:
    """The text with each pattern replaced, in order."""
    for pattern, replacement in escapes:
        text = re.sub(pattern, replacement, text)
    return text


HTML: Escapes = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
HTML_VALUE: Escapes = (*HTML, ('"', "&quot;"), ("'", "&#x27;"))

# https://core.telegram.org/bots/api#html-style: 4096 UTF-16 units after entities parsing.
TELEGRAM_HTML = Dialect(
    limit=4096,
    utf16=True,
    counts_markup=False,
    byte_limit=30_000,  # safely below what the Bot API server takes
    escape=HTML,
    escape_code=HTML,
    escape_value=HTML_VALUE,
    bold="<b>{text}</b>",
    italic="<i>{text}</i>",
    strike="<s>{text}</s>",
    code="<code>{text}</code>",
    heading=("<b>{text}</b>",),
    fence="<pre>{text}</pre>",
    language_fence='<pre><code class="language-{language}">{text}</code></pre>',
    link='<a href="{href}">{text}</a>',
    links=r"(?:https?://|tg://|mailto:)\S+",
    quote="<blockquote>{text}</blockquote>",
    code_nests=False,
)

# https://support.discord.com/hc/en-us/articles/210298617: a backslash takes any punctuation literally.
DISCORD_MARKDOWN = Dialect(
    limit=2000,  # code points
    escape=((r"([\\*_~|`<>\[\]@])", r"\\\1"), (r"(?m)^(\s*)([#+-]|\d+(?=\.))", r"\1\\\2")),
    escape_code=(("```", "`\u200b``"),),
    escape_inline=(("``", "`\u200b`"), ("^`", "\u200b`"), ("`$", "`\u200b")),
    escape_value=((r"\)", "%29"), (" ", "%20")),
    bold="**{text}**",
    italic="*{text}*",
    strike="~~{text}~~",
    code="``{text}``",
    heading=("# {text}", "## {text}", "### {text}", "**{text}**"),
    fence="```\n{text}\n```",
    language_fence="```{language}\n{text}\n```",
    link="[{text}]({href})",
    links=r"https?://\S+",
    quote_line="> ",
    bullet="-",
    indent="  ",
)
