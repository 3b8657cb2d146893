"""Manifests, configs and indexes that are broken or that contradict themselves."""

import json
import os

from ..layout import OCI, Layer, sha256
from .registry import image


def two_layers():
    return [Layer().file(b"one", b"1"), Layer().file(b"two", b"2")]


def with_change(layout, change):
    layout.tag("test", layout.image(two_layers(), change=change))


@image(says="JSON|json|manifest")
def manifest_not_json(layout):
    """A manifest that is not JSON."""
    layout.image(two_layers())
    layout.tag("test", layout.blob(b'{"schemaVersion": 2, "layers": [', OCI["manifest"]))


@image(says="JSON|manifest")
def manifest_not_object(layout):
    """A manifest that is a JSON list."""
    layout.tag("test", layout.blob(b"[1, 2, 3]", OCI["manifest"]))


@image(says="layers")
def manifest_without_layers(layout):
    """A manifest without layers."""
    with_change(layout, lambda config, manifest: manifest.pop("layers"))


@image()
def manifest_wrong_types(layout):
    """A manifest whose sizes are texts."""
    def change(_, manifest):
        manifest["layers"][0]["size"] = "12"
    with_change(layout, change)


@image()
def manifest_negative_size(layout):
    """A layer of negative size."""
    def change(_, manifest):
        manifest["layers"][0]["size"] = -5
    with_change(layout, change)


@image(says="digest")
def manifest_digest_path(layout):
    """A digest that is a path."""
    def change(_, manifest):
        manifest["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    with_change(layout, change)


@image(says="digest")
def manifest_digest_algorithm(layout):
    """A digest of an algorithm that nobody knows."""
    def change(_, manifest):
        manifest["layers"][0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e"
    with_change(layout, change)


@image()
def manifest_deep_json(layout):
    """JSON nested a hundred thousand levels deep."""
    layout.tag("test", layout.blob(b'{"layers":' + b"[" * 100_000 + b"]" * 100_000 + b"}", OCI["manifest"]))


@image(says="digest")
def manifest_digest_mismatch(layout):
    """A manifest whose bytes are not those of its digest."""
    descriptor = layout.image(two_layers())
    path = os.path.join(layout.path, "blobs", "sha256", descriptor["digest"][7:])
    with open(path, "r+b") as blob:
        text = blob.read()
        blob.seek(0)
        blob.write(text.replace(b'"schemaVersion": 2', b'"schemaVersion" :2', 1))
    layout.tag("test", descriptor)


@image(says="media ?[tT]ype|type")
def layer_type_unknown(layout):
    """A layer of a media type that is no layer."""
    def change(_, manifest):
        manifest["layers"][1]["mediaType"] = "application/vnd.example.secret"
    with_change(layout, change)


@image(says="rootfs")
def config_without_rootfs(layout):
    """A config without rootfs."""
    with_change(layout, lambda config, _: config.pop("rootfs"))


@image(says="diff")
def config_too_few_diff_ids(layout):
    """Fewer diffIDs than layers."""
    with_change(layout, lambda config, _: config["rootfs"]["diff_ids"].pop())


@image(says="diff")
def config_too_many_diff_ids(layout):
    """More diffIDs than layers."""
    with_change(layout, lambda config, _: config["rootfs"]["diff_ids"].append(sha256(b"")))


@image()
def config_diff_id_not_a_digest(layout):
    """A diffID that is no digest."""
    def change(config, _):
        config["rootfs"]["diff_ids"][0] = "latest"
    with_change(layout, change)


@image(says="config")
def config_not_json(layout):
    """A config that is not JSON."""
    def change(_, manifest):
        manifest["config"] = layout.blob(b"not json", OCI["config"])
    with_change(layout, change)


@image(codes=(3, 4))
def config_missing(layout):
    """A config whose blob is not there."""
    def change(_, manifest):
        manifest["config"] = {"mediaType": OCI["config"], "digest": sha256(b"gone"), "size": 4}
    with_change(layout, change)


@image()
def config_huge(layout):
    """A config of 64 MiB: far more than any config needs."""
    def change(config, _):
        config["comment"] = "x" * (64 << 20)
    with_change(layout, change)


@image()
def index_of_itself(layout):
    """An index that says that it holds itself: its digest cannot be right."""
    descriptor = layout.index([])
    layout.refs.clear()
    path = os.path.join(layout.path, "blobs", "sha256", descriptor["digest"][7:])
    with open(path, "w") as blob:
        json.dump({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [descriptor]}, blob)
    layout.tag("test", descriptor)


@image()
def index_deep(layout):
    """Indexes nested a hundred deep."""
    descriptor = layout.image(two_layers())
    for _ in range(100):
        descriptor = layout.index([descriptor])
    layout.tag("test", descriptor)


@image()
def index_wide(layout):
    """Indexes that hold one another twice, eight levels: 2^30 images to convert if none is remembered."""
    descriptor = layout.image(two_layers(), change=lambda config, _: config.pop("rootfs"))
    for level in range(30):
        descriptor = layout.index([descriptor, {**descriptor, "annotations": {"copy": str(level)}}])
    layout.tag("test", descriptor)


@image(codes=(3, 4), says="test")
def tag_missing(layout):
    """A layout without the tag."""
    layout.tag("other", layout.image(two_layers()))
