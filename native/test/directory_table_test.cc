// Where directories are, by their handles: as events move them.
#include "cover/directory_table.h"

#include <string>

#include "tap.h"

using namespace janus;

namespace {

using Node = DirectoryTable::Node;

void paths() {
  DirectoryTable table;
  CHECK(table.find("h0") == nullptr);
  Node& root = table.add_top("h0", "");
  Node& a = *table.add("h1", root, "a", true);
  Node& b = *table.add("h2", a, "b", true);
  CHECK(table.path_of(root) == "" && table.path_of(root, "x") == "/x");
  CHECK(table.path_of(b) == "/a/b" && table.path_of(b, "x") == "/a/b/x");
  CHECK(table.find("h2") == &b && table.size() == 3);
  Node& volume = table.add_top("h3", "/srv/volume");
  CHECK(table.path_of(*table.add("h4", volume, "c", false)) == "/srv/volume/c");
}

void moves() {
  DirectoryTable table;
  Node& root = table.add_top("h0", "");
  Node& a = *table.add("a", root, "a", true);
  Node& b = *table.add("b", a, "b", true);
  Node& c = *table.add("c", b, "c", true);
  CHECK(table.move(b, root, "z") && table.path_of(c) == "/z/c");
  CHECK(a.children.empty());
  CHECK(table.move(b, root, "z") && table.path_of(c) == "/z/c");  // where it is
  // Below itself: an event was lost. It can't be said where it is.
  CHECK(!table.move(b, c, "b") && table.find("b") == nullptr && table.find("c") == nullptr && table.size() == 2);
}

// RENAME_EXCHANGE is two renames: after the first, both have one name.
void exchange() {
  DirectoryTable table;
  Node& root = table.add_top("h0", "");
  Node& a = *table.add("a", root, "a", true);
  Node& b = *table.add("b", root, "b", true);
  Node& in_b = *table.add("in b", b, "d", true);
  const auto first = table.move(a, root, "b");
  CHECK(first && first->replaced == &b && table.path_of(a) == "/b");
  CHECK(table.path_of(in_b) == "/b/d");  // as long as nobody says otherwise
  const auto second = table.move(b, root, "a");
  CHECK(second && second->replaced == nullptr && table.path_of(in_b) == "/a/d");
  CHECK(root.children.size() == 2 && root.children.at("a") == &b && root.children.at("b") == &a);
}

void replaced_and_removed() {
  DirectoryTable table;
  Node& root = table.add_top("h0", "");
  Node& a = *table.add("a", root, "a", true);
  table.add("b", root, "b", true);
  Node* const replaced = table.move(a, root, "b")->replaced;
  table.remove(*replaced);
  CHECK(table.find("b") == nullptr && root.children.at("b") == &a);
  table.add("c", a, "c", true);
  table.remove(a);
  CHECK(table.size() == 1 && root.children.empty());
  // Another one has the name: what had it is gone, with what was below.
  Node& d = *table.add("d", root, "d", true);
  table.add("e", d, "e", true);
  table.add("f", root, "d", true);
  CHECK(table.find("d") == nullptr && table.find("e") == nullptr && table.size() == 2);
  CHECK(table.handles().size() == 2);
  table.clear();
  CHECK(table.size() == 0);
}

void too_deep() {
  DirectoryTable table;
  Node* at = &table.add_top("top", "");
  for (std::size_t i = 0; at != nullptr && i < 2 * DirectoryTable::kLevels; ++i) at = table.add(std::to_string(i), *at, "d", true);
  CHECK(at == nullptr && table.size() == DirectoryTable::kLevels);
}

}  // namespace

int main() {
  paths();
  moves();
  exchange();
  replaced_and_removed();
  too_deep();
  return tap::done();
}
