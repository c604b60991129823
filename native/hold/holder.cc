#include "hold/holder.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/build/hold.skel.h"
#include "os/error.h"
#include "hold/held.h"
#include "ebpf/libbpf_log.h"
#include "ebpf/probe.h"

namespace janus {
namespace {

int on_hold(void* context, void* data, std::size_t) {
  static_cast<std::vector<janus_hold>*>(context)->push_back(*static_cast<const janus_hold*>(data));
  return 0;
}

// An open that waits makes all else needless.
bool belongs(const bpf_program* program, std::string_view tier) {
  const std::string_view section = bpf_program__section_name(program), name = bpf_program__name(program);
  if (name == "deny_below" && probe_kernel().asks_below_overlays) return false;
  if (section.starts_with("fmod_ret/")) return tier == "fentry";
  if (section.starts_with("tp/")) return tier == "syscalls";
  if (name == "hold_exec" || name == "hold_fork") return tier != "fentry";
  return true;
}

}  // namespace

Holder::Holder(const BpfPrograms& programs, HoldMode mode, std::chrono::milliseconds limit) : limit_(limit) {
  if (mode == HoldMode::off || !load(mode, programs)) return;
  try {
    ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.to_daemon), on_hold, &told_, nullptr);
    if (ring_ == nullptr) throw Error::system(errno, "ring_buffer__new", "map to_daemon");
    holding_.emplace(bpf_map__fd(skeleton_->maps.guardians));
  } catch (...) {
    close();
    throw;
  }
}

Holder::~Holder() { close(); }

void Holder::close() {
  if (skeleton_ == nullptr) return;
  hold_bpf::detach(skeleton_);  // nobody is held from here
  continue_all(bpf_map__fd(skeleton_->maps.held));
  holding_.reset();
  ring_buffer__free(std::exchange(ring_, nullptr));
  hold_bpf::destroy(std::exchange(skeleton_, nullptr));
}

bool Holder::load(HoldMode mode, const BpfPrograms& programs) {
  const Probe& probe = probe_kernel();
  if (mode != HoldMode::scheduler && probe.fentry.works() && try_tier("fentry", programs)) return true;
  const bool can_stop = probe.send_signal_task.works();
  if (can_stop && try_tier(mode == HoldMode::syscalls ? "syscalls" : "scheduler", programs)) return true;
  if (mode == HoldMode::automatic) return false;
  if (!can_stop)
    throw Error(ErrorCode::unsupported, "--hold: this kernel takes no fmod_ret programs, and to stop processes needs Linux 6.13 (bpf_send_signal_task)");
  throw refused_by_libbpf(mode == HoldMode::syscalls ? "use syscall tracepoints (is tracefs mounted at /sys/kernel/tracing?)"
                                                     : "use the scheduler's tracepoints",
                          "bpf/hold.bpf.o");
}

// errno tells why not.
bool Holder::try_tier(const char* tier, const BpfPrograms& programs) {
  listen_to_libbpf();
  skeleton_ = hold_bpf::open();
  if (skeleton_ == nullptr) return false;
  const std::uint32_t containers = map_sizes(Machine::read()).cgroups;
  for (bpf_map* map : {skeleton_->maps.watched, skeleton_->maps.shares, skeleton_->maps.served, skeleton_->maps.expired})
    bpf_map__set_max_entries(map, containers);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeleton_->obj) bpf_program__set_autoload(program, belongs(program, tier));
  skeleton_->rodata->limit_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(limit_).count());
  if (bpf_map__reuse_fd(skeleton_->maps.tasks, programs.tasks_fd()) == 0 &&
      bpf_map__reuse_fd(skeleton_->maps.task_bits, programs.task_bits_fd()) == 0 &&
      bpf_map__reuse_fd(skeleton_->maps.cgroups, programs.cgroups_fd()) == 0 &&
      bpf_map__reuse_fd(skeleton_->maps.untracked, programs.untracked_fd()) == 0 &&
      bpf_map__reuse_fd(skeleton_->maps.identities, programs.identities_fd()) == 0 && hold_bpf::load(skeleton_) == 0) {
    // Known before the first program runs: our own end, too, ends the holding.
    const std::uint32_t zero = 0;
    const janus_guardians nobody_yet{.keeper_task = 0, .keeper = 0, .daemon = static_cast<std::uint32_t>(getpid()), .enabled = 0, .pad = 0, .answered_ns = 0};
    bpf_map_update_elem(bpf_map__fd(skeleton_->maps.guardians), &zero, &nobody_yet, BPF_ANY);
    if (hold_bpf::attach(skeleton_) == 0) {
      tier_ = tier;
      attachments_.add(*skeleton_->skeleton);
      return true;
    }
  }
  const int number = errno;
  hold_bpf::destroy(std::exchange(skeleton_, nullptr));
  errno = number;
  return false;
}

KeptHolding Holder::kept() const {
  if (skeleton_ == nullptr || holds_opens()) return {};
  return {.become = bpf_program__fd(skeleton_->progs.become_keeper),
          .held = bpf_map__fd(skeleton_->maps.held),
          .ring = bpf_map__fd(skeleton_->maps.to_keeper),
          .counters = bpf_map__fd(skeleton_->maps.hold_counters),
          .expired = bpf_map__fd(skeleton_->maps.expired)};
}

