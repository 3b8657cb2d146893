"""Conversions that find what others made: through a real registry and a database in a file."""

import concurrent.futures
import hashlib
import json
import multiprocessing
import random
import sqlite3
import urllib.request

from tests.e2e.support import CONVERTOR, OBDCTL, Registry, TestCase, run
from tests.images.layout import Layer, Layout


def layer(seed, files=20, size=4000):
    source = random.Random(seed)
    made = Layer("none")
    for number in range(files):
        made.file(b"layer%d/file%d" % (seed, number), source.randbytes(size))
    made.file(b"top", b"%d" % seed)
    return made


def write_layout(directory, seeds, size):
    layout = Layout(str(directory))
    layout.tag("test", layout.image([layer(seed, **size) for seed in seeds]))
    layout.finish()


class RegistryTestCase(TestCase):
    """A registry of its own, images in it, and conversions that remember."""

    remember = ["--db-str", "layers.db"]

    def setUp(self):
        super().setUp()
        registry = Registry(self.dir / "registry", access_log=True)
        self.registry = registry.__enter__()
        self.addCleanup(registry.__exit__)
        self.made = 0

    def push(self, tag, seeds, name="acme/app", **size):
        """An image of these layers, made and pushed."""
        self.made += 1
        directory = self.dir / f"source{self.made}"
        # Apart: the memory of this process counts as that of the programs that it starts.
        maker = multiprocessing.Process(target=write_layout, args=(directory, seeds, size))
        maker.start()
        maker.join()
        self.assertEqual(0, maker.exitcode)
        self.expect(0, "skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{directory}:test",
                    f"docker://{self.registry.host}/{name}:{tag}")
        manifest = json.loads(self.expect(0, "skopeo", "inspect", "--raw", "--tls-verify=false",
                                          f"docker://{self.registry.host}/{name}:{tag}").out)
        return [entry["size"] for entry in manifest["layers"]]

    def obd(self, tag, *more, name="acme/app", remember=None):
        """Converts; the lines of the result, and the requests that it took."""
        before = len(self.registry.requests())
        result = self.expect(0, CONVERTOR, "-r", f"{self.registry.host}/{name}", "-i", tag, "-o", f"{tag}_obd",
                             "--plain", "--json", "--progress", "none", *(self.remember if remember is None else remember), *more)
        return [json.loads(line) for line in result.out.splitlines()], self.registry.requests()[before:]

    def check(self, tag, name="acme/app"):
        self.expect(0, OBDCTL, "check", "-r", f"{self.registry.host}/{name}", "-i", tag, "-o", f"{tag}_obd", "--plain")


