"""What the site takes from outside docs/: two pages of the repository's root, and the commands' help."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # of the site, which are not in docs/
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "kernels.md": "kernels/README.md",
    "loops.md": "minet/loops/README.md",
    "public-kernels.md": "benchmarks/public_kernels.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)((?:#[^)]*)?)\)")


def on_files(files: Files, config):
    """Add the pages that are elsewhere."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Turn links, and fill in the commands."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands())
    uri = page.file.src_uri
    folder = (ROOT / PAGES[uri] if uri in PAGES else ROOT / "docs" / uri).parent
    return LINK.sub(lambda link: turned(link, folder, page.file, files), markdown)


def turned(link: re.Match[str], folder: Path, source: File, files: Files) -> str:
    """A link that leads to a file: to its page, or, if the site has none, only its text."""
    text, target, anchor = link.groups()
    path = (folder / target).resolve()
    if re.match(r"\w+:", target) or not path.exists():
        return link[0]  # an address, or for mkdocs to report
    if path.is_relative_to(ROOT / "docs"):
        uri = path.relative_to(ROOT / "docs").as_posix()
    else:
        uri = next((page for page, name in PAGES.items() if ROOT / name == path), "")
    if (found := files.get_file_from_path(uri)) is None:
        return text
    up = "../" * source.src_uri.count("/")
    return f"[{text}]({up}{found.src_uri}{anchor})"


def commands() -> str:
    """A section for each command of `minet`, from its own help."""
    from typer.main import get_command

    from minet.cli.main import app

    parts = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        context = command.context_class(command, info_name=f"minet {name}", terminal_width=100)
        parts.append(f"## minet {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)
