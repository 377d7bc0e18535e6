"""A network of one's own as data: named, since a zoo entry holds no code and none is ever imported for it."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from regzoo.schema.strict import Strict


class OwnConfig(Strict):
    """A network that a function of `regzoo.models.NETWORKS` builds."""

    network: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """The function's name there."""
    dims: Literal[2, 3] = 3
    settings: Annotated[dict[str, JsonValue], Field(default_factory=dict, max_length=64)]
    """The function's arguments."""
