// Where directories of a superblock are, by their file handles.
//
// Owns: the table. Pure: knows neither the kernel nor what is watched. Not thread-safe.
// It is as true as what it is told: a directory is found by its handle, and has its path from
// the names that it and the directories above it have in the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace janus {

class DirectoryTable {
 public:
  // No directory is known that lies deeper: each event of it costs a walk up.
  static constexpr std::size_t kLevels = 1024;

  struct Node {
    std::string handle;
    Node* parent = nullptr;  // null: it is a top
    std::string name;        // of a top: its path
    bool directory = true;
    // By name: directories, and files that are told of.
    std::map<std::string, Node*, std::less<>> children;
  };

  // Null: not known.
  Node* find(const std::string& handle) const;

  // The handle must be new.
  Node& add_top(std::string handle, std::string path);
  // Null: it would lie too deep. The handle must be new.
  Node* add(std::string handle, Node& parent, std::string name, bool directory);

  // Gives it another place. Whoever had that name stays in the table as a top, and is returned.
  // Nothing: it can't be there (below itself, or too deep), and has been removed with all below.
  struct Moved {
    Node* replaced = nullptr;
  };
  std::optional<Moved> move(Node& node, Node& parent, std::string name);

  // It stays in the table as a top, without its name in the directory.
  void detach(Node& node);
  // With all that is below.
  void remove(Node& node);
  void clear() { nodes_.clear(); }

  std::string path_of(const Node& node) const;
  std::string path_of(const Node& node, std::string_view name) const;

  std::size_t size() const { return nodes_.size(); }
  // The handles of all.
  std::vector<std::string> handles() const;

 private:
  static bool fits(const Node* node, const Node& parent);
  static Node* put(Node& node, Node& parent, std::string name);
  static void leave(Node& node);

  std::unordered_map<std::string, std::unique_ptr<Node>> nodes_;
};

}  // namespace janus
