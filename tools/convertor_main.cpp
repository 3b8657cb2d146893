#include "tools/convertor_cli.h"

int main(int argc, char** argv) {
  return obd::tools::run_main(argc, argv, obd::tools::convertor_main);
}
