#pragma once

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/tar_builder.h"

namespace obd::blockfs {

/// Makes layers of random changes that fit on one another: files of all types, replaced, renamed, removed,
/// linked; directories that grow, go and become files.
class RandomLayers {
 public:
  explicit RandomLayers(uint64_t seed) : random_(seed) { types_[""] = 'd'; }

  test::Bytes next(int changes) {
    tar_ = test::TarBuilder();
    lower_ = types_;
    touched_.clear();
    for (int i = 0; i < changes; ++i) change();
    return tar_.end().bytes();
  }
  /// Paths (the root is "") and types: 'f', 'd', or 'o' for others.
  const std::map<std::string, char>& types() const { return types_; }

 private:
  using Paths = std::vector<std::string>;

  uint64_t below(uint64_t limit) { return random_() % limit; }

  void change() {
    switch (below(12)) {
      case 0:
        return make_directory();
      case 1:
        return remove();
      case 2:
        return make_opaque();
      case 3:
        return rename();
      case 4:
        return link();
      case 5:
        return make_other();
      case 6:
        return below(4) == 0 ? fill_directory() : make_file(new_path());
      case 7:
        return make_sparse(new_path());
      case 8:
        return make_file(existing([](char type) { return type != 'd'; }));
      case 9:
        return replace();
      default:
        return make_file(new_path());
    }
  }

  template <class Wanted>
  std::string existing(Wanted wanted) {
    Paths paths;
    for (const auto& [path, type] : types_) {
      if (!path.empty() && wanted(type)) paths.push_back(path);
    }
    return paths.empty() ? new_path() : paths[below(paths.size())];
  }
  std::string new_path() {
    Paths directories;
    for (const auto& [path, type] : types_) {
      if (type == 'd' && path.size() < 200) directories.push_back(path);
    }
    const std::string& parent = directories[below(directories.size())];
    std::string name = fmt::format("n{}", below(100000));
    if (below(10) == 0) name.resize(1 + below(200), 'x');
    return parent.empty() ? name : parent + "/" + name;
  }

  void forget(const std::string& path) {
    types_.erase(path);
    for (auto at = types_.lower_bound(path + "/"); at != types_.end() && at->first.starts_with(path + "/");) {
      at = types_.erase(at);
    }
  }
  void note(const std::string& path, char type) {
    if (type != 'd' || types_[path] != 'd') forget(path);
    types_[path] = type;
    touched_.insert(path);
  }
  bool untouched(const std::string& path) const {
    if (path.empty() || !lower_.contains(path) || !types_.contains(path)) return false;
    for (const std::string& at : touched_) {
      if (at == path || at.starts_with(path + "/") || path.starts_with(at + "/")) return false;
    }
    return true;
  }

  void make_file(const std::string& path) {
    test::TarBuilder::Member member{.name = "f",
                                    .content = std::string(below(4) == 0 ? below(50000) : below(600), 'c')};
    for (char& c : member.content) c = static_cast<char>('a' + below(20));
    member.mode = static_cast<unsigned>(below(010000));
    member.mtime = static_cast<unsigned>(below(1u << 31));
    member.pax["path"] = path;
    if (below(8) == 0) member.pax["SCHILY.xattr.user.a"] = std::string(below(2000), 'v');
    if (below(8) == 0) member.pax["uid"] = fmt::format("{}", below(uint64_t{1} << 32));
    tar_.add(member);
    note(path, 'f');
  }
  void make_sparse(const std::string& path) {
    const uint64_t at = below(1 << 20);
    tar_.add({.name = "f",
              .content = std::string(5000, 's'),
              .pax = {{"path", path},
                      {"GNU.sparse.size", fmt::format("{}", at + (2 << 20))},
                      {"GNU.sparse.map", fmt::format("{},2000,{},3000", at, at + 1'000'000)}}});
    note(path, 'f');
  }
  void make_directory() {
    const std::string path = below(3) == 0 ? existing([](char type) { return type == 'd'; }) : new_path();
    tar_.add(
        {.name = "d", .type = '5', .mode = static_cast<unsigned>(below(010000)), .pax = {{"path", path}}});
    note(path, 'd');
  }
  void fill_directory() {
    const std::string path = new_path();
    tar_.add({.name = "d", .type = '5', .pax = {{"path", path}}});
    note(path, 'd');
    for (uint64_t i = below(400); i > 0; --i) {
      const std::string name = fmt::format("{}/entry-{}", path, i);
      tar_.add({.name = "f", .pax = {{"path", name}}});
      note(name, 'f');
    }
  }
  void make_other() {
    const std::string path = new_path();
    const char types[] = {'2', '2', '3', '4', '6'};
    tar_.add({.name = "o",
              .type = types[below(5)],
              .major = static_cast<unsigned>(below(300)),
              .minor = static_cast<unsigned>(below(70000)),
              .pax = {{"path", path}, {"linkpath", std::string(1 + below(200), 't')}}});
    note(path, 'o');
  }
  void remove() {
    const std::string path = existing([](char) { return true; });
    if (!untouched(path)) return;
    const size_t name_at = path.rfind('/') + 1;
    tar_.add({.name = "w", .pax = {{"path", path.substr(0, name_at) + ".wh." + path.substr(name_at)}}});
    forget(path);
  }
  void make_opaque() {
    const std::string path = existing([](char type) { return type == 'd'; });
    if (!untouched(path)) return;
    tar_.add({.name = "w", .pax = {{"path", path + "/.wh..wh..opq"}}});
    forget(path);
    note(path, 'd');
  }
  void rename() {
    const std::string from = existing([](char type) { return type == 'f'; });
    if (!untouched(from)) return;
    const size_t name_at = from.rfind('/') + 1;
    tar_.add({.name = "w", .pax = {{"path", from.substr(0, name_at) + ".wh." + from.substr(name_at)}}});
    forget(from);
    make_file(new_path());
  }
  void link() {
    const std::string target = existing([](char type) { return type != 'd'; });
    const std::string path = below(4) == 0 ? existing([](char type) { return type != 'd'; }) : new_path();
    if (path == target || !types_.contains(target)) return;
    tar_.add({.name = "l", .type = '1', .pax = {{"path", path}, {"linkpath", target}}});
    note(path, types_.at(target));
  }
  /// A directory becomes a file, or a file a directory.
  void replace() {
    const std::string path = existing([](char) { return true; });
    if (types_.contains(path) && types_.at(path) == 'd') return make_file(path);
    tar_.add({.name = "d", .type = '5', .pax = {{"path", path}}});
    note(path, 'd');
  }

  std::mt19937_64 random_;
  test::TarBuilder tar_;
  std::map<std::string, char> types_;
  std::map<std::string, char> lower_;  // as the layer began
  std::set<std::string> touched_;      // by this layer
};

}  // namespace obd::blockfs