Holder::Shared Holder::shared() const {
  if (skeleton_ == nullptr) return {};
  return {.held = bpf_map__fd(skeleton_->maps.held),
          .to_keeper = bpf_map__fd(skeleton_->maps.to_keeper),
          .guardians = bpf_map__fd(skeleton_->maps.guardians),
          .counters = bpf_map__fd(skeleton_->maps.hold_counters)};
}

int Holder::fd() const { return ring_ == nullptr ? -1 : ring_buffer__epoll_fd(ring_); }

void Holder::watch(const std::map<std::uint64_t, std::uint32_t>& containers) {
  if (skeleton_ == nullptr) return;
  const std::lock_guard lock(watched_mutex_);
  const int map = bpf_map__fd(skeleton_->maps.watched);
  for (const auto& [container, flags] : containers) {
    const auto had = watched_.find(container);
    if (had == watched_.end()) {
      const janus_hold_share none{};
      const std::uint64_t served = 0;
      bpf_map_update_elem(bpf_map__fd(skeleton_->maps.served), &container, &served, BPF_ANY);
      bpf_map_update_elem(bpf_map__fd(skeleton_->maps.shares), &container, &none, BPF_ANY);
    }
    if (had == watched_.end() || had->second != flags) bpf_map_update_elem(map, &container, &flags, BPF_ANY);
  }
  for (const auto& [container, flags] : watched_)
    if (!containers.contains(container)) {
      for (const bpf_map* of : {skeleton_->maps.watched, skeleton_->maps.shares, skeleton_->maps.served, skeleton_->maps.expired})
        bpf_map_delete_elem(bpf_map__fd(of), &container);
    }
  watched_ = containers;
  // What no guard was on may have one now.
  const int spared = bpf_map__fd(skeleton_->maps.unguarded_devices);
  for (std::uint32_t device = 0; bpf_map_get_next_key(spared, nullptr, &device) == 0;) bpf_map_delete_elem(spared, &device);
}

void Holder::know(std::uint64_t mnt_ns, std::optional<std::uint64_t> event) {
  if (skeleton_ == nullptr) return;
  const std::uint64_t state = event.value_or(0);  // what a new namespace has that nobody has changed
  bpf_map_update_elem(bpf_map__fd(skeleton_->maps.namespaces), &mnt_ns, &state, event ? BPF_ANY : BPF_NOEXIST);
}

void Holder::spare(std::uint32_t device) {
  const std::uint8_t yes = 1;
  bpf_map_update_elem(bpf_map__fd(skeleton_->maps.unguarded_devices), &device, &yes, BPF_ANY);
}

void Holder::let_through(std::uint32_t pid) {
  const int map = bpf_map__fd(skeleton_->maps.waits);
  janus_waiting open{};
  if (bpf_map_lookup_elem(map, &pid, &open) != 0) return;
  open.since_ns = 0;
  bpf_map_update_elem(map, &pid, &open, BPF_EXIST);
}

bool Holder::holds(std::uint32_t tgid) const {
  janus_held held{};
  return skeleton_ != nullptr && bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.held), &tgid, &held) == 0;
}

// One container after the other, and all of one at once: however many of it are held, another waits
// for it once.
void Holder::serve(const std::function<void(const Held&)>& mark) {
  told_.clear();
  ring_buffer__consume(ring_);
  std::vector<Held> all;
  for (const janus_hold& hold : told_) {
    auto of = std::ranges::find(all, hold.held.container, &Held::container);
    if (of == all.end()) of = all.insert(all.end(), Held{.container = hold.held.container, .holds = {}, .left_out = 0});
    of->holds.push_back(hold);
  }
  const int shares = bpf_map__fd(skeleton_->maps.shares), served = bpf_map__fd(skeleton_->maps.served);
  for (Held& held : all) {
    janus_hold_share share{};
    if (bpf_map_lookup_elem(shares, &held.container, &share) == 0)
      held.left_out = share.left_out - std::exchange(left_out_[held.container], share.left_out);
    else left_out_.erase(held.container);
    mark(held);
    for (const janus_hold& hold : held.holds)
      if (hold.held.since_ns != 0) release(hold.tgid, hold.held);
    std::uint64_t so_far = 0;
    if (bpf_map_lookup_elem(served, &held.container, &so_far) != 0) continue;
    so_far += held.holds.size();
    bpf_map_update_elem(served, &held.container, &so_far, BPF_EXIST);
  }
}

void Holder::answering() {
  if (skeleton_ != nullptr) holding_->answering();
}

void Holder::release(std::uint32_t tgid, const janus_held& held) const {
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, tgid, 0)));
  // Off the list first: held again at once, it would come off that hold's.
  strike(bpf_map__fd(skeleton_->maps.held), tgid, held);
  if (process) continue_process(process.get(), tgid);
}

std::vector<MapUse> Holder::maps() const {
  if (skeleton_ == nullptr) return {};
  std::vector<MapUse> maps = maps_of(skeleton_->obj);
  constexpr std::array<std::string_view, 5> kShared = {"tasks", "task_bits", "cgroups", "untracked", "identities"};
  std::erase_if(maps, [&](const MapUse& map) { return std::ranges::find(kShared, map.name) != kShared.end(); });
  return maps;
}

std::uint64_t Holder::counter(janus_hold_counter which) const {
  if (skeleton_ == nullptr) return 0;
  const std::uint32_t key = which;
  std::uint64_t value = 0;
  bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.hold_counters), &key, &value);
  return value;
}

}  // namespace janus
