# Sourced by the scripts behind the README's commands: what to install from Debian, and how.
# shellcheck shell=bash disable=SC2034

# What it takes to build the programs.
BUILD_PACKAGES=(cmake ninja-build g++ pkg-config libarchive-dev libcurl4-openssl-dev libcxxopts-dev libext2fs-dev
                libfmt-dev libisal-dev liblz4-dev libmysqlcppconn-dev libspdlog-dev libsqlite3-dev
                libssl-dev libxxhash-dev libzstd-dev
                nlohmann-json3-dev comerr-dev zlib1g-dev)

# What quickstart takes beside them.
QUICKSTART_PACKAGES=(ca-certificates debootstrap e2fsprogs mount python3 umoci)

# What the tests take beside those.
TEST_PACKAGES=(clang-14 clang-format-14 docker-registry e2fsprogs git libclang-rt-14-dev libbenchmark-dev
               libcpp-httplib-dev libgmock-dev libgtest-dev llvm-14 mariadb-server mount nginx-light openssl
               python3 skopeo umoci)

# Installs those of the given packages that are missing; says nothing and is fast where none is.
install_packages() {
  local package missing=()
  for package in "$@"; do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      missing+=("$package")
    fi
  done
  [[ ${#missing[@]} == 0 ]] && return 0
  local as_root=()
  if [[ $EUID != 0 ]]; then
    if ! command -v sudo >/dev/null; then
      echo "please install as root: apt-get install ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "installing from Debian: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
}

# Prints the mirror from which this machine's own apt takes a suite.
debian_mirror() {
  local suite=$1
  {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +([^ ]+) .*/\2 \3/p'
    awk -v RS= '{
      uri = ""; suites = ""
      for (n = split($0, lines, "\n"); n > 0; n--) {
        if (lines[n] ~ /^URIs:/) { split(lines[n], words, /[ \t]+/); uri = words[2] }
        if (lines[n] ~ /^Suites:/) { suites = lines[n]; sub(/^Suites:/, "", suites) }
      }
      count = split(suites, each, " ")
      for (i = 1; i <= count; i++) print uri, each[i]
    }' /etc/apt/sources.list.d/*.sources 2>/dev/null
  } | awk -v suite="$suite" '$2 == suite {print $1; exit}'
}
