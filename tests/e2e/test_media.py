"""Manifests, configs and indexes of converted images."""

import json
import shutil

from tests.e2e.support import BLOB_DIGEST, BLOB_SIZE, MKBASE, OBDCTL, VERSION, TestCase, find_tag, read_blob
from tests.images.layout import DOCKER, OCI, Layer, Layout


def layers(seed=0):
    return [Layer().file(b"one", b"%d" % seed * 5000), Layer("none").file(b"two", b"2").whiteout(b"one")]


class Media(TestCase):
    def make(self, build, name="layout"):
        """A layout whose image `test` is what build(layout) describes."""
        layout = Layout(str(self.dir / name))
        layout.tag("test", build(layout))
        layout.finish()
        return self.dir / name

    def load(self, layout, digest):
        return json.loads(read_blob(layout, digest))

    def assert_converted(self, layout, descriptor, types, source):
        """Checks one manifest against the source's; returns it with its config."""
        manifest = self.load(layout, descriptor["digest"])
        self.assertEqual(descriptor["mediaType"], types["manifest"])
        self.assertEqual(manifest["mediaType"], types["manifest"])
        self.assertEqual(manifest["config"]["mediaType"], types["config"])
        config = self.load(layout, manifest["config"]["digest"])
        self.assertEqual(len(source["layers"]), len(manifest["layers"]))
        self.assertEqual([layer["digest"] for layer in manifest["layers"]], config["rootfs"]["diff_ids"])
        for layer in manifest["layers"]:
            blob = read_blob(layout, layer["digest"])
            self.assertEqual(types["layer"], layer["mediaType"])
            self.assertEqual(len(blob), layer["size"])
            self.assertEqual({VERSION: "0.1.0", BLOB_DIGEST: layer["digest"], BLOB_SIZE: str(len(blob))},
                             {key: layer["annotations"][key] for key in (VERSION, BLOB_DIGEST, BLOB_SIZE)})
        return manifest, config

    def test_oci(self):
        """--oci: an OCI image stays one, with all that its config and manifest say."""
        extra = {"author": "someone", "x-unknown": {"deep": [1, 2.5, None, "é"]}, "big": 2**63 + 1,
                 "created": "2020-01-01T00:00:00Z"}
        layout = self.make(lambda out: out.image(layers(), config=extra,
                                                 manifest={"annotations": {"a": "b"}, "x-vendor": {"k": [True]}}))
        source = self.load(layout, self.digest_of(layout, "test"))
        source_config = self.load(layout, source["config"]["digest"])
        self.convert(layout, "--oci")
        manifest, config = self.assert_converted(layout, find_tag(layout, "test_obd"), OCI, source)
        for key, value in source_config.items():
            if key != "rootfs":
                self.assertEqual(value, config[key], key)
        self.assertEqual({"k": [True]}, manifest["x-vendor"])
        self.assertEqual("b", manifest["annotations"]["a"])

    def test_docker(self):
        """Without --oci the result has Docker's media types, whatever the source has; with it, OCI's."""
        for types in (DOCKER, OCI):
            with self.subTest(types["manifest"]):
                layout = self.make(lambda out: out.image(layers(), types=types, config={"docker_version": "20.10"}))
                source = self.load(layout, self.digest_of(layout, "test"))
                self.convert(layout)
                docker, config = self.assert_converted(layout, find_tag(layout, "test_obd"), DOCKER, source)
                self.assertEqual("20.10", config["docker_version"])
                self.convert(layout, "--oci", target="as_oci")
                oci, _ = self.assert_converted(layout, find_tag(layout, "as_oci"), OCI, source)
                self.assertEqual([layer["digest"] for layer in docker["layers"]],
                                 [layer["digest"] for layer in oci["layers"]])
                shutil.rmtree(layout)

    def test_manifest_without_media_type(self):
        """An OCI manifest need not state its media type."""
        layout = self.make(lambda out: out.image(layers(), change=lambda config, manifest: manifest.pop("mediaType")))
        self.convert(layout)
        self.assertEqual(2, len(self.load(layout, self.digest_of(layout))["layers"]))

    def multi_arch(self, types, nested=False):
        def build(out):
            found = []
            for number, (architecture, variant) in enumerate((("amd64", None), ("arm64", "v8"), ("arm", "v7"))):
                platform = {"architecture": architecture, "os": "linux"}
                if variant:
                    platform["variant"] = variant
                descriptor = out.image(layers(number), types=types, platform=platform)
                found.append({**descriptor, "platform": platform, "annotations": {"number": str(number)}})
            if nested:
                inner = out.index(found[1:], types=types)
                return out.index([found[0], inner], types=types, extra={"annotations": {"outer": "yes"}})
            return out.index(found, types=types, extra={"annotations": {"top": "yes"}, "x-vendor": 5})
        return self.make(build)

    def check_index(self, layout, types, source_digest, digest):
        """Compares an index with its source, level by level."""
        source, made = self.load(layout, source_digest), self.load(layout, digest)
        self.assertEqual(types["index"], made["mediaType"])
        self.assertEqual(source.get("annotations"), made.get("annotations"))
        self.assertEqual(source.get("x-vendor"), made.get("x-vendor"))
        self.assertEqual(len(source["manifests"]), len(made["manifests"]))
        for before, after in zip(source["manifests"], made["manifests"]):
            self.assertEqual(before.get("platform"), after.get("platform"))
            self.assertEqual(len(read_blob(layout, after["digest"])), after["size"])
            if "index" in before["mediaType"] or "list" in before["mediaType"]:
                self.check_index(layout, types, before["digest"], after["digest"])
            else:
                self.assert_converted(layout, after, types, self.load(layout, before["digest"]))

    def test_multi_arch(self):
        for types in (OCI, DOCKER):
            for made in (OCI, DOCKER):
                with self.subTest(source=types["index"], made=made["index"]):
                    layout = self.multi_arch(types)
                    self.convert(layout, *(["--oci"] if made is OCI else []))
                    self.check_index(layout, made, self.digest_of(layout, "test"), self.digest_of(layout))
                    shutil.rmtree(layout)

    def test_nested_index(self):
        layout = self.multi_arch(OCI, nested=True)
        self.convert(layout, "--oci")
        self.check_index(layout, OCI, self.digest_of(layout, "test"), self.digest_of(layout))

    def test_attestation(self):
        """An attestation beside an image is no image: it is left out, and that is said."""
        def build(out):
            image = out.image(layers())
            platform = {"architecture": "amd64", "os": "linux"}
            statement = out.json_blob({"schemaVersion": 2, "mediaType": OCI["manifest"],
                                       "config": out.json_blob({}, OCI["config"]),
                                       "layers": [out.blob(b"{}", "application/vnd.in-toto+json")]}, OCI["manifest"])
            return out.index([{**image, "platform": platform},
                              {**statement, "platform": {"architecture": "unknown", "os": "unknown"},
                               "annotations": {"vnd.docker.reference.type": "attestation-manifest",
                                               "vnd.docker.reference.digest": image["digest"]}}])
        layout = self.make(build)
        result = self.convert(layout, "--oci")
        self.assertEqual(1, len(self.load(layout, self.digest_of(layout))["manifests"]))
        self.assertRegex(result.err, "(?i)attestation")

    def test_one_layer(self):
        """An image of one layer."""
        layout = self.make(lambda out: out.image([Layer().file(b"a", b"b")]))
        self.convert(layout)
        self.assertEqual(1, len(self.load(layout, self.digest_of(layout))["layers"]))

    def test_base_layer(self):
        """--mkfs=false puts a base layer below, in the manifest and in the config."""
        layout = self.make(lambda out: out.image(layers()))
        base = self.dir / "ext4_64"
        self.expect(0, MKBASE, "--vsize", "64", "-o", base)
        self.convert(layout, "--mkfs=false", "--baselayer", base)
        manifest = self.load(layout, self.digest_of(layout))
        config = self.load(layout, manifest["config"]["digest"])
        self.assertEqual(3, len(manifest["layers"]))
        self.assertEqual([layer["digest"] for layer in manifest["layers"]], config["rootfs"]["diff_ids"])
        for count in (1, 2, 3):
            disk = self.dir / f"disk{count}"
            self.expect(0, OBDCTL, "export", "-r", f"oci:{layout}", "-i", "test_obd", "-o", disk, "--layers", count)
            self.assert_clean_disk(disk)
        self.expect(0, OBDCTL, "check", "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd")
        # The disk's size is the base's: another one is refused.
        self.convert(layout, "--mkfs=false", "--baselayer", base, "--vsize", "32", code=2, target="other")

    def test_base_layer_is_reproducible(self):
        """obd-mkbase makes the same bytes every time; a base layer that is missing is a usage error."""
        for name in ("one", "two"):
            self.expect(0, MKBASE, "--vsize", "64", "-o", self.dir / name)
        self.assertEqual((self.dir / "one").read_bytes(), (self.dir / "two").read_bytes())
        layout = self.make(lambda out: out.image(layers()))
        result = self.convert(layout, "--mkfs=false", "--baselayer", "nowhere", code=4)
        self.assertIn("nowhere", result.err)

    def test_disk_sizes(self):
        """Every size from 1 GiB to 16 TiB works and stays small."""
        for vsize in (1, 2, 7, 64, 1000, 16384):
            with self.subTest(vsize=vsize):
                layout = self.make(lambda out: out.image(layers()), f"layout{vsize}")
                result = self.convert(layout, "--vsize", vsize)
                self.assertLess(result.max_rss, 256 << 20)
                manifest = self.load(layout, self.digest_of(layout))
                self.assertLess(manifest["layers"][0]["size"], 30 << 20)
                self.expect(0, OBDCTL, "check", "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd")
                if vsize < 16384:  # one file of 16 TiB is more than most filesystems hold
                    disk = self.dir / f"disk{vsize}"
                    self.expect(0, OBDCTL, "export", "-r", f"oci:{layout}", "-i", "test_obd", "-o", disk)
                    self.assertEqual(vsize << 30, disk.stat().st_size)
                    self.assert_clean_disk(disk)
                    disk.unlink()
