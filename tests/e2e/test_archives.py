"""Images in archives: skopeo writes, convertor converts, skopeo, umoci, tar and obdctl read."""

import gzip
import json
import shutil

from tests.e2e.support import CONVERTOR, OBDCTL, TestCase, image, read_blob, run, snapshot

NAMES = ("replaced", "hardlinks", "whiteout-order")


class Archives(TestCase):
    def setUp(self):
        super().setUp()
        for program in ("skopeo", "umoci"):
            if not shutil.which(program):
                self.skipTest(f"no {program}")

    def copy(self, source, target):
        keep = [] if target.startswith("docker-archive:") else ["--preserve-digests"]  # those of `docker save` change
        self.expect(0, "skopeo", "--insecure-policy", "copy", *keep, source, target)

    def layers_of(self, layout, tag="test_obd"):
        return json.loads(read_blob(layout, self.digest_of(layout, tag)))["layers"]

    def expected_layers(self, name):
        """What the conversion within a layout gives."""
        layout = self.dir / f"expected-{name}"
        if not layout.exists():
            self.convert(self.copy_image(name, to=layout.name), "--oci")
        return self.layers_of(layout)

    def test_docker_archive_as_source(self):
        """`docker save` gives the same layers as the layout that it was made from, packed or not."""
        for name in NAMES:
            with self.subTest(name):
                saved, out = self.dir / f"{name}.tar", self.dir / f"out-{name}"
                self.copy(f"oci:{image(name) / 'layout'}:test", f"docker-archive:{saved}:acme/{name}:1.0")
                packed = self.dir / f"{name}.tar.gz"
                packed.write_bytes(gzip.compress(saved.read_bytes(), 1))
                seen = []
                for archive, reference in ((saved, "1.0"), (packed, f"acme/{name}:1.0")):
                    result = self.expect(0, CONVERTOR, "-r", f"docker-archive:{archive}", "-i", reference,
                                         "--target-repository", f"oci:{out}", "-o", "test_obd", "--oci", "--json")
                    seen.append(json.loads(result.out.splitlines()[-1])["source_digest"])
                    self.assertEqual(self.expected_layers(name), self.layers_of(out))
                self.assertEqual(seen[0], seen[1])
                self.expect(0, OBDCTL, "check", "--source", f"docker-archive:{saved}", "-i", "1.0", "-r", f"oci:{out}",
                            "-o", "test_obd")

    def test_docker_archive_is_not_written(self):
        """A result that would go to a docker-archive is refused before anything is done."""
        saved = self.dir / "saved.tar"
        self.copy(f"oci:{image('replaced') / 'layout'}:test", f"docker-archive:{saved}:acme/app:1.0")
        before = saved.read_bytes()
        result = self.expect(2, CONVERTOR, "-r", f"docker-archive:{saved}", "-i", "1.0", "-o", "x")
        self.assertRegex(result.err, "--target-repository")
        self.expect(0, CONVERTOR, "-r", f"docker-archive:{saved}", "-i", "1.0", "-o", "x", "--no-upload")
        self.assertEqual(before, saved.read_bytes())
        result = self.expect(4, CONVERTOR, "-r", f"docker-archive:{saved}", "-i", "2.0", "-o", "x", "--no-upload")
        self.assertRegex(result.err, "acme/app:1.0")

    def test_within_one_oci_archive(self):
        """Source and result in one file: both are there, and a second run gives the same bytes."""
        for name in NAMES:
            with self.subTest(name):
                archive = self.dir / f"{name}.tar"
                self.copy(f"oci:{image(name) / 'layout'}:test", f"oci-archive:{archive}:test")
                convert = [CONVERTOR, "-r", f"oci-archive:{archive}", "-i", "test", "-o", "test_obd", "--oci"]
                self.expect(0, *convert)
                first = archive.read_bytes()
                self.expect(0, *convert)
                self.assertTrue(first == archive.read_bytes(), "the second run changed the archive")
                self.assert_readable(name, archive)

    def test_from_layout_to_oci_archive(self):
        """A result that goes to a new archive is there alone, and all tools read it."""
        archive = self.dir / "made" / "out.tar"
        self.expect(0, CONVERTOR, "-r", f"oci:{image('replaced') / 'layout'}", "-i", "test", "--target-repository",
                    f"oci-archive:{archive}", "-o", "test_obd", "--oci", "-d", self.dir / "work")
        self.assertEqual(["out.tar"], [path.name for path in archive.parent.iterdir()])
        self.assertFalse((self.dir / "work").exists())
        names = self.expect(0, "tar", "-tvf", archive).out
        self.assertRegex(names, r"(?m)^-rw-r--r-- 0/0 .* 1970-01-01 .* oci-layout$")
        self.assert_readable("replaced", archive, "--source", f"oci:{image('replaced') / 'layout'}")

    def assert_readable(self, name, archive, *source):
        """By skopeo, umoci and obdctl; the layers are those of the conversion in a layout."""
        pulled = self.dir / f"pulled-{name}"
        self.copy(f"oci-archive:{archive}:test_obd", f"oci:{pulled}:pulled")
        digests = [layer["digest"] for layer in self.layers_of(pulled, "pulled")]
        self.assertEqual([layer["digest"] for layer in self.expected_layers(name)], digests)
        self.expect(0, "umoci", "unpack", "--rootless", "--image", f"{pulled}:pulled", self.dir / f"bundle-{name}")
        operand = ["-r", f"oci-archive:{archive}"]
        shown = self.expect(0, OBDCTL, "inspect", *operand, "-i", "test_obd", "--json").out
        found = [json.loads(line) for line in shown.splitlines()]
        self.assertEqual(digests, [line["digest"] for line in found if line["type"] == "layer"])
        self.expect(0, OBDCTL, "verify", *operand, "-i", "test_obd")
        self.expect(0, OBDCTL, "check", *operand, *source, "-i", "test", "-o", "test_obd")
        disk = self.dir / f"{name}.img"
        self.expect(0, OBDCTL, "export", *operand, "-i", "test_obd", "-o", disk)
        self.assert_clean_disk(disk)
        disk.unlink()

    def test_damaged_blob_in_an_archive(self):
        """A bit that changed in a source layer, or an archive that is cut off, ends the conversion; nothing is written."""
        archive = self.dir / "images.tar"
        source = image("replaced") / "layout"
        self.copy(f"oci:{source}:test", f"oci-archive:{archive}:test")
        whole = archive.read_bytes()
        layer = read_blob(source, self.layers_of(source, "test")[1]["digest"])
        damaged = bytearray(whole)
        damaged[whole.index(layer) + len(layer) - 20] ^= 1
        archive.write_bytes(damaged)
        convert = [CONVERTOR, "-r", f"oci-archive:{archive}", "-i", "test", "-o", "test_obd", "--oci"]
        self.expect(3, *convert)
        self.assertEqual(bytes(damaged), archive.read_bytes())
        archive.write_bytes(whole[:whole.index(layer) + 100])
        result = self.expect(3, *convert)
        self.assertRegex(result.err, r"images\.tar: at byte \d+: member 'blobs/sha256/[0-9a-f]{64}' has \d+ bytes")

    def test_killed_run_leaves_the_old_archive(self):
        """A run killed at any moment leaves the old archive or the new one, and no other file beside it."""
        archive = self.dir / "images" / "images.tar"
        archive.parent.mkdir()
        self.copy(f"oci:{image('sizes') / 'layout'}:test", f"oci-archive:{archive}:test")
        old = archive.read_bytes()
        convert = [CONVERTOR, "-r", f"oci-archive:{archive}", "-i", "test", "-o", "test_obd", "--oci"]
        seconds = self.expect(0, *convert).seconds
        new = archive.read_bytes()
        for moment in range(6):
            archive.write_bytes(old)
            run(*convert, cwd=self.dir, kill_after=0.01 + seconds * moment / 6)
            with self.subTest(moment):
                self.assertIn(archive.read_bytes(), (old, new))
                self.assertEqual(["images.tar"], list(snapshot(archive.parent)))
