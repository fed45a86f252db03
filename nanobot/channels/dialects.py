"""How the platforms write styles."""

from nanobot.channels.markup import HTML, HTML_VALUE, Dialect

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
    fence="<pre>{code}</pre>",
    language_fence='<pre><code class="language-{language}">{code}</code></pre>',
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
    fence="```\n{code}\n```",
    language_fence="```{language}\n{code}\n```",
    link="[{text}]({href})",
    links=r"https?://\S+",
    quote_line="> ",
    bullet="-",
    indent="  ",
)
