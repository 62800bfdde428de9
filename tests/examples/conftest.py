"""The examples import what lies beside them, as a script does."""

import sys

from tests.source import ROOT

sys.path.insert(0, str(ROOT / "examples"))
