"""Converted layers have the digests that tests/golden says, on every machine."""

import json
import os

from tests.e2e.support import ROOT, TestCase
from tests.images.cases import CASES

GOLDEN = ROOT / "tests" / "golden" / "layers.json"
VARIANTS = [("replaced", []), ("whiteout-order", []), ("type-changes", []), ("xattrs", []), ("sparse", []),
            ("hardlinks", []), ("names", []), ("huge-directory", []), ("mtimes", []), ("tar-pax", []),
            ("replaced", ["--algorithm", "zstd", "--block-size", "16384"])]


class Golden(TestCase):
    def layers_of(self, name, options):
        layout = self.copy_image(name, to=f"{name}{len(options)}")
        result = self.convert(layout, "--json", "--vsize", CASES[name].vsize, *options)
        lines = [json.loads(line) for line in result.out.splitlines()]
        return [line["digest"] for line in lines if line["type"] == "layer"]

    def test_golden_layers(self):
        found = {" ".join([name, *options]): self.layers_of(name, options) for name, options in VARIANTS}
        if os.environ.get("OBD_WRITE_GOLDEN"):
            GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        expected = json.loads(GOLDEN.read_text())
        for name, digests in expected.items():
            with self.subTest(name):
                self.assertEqual(digests, found[name])
        self.assertEqual(sorted(expected), sorted(found))
