"""Every hostile image: refused with one clear line and its exit code, in bounds, leaving nothing."""

import json
import re

from tests.e2e.support import CONVERTOR, TestCase, read_blob, run, snapshot
from tests.images.hostile import HOSTILE

MOST_SECONDS = 60
MOST_MEMORY = 512 << 20


class HostileImages(TestCase):
    def check_hostile(self, name):
        hostile = HOSTILE[name]
        layout = self.copy_image(name, "generate_hostile")
        before = snapshot(layout)
        work = self.dir / "work"
        work.mkdir()
        result = run(CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd", "-d", work / "tmp",
                     *hostile.arguments, cwd=work, timeout=MOST_SECONDS)
        self.assertIn(result.code, hostile.codes, result)
        errors = [line for line in result.err.splitlines() if re.match(r"convertor: error: ", line)]
        self.assertEqual(1, len(errors), f"not one error line\n{result}")
        if hostile.says:
            self.assertRegex(errors[0], hostile.says)
        self.assert_names_layer(layout, hostile, errors[0])
        self.assertLess(len(errors[0]), 2000, result)
        self.assert_same_files(before, snapshot(layout), result)
        self.assert_same_files({}, snapshot(work), result)
        self.assertLess(result.max_rss, MOST_MEMORY)

    def assert_names_layer(self, layout, hostile, error):
        """An error about an entry names its layer by digest (12 digits are enough) or number."""
        if not hostile.write.__module__.rpartition(".")[2] == "registry":
            return  # not declared with @layer
        tag = json.loads((layout / "index.json").read_text())["manifests"][0]
        layer = json.loads(read_blob(layout, tag["digest"]))["layers"][1]["digest"]
        self.assertRegex(error, f"{layer[7:19]}|layer 2\\b")
        self.assertRegex(error, r"victim|\b(offset|byte) \d+|entry|member")


def _add(name):
    def test(self):
        self.check_hostile(name)
    test.__doc__ = HOSTILE[name].about
    setattr(HostileImages, "test_" + name.replace("-", "_"), test)


for _name in HOSTILE:
    _add(_name)
