"""Against a real registry: skopeo pushes, convertor converts, skopeo and umoci pull."""

import concurrent.futures
import io
import json
import shutil
import tarfile

from tests.e2e.support import (BLOB_DIGEST, BLOB_SIZE, CONVERTOR, OBDCTL, VERSION, Registry, TestCase, image,
                               read_blob, run)
from tests.images.cases import CASES
from tests.images.layout import DOCKER, OCI, Layer, Layout

NAMES = ("replaced", "compressions", "framing", "hardlinks", "whiteout-order", "xattrs", "random-05", "many-layers",
         "docker-types")


class RealRegistry(TestCase):
    def setUp(self):
        super().setUp()
        for program in ("docker-registry", "skopeo", "umoci"):
            if not shutil.which(program):
                self.skipTest(f"no {program}")

    def push(self, layout, reference, *arguments):
        self.expect(0, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", *arguments,
                    f"oci:{layout}:test", f"docker://{reference}")

    def pull(self, reference, layout, *arguments):
        self.expect(0, "skopeo", "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false", *arguments,
                    f"docker://{reference}", f"oci:{layout}:pulled")

    def raw_manifest(self, reference):
        return self.expect(0, "skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{reference}").out

    def test_end_to_end(self):
        """Each image gives through the registry the digest that it gives in a layout, and checks as equal."""
        with Registry(self.dir / "registry") as registry:
            for name in NAMES:
                with self.subTest(name):
                    self.round_trip(registry, name)

    def round_trip(self, registry, name):
        local = self.copy_image(name, to=f"local-{name}")
        self.convert(local, "--oci")
        repository = f"{registry.host}/acme/{name}"
        if name != "docker-types":  # skopeo reads OCI manifests only from a layout
            self.push(local, f"{repository}:1.4")
        else:
            self.push_docker(local, registry, f"acme/{name}", "1.4")
        self.expect(0, CONVERTOR, "-r", repository, "-i", "1.4", "-o", "1.4_obd", "--plain", "--oci")
        raw = self.raw_manifest(f"{repository}:1.4_obd")
        digest = self.digest_of(local)
        self.assertEqual(read_blob(local, digest).decode(), raw)
        self.expect(0, OBDCTL, "verify", "-r", repository, "-i", "1.4_obd", "--plain")
        self.expect(0, OBDCTL, "check", "-r", repository, "-i", "1.4", "-o", "1.4_obd", "--plain")
        pulled = self.dir / f"pulled-{name}"
        self.pull(f"{repository}:1.4_obd", pulled)
        self.assert_layers_are_tars(pulled, json.loads(raw))
        if len(json.loads(raw)["layers"]) < 20:
            self.expect(0, "umoci", "unpack", "--rootless", "--image", f"{pulled}:pulled", self.dir / f"bundle-{name}")
            self.assertTrue((self.dir / f"bundle-{name}" / "rootfs" / "overlaybd.commit").is_file())

    def test_media_types(self):
        """Without --oci the result has Docker's media types, with it OCI's; layers and diffIDs are the same."""
        with Registry(self.dir / "registry") as registry:
            repository = f"{registry.host}/acme/types"
            self.push(image("replaced") / "layout", f"{repository}:in")
            made = {}
            for types, form in ((DOCKER, []), (OCI, ["--oci"])):
                self.expect(0, CONVERTOR, "-r", repository, "-i", "in", "-o", "out", "--plain", *form)
                made[types["manifest"]] = manifest = json.loads(self.raw_manifest(f"{repository}:out"))
                self.assertEqual(types["manifest"], manifest["mediaType"])
                self.assertEqual(types["config"], manifest["config"]["mediaType"])
                for layer in manifest["layers"]:
                    self.assertEqual(types["layer"], layer["mediaType"])
                    self.assertEqual({VERSION: "0.1.0", BLOB_DIGEST: layer["digest"], BLOB_SIZE: str(layer["size"])},
                                     layer["annotations"])
            one, other = made.values()
            self.assertEqual([layer["digest"] for layer in one["layers"]], [layer["digest"] for layer in other["layers"]])
            self.assertEqual(one["config"]["digest"], other["config"]["digest"])

    def push_docker(self, layout, registry, repository, tag):
        """Pushes a Docker image over plain HTTP requests."""
        import http.client
        digest = self.digest_of(layout, "test")
        manifest = json.loads(read_blob(layout, digest))
        link = http.client.HTTPConnection("127.0.0.1", registry.port)
        for descriptor in [manifest["config"], *manifest["layers"]]:
            link.request("POST", f"/v2/{repository}/blobs/uploads/")
            answer = link.getresponse()
            answer.read()
            where = answer.getheader("Location")
            where = where[where.index("/v2/"):]
            link.request("PUT", f"{where}&digest={descriptor['digest']}", read_blob(layout, descriptor["digest"]))
            answer = link.getresponse()
            self.assertEqual(201, answer.status, answer.read())
            answer.read()
        link.request("PUT", f"/v2/{repository}/manifests/{tag}", read_blob(layout, digest),
                     {"Content-Type": manifest["mediaType"]})
        answer = link.getresponse()
        self.assertEqual(201, answer.status, answer.read())

    def assert_layers_are_tars(self, layout, manifest):
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(read_blob(layout, layer["digest"]))) as archive:
                self.assertEqual(["overlaybd.commit"], archive.getnames())
            path = layout / "blobs" / "sha256" / layer["digest"][7:]
            self.assertEqual("overlaybd.commit\n", self.expect(0, "tar", "-tf", path).out)

    def test_variants_in_the_registry(self):
        """Threads, budgets and reopening do not change what is pushed; a second run pushes the same."""
        source = image("random-08") / "layout"
        with Registry(self.dir / "registry") as registry:
            repository = f"{registry.host}/acme/random"
            self.push(source, f"{repository}:in")
            seen = set()
            for arguments in ([], ["--threads", "1"], ["--metadata-budget", "1"], ["--reopen-each-layer"], []):
                self.expect(0, CONVERTOR, "-r", repository, "-i", "in", "-o", "out", "--plain", "--vsize",
                            CASES["random-08"].vsize, *arguments)
                seen.add(self.raw_manifest(f"{repository}:out"))
            self.assertEqual(1, len(seen))

    def push_index(self, registry, name, tag):
        """An index of images for two platforms; their manifests' digests."""
        layout = Layout(str(self.dir / f"index-{tag}"))
        entries = []
        for architecture in ("amd64", "arm64"):
            platform = {"architecture": architecture, "os": "linux"}
            entry = layout.image([Layer().file(b"file", architecture.encode() * 1000)], platform=platform)
            entries.append({**entry, "platform": platform})
        layout.tag("test", layout.index(entries))
        layout.finish()
        self.push(layout.path, f"{registry.host}/{name}:{tag}", "--all")
        return [entry["digest"] for entry in entries]

    def test_merged_index(self):
        """One tag for sources and converted images, in the same registry or another: skopeo copies all of it, and a
        second run changes nothing."""
        with Registry(self.dir / "registry") as registry, Registry(self.dir / "other") as other:
            source = f"{registry.host}/acme/app"
            sources = self.push_index(registry, "acme/app", "1")
            targets = [(source, ()), (f"{other.host}/acme/obd", ("--target-repository", f"{other.host}/acme/obd"))]
            for target, where in targets:
                arguments = ("-r", source, "-i", "1", "-o", "both", "--plain", "--oci", "--merge-index", *where)
                self.expect(0, CONVERTOR, *arguments)
                raw = self.raw_manifest(f"{target}:both")
                entries = json.loads(raw)["manifests"]
                self.assertEqual(sources, [entry["digest"] for entry in entries[:2]])
                self.assertEqual(["amd64", "arm64"], [entry["platform"]["architecture"] for entry in entries[2:]])
                pulled = self.dir / f"pulled{len(where)}"
                # Debian's skopeo does not know artifactType, and so cannot preserve the index's digest.
                self.expect(0, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--all",
                            f"docker://{target}:both", f"oci:{pulled}:pulled")
                self.expect(0, CONVERTOR, "-r", target, "-i", "both", "-o", "both", "--plain", "--oci", "--merge-index")
                self.assertEqual(raw, self.raw_manifest(f"{target}:both"))

    def test_platform(self):
        """One image of an index."""
        with Registry(self.dir / "registry") as registry:
            repository = f"{registry.host}/acme/app"
            self.push_index(registry, "acme/app", "1")
            self.expect(0, CONVERTOR, "-r", repository, "-i", "1", "-o", "arm", "--plain", "--oci", "--platform", "linux/arm64")
            entries = json.loads(self.raw_manifest(f"{repository}:arm"))["manifests"]
            self.assertEqual(["arm64"], [entry["platform"]["architecture"] for entry in entries])
            self.pull(f"{repository}:arm", self.dir / "pulled", "--all")
            self.expect(2, CONVERTOR, "-r", repository, "-i", "arm", "-o", "again", "--plain", "--oci")

    def test_referrers(self):
        """Converters at once that make results with other options of one image: a registry that keeps no list has
        each of them under the tag that stands for it."""
        with Registry(self.dir / "registry") as registry:
            repository = f"{registry.host}/acme/app"
            self.push(self.copy_image("replaced"), f"{repository}:1")
            source = json.loads(self.expect(0, "skopeo", "inspect", "--tls-verify=false", f"docker://{repository}:1").out)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                runs = [pool.submit(run, CONVERTOR, "-r", repository, "-i", "1", "-o", f"v{size}", "--plain",
                                    "--referrer", "--vsize", size, "--retry-delay", "0") for size in (1, 2, 3, 4)]
                for result in runs:
                    self.assertEqual(0, result.result().code, result.result().err)
            listed = json.loads(self.raw_manifest(f"{repository}:{source['Digest'].replace(':', '-')}"))
            tagged = {json.loads(self.expect(0, "skopeo", "inspect", "--tls-verify=false",
                                             f"docker://{repository}:v{size}").out)["Digest"] for size in (1, 2, 3, 4)}
            self.assertEqual(tagged, {entry["digest"] for entry in listed["manifests"]})
            self.assertEqual({"application/vnd.containerd.overlaybd.native.v1+json"},
                             {entry["artifactType"] for entry in listed["manifests"]})
            lines = self.expect(0, OBDCTL, "inspect", "--referrers", "--json", "-r", repository, "-i", "1", "--plain").out
            shown = [line for line in map(json.loads, lines.splitlines()) if line["type"] == "referrer"]
            self.assertEqual(tagged, {line["digest"] for line in shown})
            subject = json.loads(self.raw_manifest(f"{repository}:v1"))["subject"]
            self.assertEqual(source["Digest"], subject["digest"])

    def test_credentials(self):
        """The right password works; a wrong one, or none, is exit code 6 and tags nothing."""
        with Registry(self.dir / "registry", {"me": "pa:ss"}) as registry:
            repository = f"{registry.host}/acme/private"
            self.push(image("replaced") / "layout", f"{repository}:in", "--dest-creds", "me:pa:ss")
            common = [CONVERTOR, "-r", repository, "-i", "in", "-o", "out", "--plain"]
            wrong = self.expect(6, *common, "-u", "me:guess")
            self.assertNotIn("guess", wrong.err)
            self.expect(6, *common)
            self.expect(0, *common, "-u", "me:pa:ss")

    def test_missing_image(self):
        """A tag or a repository that is not there is a network error that names it; nothing is pushed."""
        with Registry(self.dir / "registry") as registry:
            result = self.expect(5, CONVERTOR, "-r", f"{registry.host}/acme/none", "-i", "lost", "-o", "x", "--plain")
            self.assertRegex(result.err, "lost")

    def test_killed_push_tags_nothing(self):
        """A run killed while it pushes leaves no tag; the next one works."""
        source = image("sizes") / "layout"
        with Registry(self.dir / "registry") as registry:
            def prepare(name):
                """What a run needs in a repository of its own, so that no other has pushed what it will push."""
                repository = f"{registry.host}/acme/{name}"
                self.push(source, f"{repository}:in")
                return repository, [CONVERTOR, "-r", repository, "-i", "in", "--plain"]

            seconds = []
            for name in ("first", "second", "third"):  # the first may be slow: nothing of it is in memory yet
                repository, common = prepare(name)
                seconds.append(self.expect(0, *common, "-o", "whole").seconds)
            expected = self.raw_manifest(f"{repository}:whole")
            finished = 0
            for moment in range(8):
                repository, common = prepare(f"killed{moment}")
                run(*common, "-o", f"part{moment}", "--algorithm", "zstd" if moment % 2 else "lz4", cwd=self.dir,
                    kill_after=0.01 + min(seconds) * moment / 8)
                with self.subTest(moment):
                    there = run("skopeo", "inspect", "--tls-verify=false", "--raw",
                                f"docker://{repository}:part{moment}")
                    if there.code == 0:  # the run came as far as its last step
                        self.expect(0, OBDCTL, "verify", "-r", repository, "-i", f"part{moment}", "--plain")
                        finished += 1
                    self.expect(0, *common, "-o", "after")
                    self.assertEqual(expected, self.raw_manifest(f"{repository}:after"))
            self.assertLess(finished, 4)

    def test_layer_corrupted_in_the_registry(self):
        """A blob that the registry hands out damaged is refused, and nothing is tagged."""
        with Registry(self.dir / "registry") as registry:
            repository = f"{registry.host}/acme/corrupt"
            self.push(image("replaced") / "layout", f"{repository}:in")
            manifest = json.loads(self.raw_manifest(f"{repository}:in"))
            digest = manifest["layers"][1]["digest"][7:]
            data = next(registry.storage.rglob(f"{digest}/data"))
            content = bytearray(data.read_bytes())
            content[-20] ^= 1
            data.write_bytes(content)
            self.expect(3, CONVERTOR, "-r", repository, "-i", "in", "-o", "out", "--plain")
            there = run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{repository}:out")
            self.assertNotEqual(0, there.code)
