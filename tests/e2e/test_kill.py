"""Runs that are ended early: nothing unfinished is tagged, nothing is left behind, the next run works."""

import signal

from tests.e2e.support import CONVERTOR, TestCase, find_tag, image, run, snapshot
from tests.images.layout import Layer, Layout

MOMENTS = 24


def heavy_layers():
    """Layers that keep a converter busy for a moment."""
    import random
    layers = []
    for number in range(4):
        layer = Layer("none" if number % 2 else "gzip")
        source = random.Random(number)
        for file in range(200):
            layer.file(b"dir%d/file%d" % (number, file), source.randbytes(60_000) + bytes(20_000))
        layer.file(b"shared", b"%d" % number)
        layers.append(layer)
    return layers


class Ended(TestCase):
    def setUp(self):
        super().setUp()
        self.source = self.dir / "source"
        layout = Layout(str(self.source))
        layout.tag("test", layout.image(heavy_layers()))
        layout.finish()
        clean = self.copy_layout(self.source, "clean")
        self.seconds = self.convert(clean).seconds
        self.expected = self.digest_of(clean)
        self.files = snapshot(clean)

    def sweep(self, sent, codes):
        """Ends runs at moments spread over a whole run; returns the exit codes seen."""
        seen = set()
        before = snapshot(self.source)
        for moment in range(MOMENTS):
            work = self.dir / f"work{moment}"
            work.mkdir()
            layout = self.copy_layout(self.source, f"work{moment}/layout")
            after = 0.02 + self.seconds * moment / MOMENTS
            result = run(CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd", cwd=work,
                         kill_after=after, kill_with=sent)
            seen.add(result.code)
            with self.subTest(after=f"{after:.3f}"):
                if result.code == 0:
                    self.assert_same_files(self.files, snapshot(layout), result)
                    continue
                self.assertIn(result.code, codes, result)
                if find_tag(layout, "test_obd") is not None:
                    # All was done, but for the end of the process, which hears no more signals.
                    self.assertEqual(result.code, -sent, result)
                    self.assert_same_files(self.files, snapshot(layout), result)
                    continue
                if sent != signal.SIGKILL:
                    self.assert_same_files(before, snapshot(layout), result)
                again = self.expect(0, CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd", cwd=work)
                self.assertEqual(self.expected, self.digest_of(layout), again)
                self.assert_same_files({"layout/" + name: value for name, value in self.files.items()},
                                       snapshot(work), again)
        return seen

    def test_kill_sweep(self):
        """SIGKILL at many moments."""
        self.assertIn(-signal.SIGKILL, self.sweep(signal.SIGKILL, (-signal.SIGKILL,)))

    def test_interrupt_sweep(self):
        """SIGINT at many moments: exit code 130, and nothing is left."""
        # Before main() the signal's default action applies.
        self.assertIn(130, self.sweep(signal.SIGINT, (130, -signal.SIGINT)))

    def test_terminate_sweep(self):
        """SIGTERM at many moments: exit code 143, and nothing is left."""
        self.assertIn(143, self.sweep(signal.SIGTERM, (143, -signal.SIGTERM)))

    def test_stops_at_once(self):
        """An interrupt in the middle of a large file does not wait for its end."""
        layout = self.copy_image("zeroes", to="large")
        result = run(CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd", cwd=self.dir, kill_after=0.05,
                     kill_with=signal.SIGINT)
        self.assertIn(result.code, (0, 130))
        if result.code == 130:
            self.assertNotIn("test_obd", (layout / "index.json").read_text())

    def test_killed_over_an_old_tag(self):
        """A run that is killed while it replaces a tag leaves the old one in place."""
        layout = self.copy_layout(image("replaced") / "layout", "tagged")
        self.convert(layout)
        old = self.digest_of(layout)
        result = run(CONVERTOR, "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd", "--algorithm", "zstd",
                     cwd=self.dir, kill_after=0.03)
        if result.code != 0:
            self.assertEqual(old, self.digest_of(layout))
        self.convert(layout)
        self.assertEqual(old, self.digest_of(layout))
