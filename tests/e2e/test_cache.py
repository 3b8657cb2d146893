"""Conversions that find what others made, through a tag of the repository instead of a database."""

import concurrent.futures
import json
import urllib.request

from tests.e2e.support import CONVERTOR, OBDCTL, run
from tests.e2e.test_dedup import CostOfReuse, RegistryTestCase

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Cache(CostOfReuse, RegistryTestCase):
    remember = ["--cache-tag", "cache"]

    def api(self, path, method="GET", data=None, accept=OCI_MANIFEST, content_type=OCI_MANIFEST):
        request = urllib.request.Request(f"http://{self.registry.host}/v2/acme/app/{path}", method=method, data=data,
                                         headers={"Accept": accept, "Content-Type": content_type})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def layers(self, lines):
        return [line for line in lines if line["type"] == "layer"]

    def records(self):
        out = self.expect(0, OBDCTL, "inspect", "-r", f"{self.registry.host}/acme/app", "-i", "cache", "--plain",
                          "--json").out
        return json.loads(out)

    def test_artifact(self):
        """It is an OCI artifact that other tools read and move."""
        self.push("1", range(3))
        self.obd("1")
        manifest = json.loads(self.api("manifests/cache"))
        self.assertEqual("application/vnd.overlaybd-convertor.cache", manifest["artifactType"])
        self.assertEqual("application/vnd.oci.empty.v1+json", manifest["config"]["mediaType"])
        self.assertEqual(1, len(manifest["layers"]))
        document = json.loads(self.api(f"blobs/{manifest['layers'][0]['digest']}"))
        self.assertEqual(1, document["version"])
        self.assertEqual(4, len(document["records"]))
        records = self.records()
        self.assertEqual((3, 1), (records["layer_records"], records["manifest_records"]))
        where = f"docker://{self.registry.host}/acme"
        self.expect(0, "skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", f"{where}/app:cache",
                    f"{where}/app:moved")
        moved, _ = self.obd("1", remember=["--cache-tag", "moved"])
        self.assertEqual(1, moved[-1]["reuse"]["manifests"])

    def test_converters_at_once(self):
        """What two converters make at the same time a third one finds, all of it."""
        self.push("1", [0, 1, 2])
        self.push("2", [0, 3, 4])
        self.push("3", [0, 1, 2, 5])
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda tag: run(
                CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", tag, "-o", f"{tag}_obd", "--plain", "--threads",
                1, "-d", f"work_{tag}", "--cache-tag", "cache", "--require-db", cwd=self.dir), ["1", "2"]))
        for result in results:
            self.assertEqual(0, result.code, result)
        self.assertEqual(5, self.records()["layer_records"])
        for tag in ("1", "2"):
            again, _ = self.obd(tag)
            self.assertEqual(1, again[-1]["reuse"]["manifests"])
        third, _ = self.obd("3")
        self.assertEqual([True] * 3 + [False], [line["reused"] for line in self.layers(third)])
        self.check("3")

    def test_deleted_blob_is_made_anew(self):
        """A converted layer that the registry lost: its record is removed, and the image is whole again."""
        self.push("1", range(4))
        cold, _ = self.obd("1")
        for number in (0, 2, 3):
            self.api(f"blobs/{self.layers(cold)[number]['digest']}", "DELETE")
            again, _ = self.obd("1")
            self.assertEqual(again[-1]["digest"], cold[-1]["digest"])
            self.assertGreaterEqual(again[-1]["reuse"]["stale_rows"], 1)
            self.check("1")
        self.assertEqual(4, self.records()["layer_records"])

    def test_document_that_was_lost(self):
        """A cache whose records the registry lost is begun anew, with a warning."""
        self.push("1", range(2))
        cold, _ = self.obd("1")
        self.api(f"blobs/{json.loads(self.api('manifests/cache'))['layers'][0]['digest']}", "DELETE")
        again = self.expect(0, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "1", "-o", "1_obd", "--plain",
                            "--cache-tag", "cache")
        self.assertIn("is begun anew", again.err)
        warm, _ = self.obd("1")
        self.assertEqual(1, warm[-1]["reuse"]["manifests"])
        self.assertEqual(cold[-1]["digest"], warm[-1]["digest"])

    def test_image_is_not_overwritten(self):
        """A tag that holds an image stays as it is, and nothing is converted."""
        self.push("1", range(2))
        self.push("image", range(1))
        before = self.api("manifests/image")
        requests = len(self.registry.requests())
        result = self.expect(2, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "1", "-o", "1_obd", "--plain",
                             "--cache-tag", "image")
        self.assertIn("which is not overwritten", result.err)
        self.assertEqual(before, self.api("manifests/image"))
        self.assertFalse([one for one in self.registry.requests()[requests:] if one[0] != "GET"])

    def test_failed_run_remembers(self):
        """What an index's first image became is remembered where the second one is malformed."""
        self.push("1", range(2))
        image = self.api("manifests/1")
        broken = json.loads(image)
        broken["layers"] = broken["layers"][:1]
        broken = json.dumps(broken).encode()
        self.api("manifests/broken", "PUT", broken)
        descriptors = []
        for tag, architecture in (("1", "amd64"), ("broken", "arm64")):
            digest = json.loads(self.expect(0, "skopeo", "inspect", "--tls-verify=false", "--format",
                                            '"{{.Digest}}"', f"docker://{self.registry.host}/acme/app:{tag}").out)
            descriptors.append({"mediaType": OCI_MANIFEST, "digest": digest, "size": len(self.api(f"manifests/{tag}")),
                                "platform": {"os": "linux", "architecture": architecture}})
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors}
        self.api("manifests/both", "PUT", json.dumps(index).encode(), content_type=index["mediaType"])
        self.expect(3, CONVERTOR, "-r", f"{self.registry.host}/acme/app", "-i", "both", "-o", "both_obd", "--plain",
                    "--threads", 2, "--concurrency-limit", 1, "--cache-tag", "cache")
        self.assertEqual(2, self.records()["layer_records"])
