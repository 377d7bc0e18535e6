"""Where a model comes from, and the proof that its bytes are the published ones.

One grammar everywhere: `name`, `name@version`, a folder, or `hf://owner/repo[@revision]`; a pin has the sha256 of the
weights behind its commit, `hf://owner/repo@<commit>:<sha256>`. Names are looked up among the
bundled and the pulled models, then on the hub that `REGZOO_HUB` configures. A folder that shares its name with a model
is written `./name`. A branch of a repository that was pulled stays at its commit until it is pulled again.
"""

from regzoo.hub.entry import Entry
from regzoo.hub.lookup import bundled, cached, find, models, offered, pin, resolve, survey, take
from regzoo.hub.pulling import pull, remove
from regzoo.hub.remote import TransportError
from regzoo.hub.store import DamagedError, cache_folder, verify

__all__ = [
    "DamagedError",
    "Entry",
    "TransportError",
    "bundled",
    "cache_folder",
    "cached",
    "find",
    "models",
    "offered",
    "pin",
    "pull",
    "remove",
    "resolve",
    "survey",
    "take",
    "verify",
]
