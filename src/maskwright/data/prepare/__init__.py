"""Preparing a source of any size: sharded token tables, the same bytes however they are made."""

from maskwright.data.prepare.engine import Engine, Here, WorkerLost
from maskwright.data.prepare.job import prepare
from maskwright.data.prepare.pieces import Source
from maskwright.data.prepare.processes import Processes
from maskwright.data.prepare.settings import PhraseSettings, Prepared, Settings

__all__ = [
    "Engine",
    "Here",
    "PhraseSettings",
    "Prepared",
    "Processes",
    "Settings",
    "Source",
    "WorkerLost",
    "prepare",
]
