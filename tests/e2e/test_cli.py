"""The command line: exit codes, suggestions, help against docs, machine-readable output."""

import json
import re
import subprocess

from tests.e2e.support import CONVERTOR, MKBASE, OBDCTL, ROOT, TestCase, find_tag, run, snapshot


def long_options(text):
    return set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", text))


class CommandLine(TestCase):
    def assert_usage_error(self, *arguments, says):
        result = self.expect(2, *arguments)
        self.assertEqual("", result.out)
        self.assertRegex(result.err, says)
        self.assertEqual(self.unchanged, snapshot(self.dir), "a usage error changed files")

    def test_usage_errors(self):
        """Each is exit code 2, says what is wrong, and suggests what may have been meant."""
        layout = self.copy_image("replaced")
        self.unchanged = snapshot(self.dir)
        good = [CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd"]
        for more, says in (
                (["--vsise", "64"], "--vsise.*--vsize"),
                (["--algoritm", "lz4"], "--algoritm.*--algorithm"),
                (["--algorithm", "lz5"], "lz5.*lz4"),
                (["--progress", "fancy"], "fancy"),
                (["--block-size", "5000"], "block-size|5000"),
                (["--block-size", "65536"], "block-size|65536"),
                (["--vsize", "0"], "vsize"),
                (["--vsize", "16385"], "vsize"),
                (["--vsize", "lots"], "vsize|lots"),
                (["--threads", "-1"], "threads"),
                (["--metadata-budget", "0"], "metadata-budget"),
                (["--fstype", "erofs"], "erofs"),
                (["--turboOCI", "x"], "turboOCI"),
                (["--platform", "linux"], "not a platform"),
                (["stray"], "stray")):
            with self.subTest(" ".join(more)):
                self.assert_usage_error(*good, *more, says=says)
        self.assert_usage_error(CONVERTOR, says="repository|-r")
        self.assert_usage_error(CONVERTOR, "-r", f"oci:{layout}", "-o", "x", says="input")
        self.assert_usage_error(CONVERTOR, "-r", f"oci:{layout}", "-i", "test", says="output")
        self.assert_usage_error(CONVERTOR, "-r", "no spaces allowed", "-i", "a", "-o", "b", says="no spaces")
        self.assert_usage_error(CONVERTOR, "-r", f"oci:{layout}", "-i", "a b", "-o", "c", says="a b")
        self.assert_usage_error(CONVERTOR, "-r", f"oci:{layout}", "-g", "sha256:12", "-o", "c", says="sha256:12|digest")
        self.assert_usage_error(OBDCTL, says="help")
        self.assert_usage_error(OBDCTL, "inspekt", says="inspekt.*inspect")
        self.assert_usage_error(OBDCTL, "inspect", says="FILE|-r|operand")

    def test_exit_codes(self):
        """Files that are not there are 4; a host that does not answer is 5; different trees are 9."""
        self.expect(4, CONVERTOR, "-r", f"oci:{self.dir}/nowhere", "-i", "a", "-o", "b")
        self.expect(5, CONVERTOR, "-r", "localhost:1/x", "-i", "a", "-o", "b", "--plain")
        layout = self.copy_image("replaced")
        other = self.copy_image("sizes", to="other")
        self.convert(layout)
        self.convert(other)
        # Give the other image's converted tag to the first layout.
        subprocess.run(["cp", "-an", f"{other}/blobs/.", f"{layout}/blobs/"], check=True)
        index = json.loads((layout / "index.json").read_text())
        wrong = find_tag(other, "test_obd")
        wrong["annotations"]["org.opencontainers.image.ref.name"] = "wrong"
        index["manifests"].append(wrong)
        (layout / "index.json").write_text(json.dumps(index))
        result = self.expect(9, OBDCTL, "check", "-r", f"oci:{layout}", "-i", "test", "-o", "wrong")
        self.assertIn("only", result.out, "it says which path differs")

    def test_version_and_help(self):
        for program in ([CONVERTOR], [OBDCTL], [MKBASE]):
            with self.subTest(program[0].name):
                self.assertRegex(self.expect(0, *program, "--version").out, r"\d+\.\d+\.\d+")
                self.assertEqual(self.expect(0, *program, "--help").out, self.expect(0, *program, "-h").out)

    def test_docs_name_every_option_and_no_other(self):
        """docs/cli.md has a section for each program, with every option that its --help lists."""
        text = (ROOT / "docs" / "cli.md").read_text()
        helps = {"convertor": [[CONVERTOR, "--help"]],
                 "obdctl": [[OBDCTL, "--help"]] + [[OBDCTL, verb, "--help"] for verb in
                                                  ("inspect", "verify", "export", "check", "db")],
                 "obd-mkbase": [[MKBASE, "--help"]]}
        for program, commands in helps.items():
            with self.subTest(program):
                section = re.search(rf"^## `?{program}`?$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
                self.assertIsNotNone(section, f"no section '## {program}'")
                shown = set().union(*(long_options(self.expect(0, *command).out) for command in commands))
                self.assertEqual(shown, long_options(section.group(1)))

    def test_json_result(self):
        """--json: one object for each line, the last one a summary that names what was made."""
        layout = self.copy_image("replaced")
        result = self.convert(layout, "--json")
        lines = [json.loads(line) for line in result.out.splitlines()]
        self.assertTrue(all("type" in line for line in lines))
        self.assertEqual("summary", lines[-1]["type"])
        self.assertIn(self.digest_of(layout), result.out)

    def test_json_error(self):
        layout = self.copy_image("header-checksum", "generate_hostile")
        result = self.convert(layout, "--json", code=3)
        last = json.loads(result.out.splitlines()[-1])
        self.assertEqual(("error", 3), (last["type"], last["exit_code"]))

    def test_progress_forms(self):
        """No form of progress touches standard output; none is silent; json is one object for each line."""
        layout = self.copy_image("replaced")
        for form in ("auto", "plain", "json", "none"):
            with self.subTest(form):
                result = self.convert(layout, "--oci", "--progress", form)
                self.assertNotIn("\x1b", result.err, "control sequences without a terminal")
                if form == "none":
                    self.assertEqual("", result.err)
                if form == "json":
                    for line in result.err.splitlines():
                        self.assertIn("type", json.loads(line))

    def test_metrics(self):
        layout = self.copy_image("replaced")
        self.convert(layout, "--metrics", self.dir / "metrics.json")
        self.assertTrue(json.loads((self.dir / "metrics.json").read_text()))

    def test_no_upload_and_reserve(self):
        """--no-upload tags nothing; --reserve keeps the work directory, which else is gone."""
        layout = self.copy_image("replaced")
        before = snapshot(layout)
        self.convert(layout, "--no-upload")
        self.assertEqual(before, snapshot(layout))
        self.assertFalse((self.dir / "tmp_conv").exists())
        self.convert(layout, "--reserve", "-d", "kept")
        self.assertTrue((self.dir / "kept").exists())
        self.assertIsNotNone(find_tag(layout, "test_obd"))

    def test_dump_manifest(self):
        layout = self.copy_image("replaced")
        result = self.convert(layout, "--dump-manifest", "--reserve", "-d", "kept")
        dumped = [path for path in (self.dir / "kept").rglob("*manifest*.json")]
        self.assertTrue(dumped or '"layers"' in result.out, "no manifest was dumped")

    def test_password_is_not_repeated(self):
        """A password on the command line is warned about and never shown."""
        result = run(CONVERTOR, "-r", "localhost:1/x", "-i", "a", "-o", "b", "--plain", "-u", "me:open-sesame",
                     "--verbose", cwd=self.dir)
        self.assertNotIn("open-sesame", result.out + result.err)
        self.assertRegex(result.err, "(?i)password|credential")

    def test_input_by_digest(self):
        layout = self.copy_image("replaced")
        digest = self.digest_of(layout, "test")
        self.expect(0, CONVERTOR, "-r", f"oci:{layout}", "-g", digest, "-o", "by_digest")
        self.convert(layout)
        self.assertEqual(self.digest_of(layout), self.digest_of(layout, "by_digest"))

    def test_inspect(self):
        """obdctl inspect: text and JSON, of images and of blobs."""
        layout = self.copy_image("replaced")
        self.convert(layout)
        text = self.expect(0, OBDCTL, "inspect", "-r", f"oci:{layout}", "-i", "test_obd").out
        self.assertIn("lz4", text)
        shown = self.expect(0, OBDCTL, "inspect", "-r", f"oci:{layout}", "-i", "test_obd", "--json").out
        for line in shown.splitlines():
            json.loads(line)
        manifest = json.loads((layout / "blobs" / "sha256" / self.digest_of(layout)[7:]).read_text())
        blobs = [layout / "blobs" / "sha256" / layer["digest"][7:] for layer in manifest["layers"]]
        self.expect(0, OBDCTL, "inspect", *blobs)
        self.expect(0, OBDCTL, "verify", *blobs)
        self.expect(0, OBDCTL, "export", *blobs, "-o", self.dir / "disk.img")
        self.assert_clean_disk(self.dir / "disk.img")

    def test_verify_finds_a_flipped_bit(self):
        """A blob with any bit flipped does not verify."""
        layout = self.copy_image("replaced")
        self.convert(layout)
        manifest = json.loads((layout / "blobs" / "sha256" / self.digest_of(layout)[7:]).read_text())
        good = (layout / "blobs" / "sha256" / manifest["layers"][0]["digest"][7:]).read_bytes()
        # 1536 bytes of tar headers stand before the content; a tar's own padding has no checksum.
        size = int(re.match(rb"\d+ size=(\d+)\n", good[512:]).group(1))
        for position in (1536 + 30, 1536 + 700, 1536 + size // 2, 1536 + size - 520, 1536 + size - 100):
            with self.subTest(position):
                bad = bytearray(good)
                bad[position] ^= 4
                path = self.dir / "bad.blob"
                path.write_bytes(bad)
                self.expect(3, OBDCTL, "verify", path)

    def test_suggested_disk_size_does(self):
        """When the disk or its inodes are full, the size that the error names is enough."""
        for name in ("files-larger-than-disk", "too-many-inodes"):
            with self.subTest(name):
                layout = self.copy_image(name, "generate_hostile", to=name)
                result = self.convert(layout, "--vsize", "1", code=8)
                suggested = re.search(r"--vsize (\d+)", result.err)
                self.assertIsNotNone(suggested, result)
                self.convert(layout, "--vsize", suggested.group(1))