class CostOfReuse:
    """Tests of whatever it is that remembers."""

    def test_warm_costs_few_requests(self):
        """An image that was converted before: at most 10 requests and 100 KB, and the same digest."""
        self.push("1", range(10))
        cold, _ = self.obd("1")
        warm, requests = self.obd("1")
        self.assertEqual(cold[-1]["digest"], warm[-1]["digest"])
        self.assertEqual(warm[-1]["reuse"]["manifests"], 1)
        self.assertLessEqual(len(requests), 10, requests)
        self.assertLessEqual(sum(size for *_, size in requests), 100_000, requests)
        print(f"warm: {len(requests)} requests, {sum(size for *_, size in requests)} bytes")
        self.check("1")

    def test_one_layer_on_top(self):
        """Of ten layers the last one changed: little more than that layer is read."""
        self.push("1", range(10), files=300, size=40_000)
        self.obd("1")
        sizes = self.push("2", [*range(9), 99], files=300, size=40_000)
        result, requests = self.obd("2")
        self.assertEqual(result[-1]["reuse"]["layers"], 9)
        read = sum(size for method, *_, size in requests if method == "GET")
        self.assertLessEqual(read, sizes[-1] + sum(sizes[:-1]) // 50, requests)
        cold, _ = self.obd("2", remember=[])
        self.assertEqual(cold[-1]["digest"], result[-1]["digest"])
        self.check("2")


class Dedup(CostOfReuse, RegistryTestCase):
    def test_other_repository_is_mounted(self):
        """What another repository of the registry has is mounted, not moved: layers, or all of an image."""
        self.push("1", range(6))
        cold, _ = self.obd("1")
        self.push("1", range(6), name="acme/other")
        other, requests = self.obd("1", name="acme/other")
        self.assertEqual(other[-1]["digest"], cold[-1]["digest"])
        self.assertEqual(other[-1]["reuse"]["manifests"], 1)
        self.assertFalse([path for method, path, *_ in requests if method == "PATCH"])
        self.assertLessEqual(len(requests), 10 + 2 * 6, "a mount, and whether the source has it, for each layer")
        self.assertLessEqual(sum(size for *_, size in requests), 100_000, requests)
        print(f"elsewhere: {len(requests)} requests, {sum(size for *_, size in requests)} bytes")
        self.check("1", name="acme/other")
        warm, requests = self.obd("1", name="acme/other")
        self.assertEqual(warm[-1]["reuse"]["manifests"], 1)
        self.assertLessEqual(len(requests), 10, "it is known here now")
        self.push("2", [0, 1, 2, 7], name="acme/third")
        third, _ = self.obd("2", name="acme/third")
        self.assertEqual(third[-1]["reuse"]["layers"], 3)
        self.check("2", name="acme/third")

    def test_deleted_blob_is_made_anew(self):
        """A converted layer that the registry lost: its row is stale, and the image is whole again."""
        self.push("1", range(4))
        cold, _ = self.obd("1")
        for number in (0, 2, 3):
            digest = [line for line in cold if line["type"] == "layer"][number]["digest"]
            url = f"http://{self.registry.host}/v2/acme/app/blobs/{digest}"
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()
            again, _ = self.obd("1")
            self.assertEqual(again[-1]["digest"], cold[-1]["digest"])
            self.assertGreaterEqual(again[-1]["reuse"]["stale_rows"], 1)
            self.check("1")

    def stored_layer(self, lines, index):
        """The digest of a converted layer, and the registry's own file."""
        digest = [line for line in lines if line["type"] == "layer"][index]["digest"]
        name = digest.split(":")[1]
        return digest, self.registry.storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def test_emptied_blob_is_named(self):
        """A file that a power failure left empty, anywhere in an image that is known as a whole, or unknown."""
        self.push("1", range(3))
        cold, _ = self.obd("1")
        for index in range(3):
            for remember in (self.remember, ("--db-str", f"empty{index}.db")):
                digest, blob = self.stored_layer(cold, index)
                content = blob.read_bytes()
                blob.write_bytes(b"")
                result = self.expect(3, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "1", "-o", "again",
                                     "--plain", "--retry-delay", "0", *remember)
                self.assertRegex(result.err, f"{digest}.* is damaged in {self.registry.host}/acme/app")
                self.expect(5, OBDCTL, "inspect", "-r", f"{self.registry.host}/acme/app", "-i", "again", "--plain")
                blob.write_bytes(content)
                warm, _ = self.obd("1", remember=remember)
                self.assertEqual(warm[-1]["digest"], cold[-1]["digest"])

    def test_damaged_blob_is_named(self):
        """A converted layer that the registry damaged is not passed on: the error says which blob it is."""
        self.push("1", range(2))
        cold, _ = self.obd("1")
        digest, blob = self.stored_layer(cold, 0)
        content = bytearray(blob.read_bytes())
        # All but the wrappers at both ends, which say that it is the right layer.
        content[4096:-8192] = bytes(byte ^ 0x55 for byte in content[4096:-8192])
        blob.write_bytes(content)
        self.push("2", [0, 5])
        result = self.expect(3, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "2", "-o", "2_obd", "--plain",
                             *self.remember)
        self.assertRegex(result.err, f"{digest}.* is damaged in {self.registry.host}/acme/app.*delete from its storage")
        blob.unlink()
        self.obd("2")
        self.check("2")

    def test_rows_of_the_reference_stay(self):
        """Rows with a bare digest are not used, and not changed."""
        self.push("1", range(2))
        self.obd("1")
        rows = sqlite3.connect(self.dir / "layers.db")
        bare = [("localhost", "acme/app", "sha256:" + "a" * 64, "sha256:" + "b" * 64, 1)]
        for host, repo, key, digest, size in rows.execute("select * from overlaybd_layers").fetchall():
            bare.append((host, repo, key.split("+")[0], "sha256:" + "c" * 64, size))
        rows.execute("delete from overlaybd_layers")
        rows.execute("delete from overlaybd_manifests")
        rows.executemany("insert into overlaybd_layers values (?, ?, ?, ?, ?)", bare)
        rows.commit()
        rows.close()
        result, _ = self.obd("1")
        self.assertEqual(result[-1]["reuse"]["layers"], 0)
        rows = sqlite3.connect(self.dir / "layers.db")
        self.assertEqual(sorted(bare), sorted(row for row in rows.execute("select * from overlaybd_layers").fetchall()
                                              if "+" not in row[2]))
        rows.close()

    def test_rows_of_a_wrong_size(self):
        """Rows that say another size than the blobs have: the layers are made anew. A blob that the registry has cut off,
        and keeps when it is sent again, is an error."""
        self.push("1", range(3))
        cold, _ = self.obd("1")
        for change in ("data_size + 1000000", "data_size / 2", "9223372036854775807"):
            rows = sqlite3.connect(self.dir / "layers.db")
            rows.execute(f"update overlaybd_layers set data_size = {change}")
            rows.execute("delete from overlaybd_manifests")
            rows.commit()
            rows.close()
            again, _ = self.obd("1")
            self.assertEqual(cold[-1]["digest"], again[-1]["digest"], change)
            self.assertEqual(0, again[-1]["reuse"]["layers"], change)
        digest = [line for line in cold if line["type"] == "layer"][2]["digest"].removeprefix("sha256:")
        blob = next((self.dir / "registry").rglob(f"{digest}/data"))
        whole = blob.read_bytes()
        blob.write_bytes(whole[:len(whole) // 2])
        result = self.expect(3, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "1", "-o", "new", "--plain",
                             "--retry-delay", "0", *self.remember)
        self.assertRegex(result.err, f"{digest} is damaged in {self.registry.host}/acme/app")
        self.expect(5, OBDCTL, "inspect", "-r", f"{self.registry.host}/acme/app", "-i", "new", "--plain")
        blob.write_bytes(whole)
        again, _ = self.obd("1")
        self.assertEqual(cold[-1]["digest"], again[-1]["digest"])
        self.check("1")

    def test_diff_ids_of_others(self):
        """An image whose config claims the diff IDs of a private image gets none of its content."""
        self.push("1", range(2), name="private/app")
        self.obd("1", name="private/app")
        mine = [layer(7), layer(8)]
        for number, made in enumerate(mine):
            made.diff_id = "sha256:" + hashlib.sha256(layer(number).tar()).hexdigest()
        claim = Layout(str(self.dir / "claim"))
        claim.tag("test", claim.image(mine))
        claim.finish()
        self.expect(0, "skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.dir / 'claim'}:test",
                    f"docker://{self.registry.host}/public/app:1")
        before = len(self.registry.requests())
        self.expect(3, CONVERTOR, "-r", f"{self.registry.host}/public/app", "-i", "1", "-o", "1_obd", "--plain",
                    *self.remember)
        self.assertFalse([path for method, path, *_ in self.registry.requests()[before:]
                          if method == "POST" and "mount=" in path])

    def test_converters_at_once_make_each_layer_once(self):
        """Eight processes, images that share layers: no layer is made twice."""
        images = {}
        for number in range(16):
            source = random.Random(number)
            images[f"t{number}"] = [0, *(source.randrange(3) + 10 * depth for depth in range(1, 1 + source.randrange(1, 4)))]
        for tag, seeds in images.items():
            self.push(tag, seeds)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda tag: run(
                CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", tag, "-o", f"{tag}_obd", "--plain", "--json",
                "--progress", "none", "--threads", 1, "-d", f"work_{tag}", "--db-str", "farm.db", cwd=self.dir), images))
        made = 0
        for result in results:
            self.assertEqual(0, result.code, result)
            made += sum(1 for line in map(json.loads, result.out.splitlines())
                        if line["type"] == "layer" and not line["reused"])
        chains = {tuple(seeds[:depth + 1]) for seeds in images.values() for depth in range(len(seeds))}
        print(f"{made} layers made for {sum(map(len, images.values()))} in {len(images)} images")
        self.assertEqual(len(chains), made)
        for tag in images:
            self.check(tag)
