#pragma once

#include <iosfwd>
#include <memory>
#include <span>
#include <string>

#include "registry/foreign_blobs.h"
#include "registry/registry.h"
#include "tools/cxxopts_config.h"

// The flags by which a user says how to reach a registry: the same for every program.

namespace obd::tools {

/// Whose flags: those without a prefix, or of one side where a program knows two repositories.
enum class RegistrySide { kCommon, kSource, kTarget };

/// Adds --username, --password-stdin, --plain, --cert-dir, --root-ca, --client-cert and --insecure to a group
/// of a table; as --src-username and so on, or --dest-username. The common side has -u, --retry and
/// --retry-delay besides, the source --allow-foreign-layers.
void add_registry_options(cxxopts::Options& options, const std::string& group, RegistrySide side);

/// Reads the flags of one side. Throws UsageError for what does not go together. Password from the standard
/// input: up to its end, without the line end that closes it.
///
/// Only one side may have --password-stdin: check_password_stdin().
registry::RepositoryOptions read_registry_options(const cxxopts::ParseResult& parsed, RegistrySide side,
                                                  std::istream& in);

/// None unless --allow-foreign-layers was given. `options`: how to reach the repository whose images have
/// such layers. Throws as ForeignBlobs.
std::unique_ptr<registry::ForeignBlobs> open_foreign_blobs(const cxxopts::ParseResult& parsed,
                                                           const registry::RepositoryOptions& options);

/// Throws UsageError if more than one side would read the standard input.
void check_password_stdin(const cxxopts::ParseResult& parsed);

/// Warns, in the log, if a password stands on the command line.
void warn_of_passwords(const cxxopts::ParseResult& parsed);

/// `own`, of one side, with what `common` adds: lists are joined, and a switch is on if it is on in either.
/// The credential of `common` counts only where `own` has none and `common_credential` is set: a credential
/// must not go to a host that it was not given for. What no side has options for is that of `common`.
registry::RepositoryOptions merge_registry_options(const registry::RepositoryOptions& common,
                                                   registry::RepositoryOptions own, bool common_credential);

/// Overwrites the passwords in the process's own arguments, where `ps` shows them to everybody. Those who
/// read the arguments afterwards see asterisks.
void hide_passwords(std::span<char*> arguments);

}  // namespace obd::tools
