"""Resource types that deployments of earlier days expect to be there."""

from __future__ import annotations

from gnocchi.resource_type.attributes import String, Uuid
from gnocchi.resource_type.types import ResourceType


def _legacy(name: str, *attributes: str) -> ResourceType:
    """Build a type of strings of up to 255 characters; ``!`` marks the required ones."""
    strings = (String(one.rstrip("!"), one.endswith("!"), 0, 255) for one in attributes)
    return ResourceType(name, {string.name: string for string in strings})


def _part_of_instance(name: str) -> ResourceType:
    return ResourceType(
        name, {"name": String("name", True, 0, 255), "instance_id": Uuid("instance_id")}
    )


LEGACY: tuple[ResourceType, ...] = (
    _legacy("image", "name!", "container_format!", "disk_format!"),
    _legacy("instance", "flavor_id!", "image_ref", "host!", "display_name!", "server_group"),
    _part_of_instance("instance_disk"),
    _part_of_instance("instance_network_interface"),
    _legacy("volume", "display_name"),
    _legacy("host", "host_name!"),
    _legacy("host_network_interface", "host_name!", "device_name"),
    _legacy("host_disk", "host_name!", "device_name"),
    *map(_legacy, ("swift_account", "ceph_account", "network", "identity", "ipmi", "stack")),
)
"""What ``create_legacy_resource_types`` makes, unless a type of the name exists."""
