# SPDX-License-Identifier: Apache-2.0
"""Measured tables in the pages of docs/: what stands between two marks is replaced."""

import os
import re
import tempfile


def table(head, rows):
    return "\n".join(["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]])


def put(page, name, script, content):
    """Writes `content` between `<!-- NAME: written by SCRIPT -->` and `<!-- end of NAME -->` of a page, all or nothing."""
    text = page.read_text()
    pattern = re.compile(rf"(<!-- {re.escape(name)}: written by {re.escape(script)} -->\n).*?(<!-- end of {re.escape(name)} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"{script}: {page} has no marks for {name}")
    with tempfile.NamedTemporaryFile("w", dir=page.parent, delete=False) as file:
        file.write(pattern.sub(lambda m: m[1] + content + "\n" + m[2], text))
    os.chmod(file.name, page.stat().st_mode)
    os.replace(file.name, page)
