#include "tools/obdctl.h"

int main(int argc, char** argv) {
  return obd::tools::run_main(argc, argv, obd::tools::obdctl_main);
}
