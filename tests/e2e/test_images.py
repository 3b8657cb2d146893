"""Every hard case: converted, checked by e2fsck and the kernel after each layer, compared with the model."""

import json

from tests.e2e.support import OBDCTL, Mount, TestCase, can_mount, image
from tests.images.cases import CASES


class HardCases(TestCase):
    def check_case(self, name):
        case = CASES[name]
        source = image(name)
        about = json.loads((source / "case.json").read_text())
        layout = self.copy_image(name)
        self.convert(layout, "--vsize", case.vsize)
        disk = self.dir / "disk.img"
        for count in range(1, about["layers"] + 1):
            disk.unlink(missing_ok=True)
            self.expect(0, OBDCTL, "export", "-r", f"oci:{layout}", "-i", "test_obd", "-o", disk, "--layers", count)
            with self.subTest(layers=count):
                self.assertEqual(case.vsize << 30, disk.stat().st_size)
                self.assert_clean_disk(disk)
                self.compare_mounted(disk, source / "expected" / f"{count}.txt")
        self.check_sparse(disk, case)
        self.check_writable(disk, source / "expected" / f"{about['layers']}.txt")
        self.expect(0, OBDCTL, "verify", "-r", f"oci:{layout}", "-i", "test_obd")
        self.expect(0, OBDCTL, "check", "-r", f"oci:{layout}", "-i", "test", "-o", "test_obd")

    def compare_mounted(self, disk, expected):
        if can_mount() and expected.exists():
            with Mount(disk, self.dir / "mnt", "ro") as mounted:
                self.assert_tree(expected, mounted)

    def check_sparse(self, disk, case):
        if not case.max_blocks or not can_mount():
            return
        # The upper layer of a case may replace some of these files by dense ones; its own listing covers them.
        with Mount(disk, self.dir / "mnt", "ro") as mounted:
            for path, most in case.max_blocks.items():
                info = (mounted / path.decode()).stat()
                if info.st_size > 1 << 20 and path.decode() != "gnu-old/hole-last":
                    self.assertLessEqual(info.st_blocks, most, path)

    def check_writable(self, disk, expected):
        """The kernel mounts the disk for writing, sees the same tree, and what it writes leaves it clean."""
        if not can_mount():
            return
        with Mount(disk, self.dir / "mnt", "rw,noatime") as mounted:
            self.assert_tree(expected, mounted)
            (mounted / "written-by-kernel").mkdir()
            for number in range(100):
                (mounted / "written-by-kernel" / f"file{number}").write_bytes(bytes([number]) * 50_000)
            for number in range(0, 100, 3):
                (mounted / "written-by-kernel" / f"file{number}").unlink()
        self.assert_clean_disk(disk)


def _add(name):
    def test(self):
        self.check_case(name)
    test.__doc__ = CASES[name].about
    setattr(HardCases, "test_" + name.replace("-", "_"), test)


for _name in CASES:
    _add(_name)
