"""Network families that can be exported: one folder per family, behind the Protocol of `base`, in one registry.

To add a network: a folder with an object that follows `base.Network`, and an entry in `NETWORKS`.
"""

from typing import TYPE_CHECKING

from cloformer_deploy.networks.base import Network
from cloformer_deploy.networks.cloformer.network import CloFormerNetwork
from cloformer_deploy.networks.program.network import ProgramNetwork

if TYPE_CHECKING:
    from torch import nn

_FAMILIES: tuple[Network, ...] = (CloFormerNetwork(), ProgramNetwork())
NETWORKS: dict[str, Network] = {item.name: item for item in _FAMILIES}

__all__ = ["NETWORKS", "Network", "all_variants", "configuration_keys", "network_of"]


def all_variants() -> tuple[str, ...]:
    """Return the names of all configurations of all families."""
    return tuple(dict.fromkeys(name for network in NETWORKS.values() for name in network.variants))


def configuration_keys() -> tuple[str, ...]:
    """Return the published configuration keys of all families."""
    return tuple(dict.fromkeys(key for network in NETWORKS.values() for key in network.configuration_keys))


def network_of(model: "nn.Module") -> Network:
    """Return the family that a model belongs to, by its `family` attribute."""
    return NETWORKS[str(model.family)]
