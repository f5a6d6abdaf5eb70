"""Makes a site of pages that a forge shows as they stand; mkdocs calls these functions (mkdocs.yml, `hooks`).

A page of docs/ may link to any file of the repository. On the site README.md, CHANGELOG.md and CONTRIBUTING.md are pages like
those of docs/, and any other file that a page links to is there as a copy. Links keep their form in the sources.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "docs/README.md": "documentation.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Places on the site of pages that would not be there, or elsewhere."""
LINK = re.compile(r"(?<=\]\()[^)#:\s]+(?=[)#])")
"""The path of a Markdown link to another file of the repository."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that do not lie in docs/."""
    from mkdocs.structure.files import File

    files.remove(files.src_uris["README.md"])
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for page in list(files.documentation_pages()):
        for link in LINK.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(_path(page)), link))
            if not path.startswith(("docs/", "../")) and path not in PAGES and (ROOT / path).is_file():
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the site has what they name."""
    here = _path(page.file)

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link[0]))
        place = PAGES.get(path, path.removeprefix("docs/"))
        return posixpath.relpath(place, posixpath.dirname(page.file.src_uri)) if place in files.src_uris else link[0]

    return LINK.sub(moved, markdown)


def _path(page: File) -> str:
    """Where a page's source lies in the repository."""
    return Path(page.abs_src_path or "").relative_to(ROOT).as_posix()
