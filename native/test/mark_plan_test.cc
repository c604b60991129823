// Tables and marks from places and mounts, without a kernel.
#include "cover/mark_plan.h"

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

}  // namespace

int main() {
  const SeenBy seen = {{1, {{nullptr, &kFirst, true}, {nullptr, &kSecond, false}}}};
  const Placed own = placed(1, kOverlay, true, Action::deny, "/etc/secret", kOpen);
  const Placed allowed = placed(1, kOverlay, true, Action::allow, "/usr", kOpen);
  const Placed over = placed(1, kOverlay, true, Action::allow, "/etc", kExec);
  const Placed volume = placed(1, kVolume, false, Action::deny, "/vol/deep/key", kOpen);

  const MarkPlan plan = plan_marks({kOverlay, kVolume}, {&own, &allowed, &over, &volume}, seen);
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

  // Only what is asked for; nothing where nothing is placed.
  CHECK(plan_marks({kVolume}, {&own, &volume}, seen).superblocks.size() == 1);
  CHECK(plan_marks({kVolume}, {&own}, seen).superblocks.empty());
  // A file system that a server answers for is never marked.
  std::vector<Mount> served = kFirst;
  served[1].served = true;
  CHECK(!plan_marks({kVolume}, {&volume}, {{1, {{nullptr, &served, true}}}}).marks.contains({kVolume, 11}));
  return tap::done();
}
