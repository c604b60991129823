#include "cover/directory_table.h"

#include <utility>

namespace janus {

DirectoryTable::Node* DirectoryTable::find(const std::string& handle) const {
  const auto at = nodes_.find(handle);
  return at == nodes_.end() ? nullptr : at->second.get();
}

DirectoryTable::Node& DirectoryTable::add_top(std::string handle, std::string path) {
  auto node = std::make_unique<Node>();
  node->handle = handle;
  node->name = std::move(path);
  return *(nodes_[std::move(handle)] = std::move(node));
}

// Whether `node` may be in that directory; null: a new one.
bool DirectoryTable::fits(const Node* node, const Node& parent) {
  std::size_t levels = 0;
  for (const Node* at = &parent; at != nullptr; at = at->parent)
    if (at == node || ++levels >= kLevels) return false;
  return true;
}

DirectoryTable::Node* DirectoryTable::put(Node& node, Node& parent, std::string name) {
  node.parent = &parent;
  node.name = std::move(name);
  return std::exchange(parent.children[node.name], &node);
}

void DirectoryTable::leave(Node& node) {
  if (node.parent != nullptr) node.parent->children.erase(node.name);
  node.parent = nullptr;
}

DirectoryTable::Node* DirectoryTable::add(std::string handle, Node& parent, std::string name, bool directory) {
  if (!fits(nullptr, parent)) return nullptr;
  // What had the name is gone, though nothing told of it.
  if (const auto had = parent.children.find(name); had != parent.children.end()) remove(*had->second);
  auto node = std::make_unique<Node>();
  node->handle = handle;
  node->directory = directory;
  put(*node, parent, std::move(name));
  return (nodes_[std::move(handle)] = std::move(node)).get();
}

std::optional<DirectoryTable::Moved> DirectoryTable::move(Node& node, Node& parent, std::string name) {
  if (!fits(&node, parent)) {
    remove(node);
    return std::nullopt;
  }
  leave(node);
  const auto had = parent.children.find(name);
  Node* const replaced = had == parent.children.end() ? nullptr : had->second;
  if (replaced != nullptr) detach(*replaced);
  put(node, parent, std::move(name));
  return Moved{replaced};
}

void DirectoryTable::detach(Node& node) {
  std::string path = path_of(node);
  leave(node);
  node.name = std::move(path);
}

void DirectoryTable::remove(Node& node) {
  leave(node);
  std::vector<Node*> gone = {&node};
  while (!gone.empty()) {
    Node* const one = gone.back();
    gone.pop_back();
    for (const auto& [name, child] : one->children) gone.push_back(child);
    nodes_.erase(std::string(one->handle));
  }
}

std::string DirectoryTable::path_of(const Node& node) const {
  std::size_t size = 0;
  const Node* at = &node;
  for (; at->parent != nullptr; at = at->parent) size += at->name.size() + 1;
  std::string path(size + at->name.size(), '/');
  std::size_t end = path.size();
  for (at = &node; at->parent != nullptr; at = at->parent) {
    end -= at->name.size();
    path.replace(end, at->name.size(), at->name);
    --end;
  }
  return path.replace(0, at->name.size(), at->name);
}

std::string DirectoryTable::path_of(const Node& node, std::string_view name) const {
  std::string path = path_of(node);
  path += '/';
  path += name;
  return path;
}

std::vector<std::string> DirectoryTable::handles() const {
  std::vector<std::string> handles;
  handles.reserve(nodes_.size());
  for (const auto& [handle, node] : nodes_) handles.push_back(handle);
  return handles;
}

}  // namespace janus
