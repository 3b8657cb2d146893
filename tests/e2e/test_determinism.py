"""The same input gives the same manifest, however it is converted."""

from tests.e2e.support import TestCase
from tests.images.cases import CASES

VARIANTS = {
    "one thread": ["--threads", "1"],
    "two threads": ["--threads", "2"],
    "three threads": ["--threads", "3"],
    "a second run": [],
    "a tiny metadata budget": ["--metadata-budget", "LEAST"],
    "reopened after each layer": ["--reopen-each-layer"],
    "reopened, tiny budget, one thread": ["--reopen-each-layer", "--metadata-budget", "LEAST", "--threads", "1"],
    "one layer at a time": ["--concurrency-limit", "1"],
}


class Determinism(TestCase):
    def check_case(self, name):
        vsize = ["--vsize", CASES[name].vsize]
        layout = self.copy_image(name)
        self.convert(layout, *vsize)
        expected = self.digest_of(layout)
        for number, (variant, arguments) in enumerate(VARIANTS.items()):
            arguments = [CASES[name].least_budget if word == "LEAST" else word for word in arguments]
            with self.subTest(variant):
                fresh = self.copy_image(name, to=f"layout{number}")
                self.convert(fresh, *vsize, *arguments)
                self.assertEqual(expected, self.digest_of(fresh))

    def test_options_change_the_digest(self):
        """Sanity: what must matter does."""
        digests = set()
        variants = [[], ["--vsize", "32"], ["--algorithm", "zstd"], ["--block-size", "8192"]]
        for number, arguments in enumerate(variants):
            layout = self.copy_image("replaced", to=f"layout{number}")
            self.convert(layout, *arguments)
            digests.add(self.digest_of(layout))
        self.assertEqual(len(variants), len(digests))

    def test_environment_does_not_matter(self):
        """Locale, time zone and umask stay out of the bytes."""
        import os
        layout = self.copy_image("names")
        self.convert(layout)
        expected = self.digest_of(layout)
        for number, env in enumerate(({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"TZ": "Asia/Kathmandu"},
                                      {"SOURCE_DATE_EPOCH": "1"}, {"MKE2FS_CONFIG": "/dev/null"})):
            with self.subTest(**env):
                fresh = self.copy_image("names", to=f"env{number}")
                self.convert(fresh, env=env)
                self.assertEqual(expected, self.digest_of(fresh))
        old = os.umask(0o077)
        try:
            fresh = self.copy_image("names", to="umask")
            self.convert(fresh)
            self.assertEqual(expected, self.digest_of(fresh))
        finally:
            os.umask(old)


def _add(name):
    def test(self):
        self.check_case(name)
    setattr(Determinism, "test_" + name.replace("-", "_"), test)


for _name in CASES:
    _add(_name)
