// A directory that a test has for itself.
//
// Owns: the directory, and all that is in it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace janus {

struct TemporaryDirectory {
  // `name`: of the test, so that one that was left behind tells whose it was.
  explicit TemporaryDirectory(const std::string& name) {
    std::string pattern = "/tmp/janusd-" + name + ".XXXXXX";
    path = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::filesystem::path path;
};

}  // namespace janus
