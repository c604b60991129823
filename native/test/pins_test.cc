// What stays in the kernel without a daemon: real pins on a bpf file system of our own.
#include "ebpf/pins.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ebpf/bpf_programs.h"
#include "ebpf/decider.h"
#include "ebpf/kept.h"
#include "os/clock.h"
#include "os/error.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// Of a daemon: what it would keep, though nothing is denied here.
struct Keeping {
  explicit Keeping(const BpfPrograms& programs, const fs::path& base)
      : decider(programs, Decider::Mode::rules, {.version = "1.2.3", .away_denies = true}), pins(decider.kept(), base) {}

  // As its program does.
  void count(std::uint32_t which, std::uint64_t times) const {
    std::vector<std::uint64_t> of_processors(static_cast<std::size_t>(libbpf_num_possible_cpus()), times);
    for (const auto& [name, fd] : decider.kept())
      if (name == Kept::kCounts) CHECK(bpf_map_update_elem(fd, &which, of_processors.data(), BPF_ANY) == 0);
  }

  Decider decider;
  Pins pins;
};

void what_was_counted_is_told_once(const BpfPrograms& programs, const fs::path& base) {
  const auto processors = static_cast<std::uint64_t>(libbpf_num_possible_cpus());
  std::optional<Keeping> first(std::in_place, programs, base);
  CHECK(first->pins.alone());
  first->decider.settle();
  first->count(JANUS_AWAY_DENIED, 5);
  first->count(JANUS_AWAY_UNJUDGED, 2);
  first->decider.leave();
  first.reset();
  const Keeping next(programs, base);
  CHECK(!next.pins.alone());
  usleep(2000);
  const TakenOver over = next.pins.take_over();
  CHECK(over.daemons == 1 && over.layouts.empty() && over.away_ns > 2'000'000 && over.away_ns < 60'000'000'000);
  CHECK(over.counts[JANUS_AWAY_DENIED] == 5 * processors && over.counts[JANUS_AWAY_UNJUDGED] == 2 * processors);
  CHECK(over.counts[JANUS_AWAY_DEEP] == 0);
  TakenOver sum;
  sum.add(over);
  sum.add({.daemons = 1, .away_ns = 1, .counts = {}, .layouts = {7}});
  CHECK(sum.daemons == 2 && sum.away_ns == over.away_ns + 1 && sum.counts == over.counts && sum.layouts == std::vector<std::uint32_t>{7});
  const TakenOver again = next.pins.take_over();
  CHECK(again.daemons == 0 && again.away_ns == 0 && again.counts[JANUS_AWAY_DENIED] == 0);
}

void who_has_an_heir_leaves_nobody_alone(const BpfPrograms& programs, const fs::path& base) {
  std::optional<Keeping> first(std::in_place, programs, base);
  first->decider.settle();
  const Keeping heir(programs, base);
  const auto named = [&] {
    for (const auto& directory : fs::directory_iterator(base))
      if (const Kept kept(directory.path()); kept.presence() != nullptr && kept.presence()->heir) return true;
    return false;
  };
  CHECK(!named());
  CHECK(heir.pins.take_over().daemons == 0 && named());
  first->decider.lose_heir();
  CHECK(!named());
  CHECK(heir.pins.take_over().daemons == 0 && named());
  // The older one is no heir of the newer: both may go at once.
  first->decider.lose_heir();
  CHECK(first->pins.take_over().daemons == 0 && !named());
  CHECK(heir.pins.take_over().daemons == 0 && named());
  first->count(JANUS_AWAY_UNJUDGED, 3);
  first->decider.leave();
  first.reset();
  const TakenOver over = heir.pins.take_over();
  CHECK(over.daemons == 1 && over.away_ns == 0 && over.counts[JANUS_AWAY_UNJUDGED] == 0);
}

// It had not yet restored its guards: whoever was before counts.
void who_has_not_settled_counts_nothing(const BpfPrograms& programs, const fs::path& base) {
  std::optional<Keeping> first(std::in_place, programs, base);
  first->count(JANUS_AWAY_UNJUDGED, 3);
  first->decider.leave();
  first.reset();
  const TakenOver over = Keeping(programs, base).pins.take_over();
  CHECK(over.daemons == 1 && over.away_ns == 0 && over.counts[JANUS_AWAY_UNJUDGED] == 0);
}

// What another version has left is removed, and nothing of it is read but the number.
void another_layout_is_removed(const BpfPrograms& programs, const fs::path& base) {
  const Keeping next(programs, base);
  const fs::path other = base / "1-1", oldest = base / "1-2";
  fs::create_directory(other);
  fs::create_directory(oldest);
  const std::uint32_t first = 0;
  std::vector<std::uint32_t> value(16, 7);
  value[0] = 999;
  const UniqueFd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "presence", sizeof(first), 64, 1, nullptr));
  CHECK(bpf_map_update_elem(map.get(), &first, value.data(), BPF_ANY) == 0);
  CHECK(bpf_obj_pin(map.get(), (other / Kept::kPresence).c_str()) == 0);
  // As before there were layouts: links only.
  CHECK(bpf_obj_pin(programs.kept_links().front().second, (oldest / "on_fork").c_str()) == 0);
  const TakenOver over = next.pins.take_over();
  CHECK(over.daemons == 2 && over.away_ns == 0 && over.counts == AwayCounts{});
  CHECK(over.layouts.size() == 2 && std::ranges::count(over.layouts, 999u) == 1 && std::ranges::count(over.layouts, 0u) == 1);
  CHECK(entries(base) == 1);
}

