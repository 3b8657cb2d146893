"""Foreign layers: fetched from the URLs that an image names, where that is allowed, and without any login."""

import json
import shutil

from tests.e2e.servers import FileServer
from tests.e2e.support import CONVERTOR, OBDCTL, Registry, TestCase, find_tag, read_blob, snapshot
from tests.images.layout import OCI, sha256

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
USER, PASSWORD = "me", "open:sesame-4711"
SIGNATURE = "s3cret-signature"


class Foreign(TestCase):
    def setUp(self):
        super().setUp()
        self.layout = self.copy_image("replaced")
        self.convert(self.layout, "--oci")
        self.expected = self.layers("test_obd")

    def layers(self, tag):
        return json.loads(read_blob(self.layout, self.digest_of(self.layout, tag)))["layers"]

    def blob_path(self, digest):
        return self.layout / "blobs" / "sha256" / digest[7:]

    def make_foreign(self, server, *urls):
        """The image "foreign": "test" with a layer that lies at the URLs alone."""
        manifest = json.loads(read_blob(self.layout, self.digest_of(self.layout, "test")))
        layer = manifest["layers"][1]
        path = self.blob_path(layer["digest"])
        if path.exists():
            server.files["/layer"] = path.read_bytes()
            path.unlink()
        layer |= {"mediaType": FOREIGN, "urls": [f"{url}?sig={SIGNATURE}" for url in urls]}
        data = json.dumps(manifest).encode()
        self.blob_path(sha256(data)).write_bytes(data)
        index = json.loads((self.layout / "index.json").read_text())
        old = find_tag(self.layout, "foreign")
        index["manifests"] = [entry for entry in index["manifests"] if entry != old]
        index["manifests"].append({"mediaType": OCI["manifest"], "digest": sha256(data), "size": len(data),
                                   "annotations": {"org.opencontainers.image.ref.name": "foreign"}})
        (self.layout / "index.json").write_text(json.dumps(index))
        return layer["digest"]

    def run_quietly(self, code, *arguments, **options):
        result = self.expect(code, *arguments, "--verbose", **options)
        for secret in (SIGNATURE, PASSWORD):
            self.assertNotIn(secret, result.out + result.err)
        return result

    def convert_foreign(self, code, *arguments):
        return self.run_quietly(code, CONVERTOR, "-r", f"oci:{self.layout}", "-i", "foreign", "-o", "foreign_obd", "--oci",
                                "--retry-delay", "0.01", *arguments)

    def check(self, code, *arguments):
        return self.run_quietly(code, OBDCTL, "check", "-r", f"oci:{self.layout}", "-i", "foreign", "-o", "foreign_obd",
                                *arguments)

    def test_layout(self):
        """Refused without the flag; with it the result is that of an ordinary image, and checks as equal."""
        with FileServer() as server:
            digest = self.make_foreign(server, f"{server.url}/missing", f"{server.url}/layer")
            before = snapshot(self.layout)
            refused = self.convert_foreign(3)
            for words in (digest, "foreign layer", "127.0.0.1", "--allow-foreign-layers"):
                self.assertIn(words, refused.err)
            self.assert_same_files(before, snapshot(self.layout), refused)
            self.assertEqual([], server.requests)

            self.convert_foreign(0, "--allow-foreign-layers")
            self.assertEqual(self.expected, self.layers("foreign_obd"))
            self.assertEqual(["/missing", "/layer"], [path for path, _ in server.requests])

            del server.requests[:]
            self.assertIn("--allow-foreign-layers", self.check(3).err)
            self.assertEqual([], server.requests)
            self.check(0, "--allow-foreign-layers")
            self.run_quietly(0, OBDCTL, "verify", "-r", f"oci:{self.layout}", "-i", "foreign_obd")
            shown = self.run_quietly(0, OBDCTL, "inspect", "-r", f"oci:{self.layout}", "-i", "foreign")
            self.assertIn("to be had from 127.0.0.1", shown.out)

    def test_nobody_has_it(self):
        """Each URL's failure is named, nothing is tagged or left."""
        with FileServer() as server:
            self.make_foreign(server, "ftp://127.0.0.1/layer", f"{server.url}/missing", f"{server.url}/wrong")
            server.files["/wrong"] = server.files["/layer"][:-1] + b"?"
            before = snapshot(self.layout)
            result = self.convert_foreign(5, "--allow-foreign-layers", "--retry", "1")
            for words in ("layer 2 of", "URL 1 of 3: a URL of scheme 'ftp'", "/missing?…: status 404", "URL 3 of 3",
                          "has the digest"):
                self.assertIn(words, result.err)
            self.assert_same_files(before, snapshot(self.layout), result)
            self.assertFalse((self.dir / "tmp_conv").exists())

    def test_registry(self):
        """The registry's login stays with the registry; a merged index leaves the layer where it is."""
        for program in ("docker-registry", "skopeo"):
            if not shutil.which(program):
                self.skipTest(f"no {program}")
        with (FileServer() as server,
              Registry(self.dir / "registry", {USER: PASSWORD},
                       validation={"manifests": {"urls": {"allow": ["^http://127[.]0[.]0[.]1:"]}}}) as registry):
            self.make_foreign(server, f"{server.url}/layer")
            repository = f"{registry.host}/acme/app"
            self.expect(0, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false",
                        "--dest-creds", f"{USER}:{PASSWORD}", f"oci:{self.layout}:foreign", f"docker://{repository}:1.4")
            del server.requests[:]
            login = ["--plain", "-u", USER, "--password-stdin"]
            for extra in ([], ["--target-repository", f"{registry.host}/acme/other", "--merge-index"]):
                self.run_quietly(0, CONVERTOR, "-r", repository, "-i", "1.4", "-o", "1.4_obd", "--oci",
                                 "--allow-foreign-layers", *extra, *login, stdin=PASSWORD.encode())
            self.run_quietly(0, OBDCTL, "check", "-r", repository, "-i", "1.4", "-o", "1.4_obd", "--allow-foreign-layers",
                             *login, stdin=PASSWORD.encode())
            self.assertEqual(3, len(server.requests))
            for _, headers in server.requests:
                self.assertLessEqual(set(headers), {"host", "user-agent", "accept"})
