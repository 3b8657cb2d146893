// Another process that uses the database of a test: it shows what it has done by lines on standard output.
//
//   worker TYPE LOCATION lease NAME     "held", then keeps the lease until standard input ends
//   worker TYPE LOCATION put N SIZE     records the row of a test N times

#include <iostream>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/unit/dedupdb/fixtures.h"

int main(int argc, char** argv) try {
  using namespace obd::dedupdb;
  const std::vector<std::string> args(argv + 1, argv + argc);
  const auto db = open_dedup_db({.type = args.at(0), .location = args.at(1)});
  if (args.at(2) == "lease") {
    const auto lease = db->acquire(args.at(3), true, {});
    std::cout << "held" << std::endl;
    std::cin.get();
  } else {
    const uint64_t size = std::stoull(args.at(4));
    for (int i = std::stoi(args.at(3)); i > 0; --i) {
      db->put_layer(test::kPlace, test::make_key(1), test::digest_of(size), size, {});
    }
    std::cout << "done" << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
