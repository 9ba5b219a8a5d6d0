"""Make the screenshots of the page in ``docs/``: ``python docs/screenshots.py FOLDER_OF_RUNS``.

Needs Chromium; ``make screenshots`` trains the runs first. ``docs/page.sha256`` records
the code and templates that the screenshots show, so that a test finds them stale.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
REPORT = DOCS.parent / "src" / "mla_lightning" / "report"
#: File -> width and height of the window in pixels, and whether it is dark.
SCREENSHOTS = {
    "page.png": (1280, 2300, False),
    "page-dark.png": (1280, 1300, True),
    "page-phone.png": (500, 1300, False),  # the narrowest window of headless Chromium
}
#: What the page looks like depends on these files.
SOURCES = ("page/templates/*", "document/templates/*", "figures/style.py", "figures/modalities.py")


def fingerprint() -> str:
    """Return the SHA-256 of the files that determine what the page looks like."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in REPORT.glob(pattern)):
        digest.update(f"{path.relative_to(REPORT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def main(runs: str) -> None:
    """Write a report of the runs, and photograph its page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    if browser is None:
        raise SystemExit("Screenshots need Chromium; Debian: apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mla", "report", "page", runs, "--output", folder], check=True)
        page = Path(folder, "page.html").as_uri()
        for name, (width, height, is_dark) in SCREENSHOTS.items():
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            options += ["--blink-settings=preferredColorScheme=0"] if is_dark else []
            options += [f"--window-size={width},{height}", f"--screenshot={DOCS / name}", page]
            subprocess.run([browser, *options], check=True, capture_output=True, timeout=120)
    (DOCS / "page.sha256").write_text(f"{fingerprint()}\n")


if __name__ == "__main__":
    main(sys.argv[1])
