"""Building blocks shared by the scripts; README.md has the annotated tree.

Importing this package reads `.env` from the working directory, before any library can read
`HF_HOME`. Variables that the environment already sets are left alone.
"""

from pathlib import Path

from dotenv import load_dotenv

load_dotenv(Path.cwd() / ".env")
