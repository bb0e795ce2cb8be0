"""A section of an experiment's settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """An unknown key is an error, and what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
