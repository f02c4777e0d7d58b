"""Tables of docs/explanation/retries.md, and its picture, from the functions in chatstream/_retries/retry.py.

``python docs/retries.py`` writes both; a test compares them with the code.
"""

from __future__ import annotations

import re
from pathlib import Path

from chatstream._retries import retry

HERE = Path(__file__).resolve().parent
PAGE = HERE / "explanation" / "retries.md"
PICTURE = HERE / "explanation" / "retries.svg"
RETRIES = 8  # the last two have the longest delay
# The phrases of http.HTTPStatus differ from one Python to another.
STATUSES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    529: "Overloaded (Anthropic and others)",
}
REQUESTS = (
    {},
    {"retry-after-ms": "250"},
    {"retry-after-ms": "0", "Retry-After": "2"},
    {"Retry-After": "1.5"},
    {"Date": "Fri, 06 Nov 2026 08:49:37 GMT", "Retry-After": "Fri, 06 Nov 2026 08:49:40 GMT"},
    {"Date": "Fri, 06 Nov 2026 08:49:37 GMT", "Retry-After": "Fri, 06 Nov 2026 08:49:30 GMT"},
    {"Retry-After": "soon"},
)


def statuses() -> str:
    """Whether each status is retried, without and with the header that decides."""
    rows = [
        "| status | | retried | with `x-should-retry: true` | with `x-should-retry: false` |",
        "|---|---|---|---|---|",
    ]
    for status, phrase in STATUSES.items():
        decisions = [
            retry.is_retryable(status, {"x-should-retry": value}) for value in ("", "true", "false")
        ]
        rows.append(
            f"| {status} | {phrase} | "
            + " | ".join("yes" if each else "no" for each in decisions)
            + " |"
        )
    return "\n".join(rows)


def delays() -> str:
    """The shortest, the middle and the longest delay before each retry."""
    rows = [
        "| before retry | at least | on average | at most | waited until then, on average |",
        "|---|---|---|---|---|",
    ]
    waited = 0.0
    for number in range(1, RETRIES + 1):
        low, middle, high = (retry.backoff(number, jitter) for jitter in (0.9, 1.0, 1.1))
        waited += middle
        rows.append(f"| {number} | {low:.2f} s | {middle:.2f} s | {high:.2f} s | {waited:.1f} s |")
    return "\n".join(rows)


def requested() -> str:
    """The delay that the headers of an error response request."""
    rows = ["| headers of the error response | delay |", "|---|---|"]
    for headers in REQUESTS:
        shown = ", ".join(f"`{name}: {value}`" for name, value in headers.items()) or "none"
        seconds = retry.retry_after(headers, now=0.0)
        rows.append(
            f"| {shown} | {'the backoff delay (section 4)' if seconds is None else f'{seconds:g} s'} |"
        )
    return "\n".join(rows)


TABLES = {"statuses": statuses, "requested": requested, "delays": delays}


def page(text: str) -> str:
    """The text of the page with its tables as the code makes them."""

    def current(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]]()}{found[3]}"

    pattern = r"(<!-- begin: (\w+) -->\n).*?(\n<!-- end: \2 -->)"
    return re.sub(pattern, current, text, flags=re.DOTALL)


WIDTH, HEIGHT, LEFT, BOTTOM = 640, 260, 56, 36  # pixels
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #59636e } .end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #d1d9e0 } .range { stroke: #0969da; stroke-width: 12 } .mean { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #9198a1 } .grid { stroke: #3d444d } .range { stroke: #4493f8 } .mean { fill: #0d1117 }
}</style>"""


def picture() -> str:
    """The range of each delay as a bar, with a dot at its average."""

    def y(seconds: float) -> float:
        return HEIGHT - BOTTOM - seconds / retry.MAX_DELAY * (HEIGHT - BOTTOM - 20)

    lines = []
    for seconds in range(0, int(retry.MAX_DELAY) + 1, 2):
        lines.append(f'<path class="grid" d="M{LEFT} {y(seconds):g}H{WIDTH - 10}"/>')
        lines.append(f'<text class="end" x="{LEFT - 8}" y="{y(seconds) + 4:g}">{seconds} s</text>')
    step = (WIDTH - LEFT - 10) / RETRIES
    for number in range(1, RETRIES + 1):
        x = LEFT + step * (number - 0.5)
        low, middle, high = (y(retry.backoff(number, jitter)) for jitter in (0.9, 1.0, 1.1))
        lines.append(f'<path class="range" d="M{x:g} {low + 3:.1f}V{high - 3:.1f}"/>')
        lines.append(f'<circle class="mean" cx="{x:g}" cy="{middle:.1f}" r="3"/>')
        lines.append(f'<text class="middle" x="{x:g}" y="{HEIGHT - 18}">{number}</text>')
    lines.append(f'<text class="middle" x="{(LEFT + WIDTH) / 2:g}" y="{HEIGHT - 2}">retry</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{STYLE}\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    PICTURE.write_text(picture(), "utf-8")
