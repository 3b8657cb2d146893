#pragma once

#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "registry/credential_helper.h"
#include "registry/reference.h"
#include "registry/registry.h"

namespace obd::registry {

/// A file in which a tool keeps its logins.
struct AuthFile {
  enum class Form {
    kDocker,      // config.json: one login for each host
    kContainers,  // auth.json of podman, skopeo and buildah: namespaces and repositories may have their own
  };
  std::filesystem::path path;
  Form form = Form::kContainers;
  /// Somebody named this very file, so that it is an error if it is not there.
  bool required = false;
};

/// Those that the environment points to, in the order in which they count:
/// REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, $XDG_CONFIG_HOME/containers/auth.json (default
/// ~/.config), $DOCKER_CONFIG/config.json (default ~/.docker).
std::vector<AuthFile> auth_files_of_environment();

/// The first credential that the files have for a repository. Within a file: the helper that `credHelpers`
/// names for the host, then `auths` (the entry that names most of the repository's path first), then
/// `credsStore`.
///
/// Threads: any.
/// Errors:  UsageError that names the file, if it cannot be read or is malformed; what
/// ask_credential_helper()
///          throws, for a helper of `credHelpers`. A `credsStore` that fails is only warned about: it is set
///          for all hosts, so that nothing says that it would have known this one.
std::optional<Credential> find_credential(const RepositoryName& repository,
                                          const std::vector<AuthFile>& files, const std::stop_token& stop,
                                          const HelperLimits& limits = {});

}  // namespace obd::registry