void whoever_looks_sees_who_is_there(const BpfPrograms& programs, const fs::path& base) {
  CHECK(look_at_kept(base / "none").empty() && look_at_kept(base).empty());
  std::optional<Keeping> first(std::in_place, programs, base);
  first->decider.beat(42);
  const std::uint64_t then = boot_ns();
  const auto look = [&] { return look_at_kept(base).at(0); };
  const KeptState there = look();
  CHECK(there.layout == JANUS_KEPT_LAYOUT && there.presence && there.presence->away == 0 && there.presence->denies == 1);
  CHECK(there.presence->pid == static_cast<std::uint32_t>(getpid()) && there.presence->generation == 42);
  CHECK(std::string(there.presence->version) == "1.2.3");
  CHECK(there.presence->beat_ns <= then && there.presence->beat_ns > then - 60'000'000'000 && there.seen_ns >= then);
  first->count(JANUS_AWAY_REFUSED, 1);
  first->decider.leave();
  first.reset();
  const KeptState gone = look();
  CHECK(gone.presence->away == 1 && gone.presence->left_ns >= then && gone.counts[JANUS_AWAY_REFUSED] > 0);
  CHECK(gone.directory.starts_with(std::to_string(getpid()) + "-"));
}

// The directories of those that have gone stay, as they do.
void forget(const fs::path& base) {
  for (const auto& directory : fs::directory_iterator(base)) fs::remove_all(directory);
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-pins.XXXXXX";
  const fs::path parent = mkdtemp(name);
  const fs::path base = parent / "janusd";
  const BpfPrograms programs;
  const auto refused = [&](const std::vector<std::pair<std::string, int>>& links) {
    try {
      const Pins pins(links, base);
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  CHECK(refused(programs.kept_links()) && !fs::exists(base));  // no such file system there
  if (mount("none", parent.c_str(), "bpf", 0, nullptr) != 0) std::abort();
  CHECK(refused({{"none", -1}}) && entries(base) == 0);
  {
    std::optional<Pins> first(std::in_place, programs.kept_links(), base);
    CHECK(entries(base) == 1 && entries(fs::directory_iterator(base)->path()) == 3);
    {
      const Pins beside(programs.kept_links(), base);
      CHECK(entries(base) == 2);
      CHECK(beside.take_over().daemons == 0 && entries(base) == 2);  // the first one lives
      first.reset();
      CHECK(entries(base) == 2);  // and what it has pinned stays
      CHECK(beside.take_over().daemons == 1 && entries(base) == 1);
      CHECK(beside.take_over().daemons == 0 && entries(base) == 1);
    }
    const Pins next(programs.kept_links(), base);
    CHECK(next.take_over().daemons == 1 && entries(base) == 1);
  }
  for (const auto tell : {what_was_counted_is_told_once, who_has_an_heir_leaves_nobody_alone, who_has_not_settled_counts_nothing,
                          another_layout_is_removed, whoever_looks_sees_who_is_there}) {
    forget(base);
    tell(programs, base);
  }
  umount(parent.c_str());
  fs::remove(parent);
  return tap::done();
}
