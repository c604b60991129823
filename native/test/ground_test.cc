// Tables and marks from places and mounts, without a kernel; and that a change leaves what a fresh start would give.
#include "cover/ground.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "os/fanotify_group.h"
#include "tap.h"

using namespace janus;

namespace {

constexpr Device kOverlay = 1, kVolume = 2;

Placed placed(std::uint64_t container, Device device, bool owned, Action action, std::string path, std::uint32_t events) {
  auto subject = std::make_shared<Subject>();
  subject->container = container;
  subject->events = events;
  return {.container = container,
          .device = device,
          .owned = owned,
          .entry = std::make_shared<Entry>(
              Entry{.action = action, .depth = 0, .path = std::move(path), .relative = "", .subject = subject})};
}

constexpr std::uint32_t kOpen = mask_of(FileEventKind::open), kExec = mask_of(FileEventKind::exec);

const std::vector<Mount> kFirst = {{.id = 10, .device = kOverlay, .root = "", .point = "", .type = "overlay"},
                                   {.id = 11, .device = kVolume, .root = "/vol", .point = "/data", .type = "ext4"},
                                   {.id = 12, .device = kVolume, .root = "/elsewhere", .point = "/other", .type = "ext4"},
                                   {.id = 13, .device = kVolume, .root = "/vol", .point = "/hidden", .type = "ext4", .visible = false}};
const std::vector<Mount> kSecond = {{.id = 20, .device = kVolume, .root = "/vol/deep", .point = "/x", .type = "ext4"}};

MarkPlan planned(Device device, const Ground& ground, const SeenBy& seen) {
  MarkPlan plan;
  if (!ground.empty()) ground.plan(device, seen, plan);
  return plan;
}

using List = std::vector<const Placed*>;

Ground ground_of(const List& places) {
  Ground ground;
  ground.change({}, places);
  return ground;
}

// Rules as text, in order.
std::multiset<std::string> rules_of(const Ground& ground, Device device, const SeenBy& seen) {
  std::multiset<std::string> rules;
  const MarkPlan plan = planned(device, ground, seen);
  for (const auto& [key, mark] : plan.marks) rules.insert(std::to_string(mark.gate) + " " + std::to_string(mark.observer));
  if (!plan.superblocks.empty()) rules.insert("denies " + std::to_string(plan.superblocks.at(device)->deny_mask));
  for (const char* path : {"/a", "/a/b", "/a/b/c", "/a/x", "/x", ""}) {
    if (plan.superblocks.empty()) continue;
    const SuperblockPolicy& table = *plan.superblocks.at(device)->table;
    for (const bool observed : {false, true}) {
      const Decision decision = table.decide(path, true, FileEventKind::open, {.container = 1}, observed);
      rules.insert(std::string(path) + (decision.entry == nullptr ? " none" : decision.deny ? " deny" : " allow") +
                   (observed ? " observed" : "") + (table.outside(path, observed) ? " outside" : ""));
    }
  }
  return rules;
}

// Whatever comes and goes, in whatever order: what is left decides.
void changes() {
  const SeenBy seen = {{1, {{nullptr, kFirst, true}}}, {2, {{nullptr, kFirst, true}}}};
  std::vector<Placed> all;
  for (const char* path : {"/a", "/a/b", "/a/b/c", "/a/x", ""})
    for (const Action action : {Action::allow, Action::deny, Action::watch})
      for (const std::uint64_t container : {1, 2}) all.push_back(placed(container, kOverlay, true, action, path, container == 1 ? kOpen : kExec));
  std::mt19937 random(1);
  Ground ground;
  List there;
  bool same = true;
  for (int round = 0; round < 500; ++round) {
    List gone, come, next;
    for (const Placed& each : all) {
      const bool is = std::ranges::find(there, &each) != there.end();
      const bool flip = random() % 4 == 0;
      if (is && flip) gone.push_back(&each);
      if (!is && flip) come.push_back(&each);
      if (is != flip) next.push_back(&each);
    }
    ground.change(gone, come);
    there = next;
    same = same && ground.empty() == there.empty() && rules_of(ground, kOverlay, seen) == rules_of(ground_of(there), kOverlay, seen);
  }
  CHECK(same);
}

}  // namespace

int main() {
  const SeenBy seen = {{1, {{nullptr, kFirst, true}, {nullptr, kSecond, false}}}};
  const Placed own = placed(1, kOverlay, true, Action::deny, "/etc/secret", kOpen);
  const Placed allowed = placed(1, kOverlay, true, Action::allow, "/usr", kOpen);
  const Placed over = placed(1, kOverlay, true, Action::allow, "/etc", kExec);
  const Placed volume = placed(1, kVolume, false, Action::deny, "/vol/deep/key", kOpen);

  const Ground own_ground = ground_of({&own, &allowed, &over}), volume_ground = ground_of({&volume});
  MarkPlan plan = planned(kOverlay, own_ground, seen);
  volume_ground.plan(kVolume, seen, plan);
  CHECK(plan.superblocks.size() == 2);
  // The container's own: one mark for the superblock, whatever is mounted of it.
  const PlannedMark& superblock = plan.marks.at({kOverlay, 0});
  CHECK(superblock.gate == (FAN_OPEN_PERM | FAN_OPEN_EXEC_PERM));  // a deny, and an allow that overlaps it
  CHECK(superblock.observer == FAN_OPEN);                           // an allow that no deny overlaps
  CHECK(!plan.superblocks.at(kOverlay)->shared && plan.superblocks.at(kOverlay)->deny_mask == FAN_OPEN_PERM);
  // A volume: the mounts that show what is guarded, in each namespace; not those
  // that show something else or lie under another.
  CHECK(plan.superblocks.at(kVolume)->shared);
  CHECK(plan.marks.size() == 3);
  CHECK(!plan.marks.at({kVolume, 11}).fleeting && plan.marks.at({kVolume, 20}).fleeting);
  CHECK(plan.superblocks.at(kVolume)->containers == std::vector<std::uint64_t>{1});
  CHECK(plan.bases.size() == 2 && plan.bases[1].mount.id == 11);
  CHECK(plan.superblocks.at(kVolume)->table->seen_by(1, "/vol/deep/key") == "/data/deep/key");

  // A file system that a server answers for is never marked.
  std::vector<Mount> served = kFirst;
  served[1].served = true;
  CHECK(!planned(kVolume, volume_ground, {{1, {{nullptr, served, true}}}}).marks.contains({kVolume, 11}));
  changes();
  return tap::done();
}
