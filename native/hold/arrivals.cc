#include "hold/arrivals.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "bpf/build/arrivals.skel.h"
#include "ebpf/libbpf_log.h"
#include "hold/held.h"
#include "os/clock.h"
#include "os/error.h"
#include "track/pod_path.h"

namespace janus {
namespace {

// That are told of and not admitted: as many as the kernel keeps.
constexpr std::size_t kPending = 4096;

}  // namespace

void Arrivals::hold(bool on) {
  const std::lock_guard lock(mutex_);
  if (on == (skeleton_ != nullptr)) return;
  if (!on) return close();
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
}

bool Arrivals::is_on() const {
  const std::lock_guard lock(mutex_);
  return skeleton_ != nullptr;
}

void Arrivals::open() {
  listen_to_libbpf();
  skeleton_ = arrivals_bpf::open();
  if (skeleton_ == nullptr) throw refused_by_libbpf("open the programs", "bpf/arrivals.bpf.o");
  const Holder::Shared shared = holder_.shared();
  const bool opens = holder_.holds_opens(), off = shared.held < 0;
  bpf_program__set_autoload(skeleton_->progs.hold_arrival, opens);
  bpf_program__set_autoload(skeleton_->progs.stop_arrival, !opens && !off);
  bpf_program__set_autoload(skeleton_->progs.see_arrival, off);
  if (off) {
    for (bpf_map* map : {skeleton_->maps.held, skeleton_->maps.to_keeper, skeleton_->maps.guardians}) bpf_map__set_autocreate(map, false);
  } else {
    const std::pair<bpf_map*, int> maps[] = {{skeleton_->maps.held, shared.held},
                                             {skeleton_->maps.to_keeper, shared.to_keeper},
                                             {skeleton_->maps.guardians, shared.guardians},
                                             {skeleton_->maps.hold_counters, shared.counters}};
    for (const auto& [map, fd] : maps)
      if (bpf_map__reuse_fd(map, fd) != 0) throw Error::system(errno, "bpf_map__reuse_fd", bpf_map__name(map));
    skeleton_->rodata->wait_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(wait_).count());
  }
  if (arrivals_bpf::load(skeleton_) != 0) throw refused_by_libbpf("load the programs", "bpf/arrivals.bpf.o");
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.arrived), &Arrivals::on_arrival, this, nullptr);
  if (ring_ == nullptr) throw Error::system(errno, "ring_buffer__new", "map arrived");
  skeleton_->bss->heard_ns = monotonic_ns();
  if (arrivals_bpf::attach(skeleton_) != 0) throw refused_by_libbpf("attach the programs", "bpf/arrivals.bpf.o");
  attachments_ = {};
  attachments_.add(*skeleton_->skeleton);
}

void Arrivals::close() {
  if (skeleton_ == nullptr) return;
  arrivals_bpf::detach(skeleton_);  // nobody is held from here; who goes round goes on
  const Holder::Shared shared = holder_.shared();
  if (shared.held >= 0) continue_arrivals(shared.held, 0);
  untold_ += own_untold();
  ring_buffer__free(std::exchange(ring_, nullptr));
  arrivals_bpf::destroy(std::exchange(skeleton_, nullptr));
  pending_.clear();
  fresh_.clear();
}

int Arrivals::fd() const {
  const std::lock_guard lock(mutex_);
  return ring_ == nullptr ? -1 : ring_buffer__epoll_fd(ring_);
}

int Arrivals::on_arrival(void* context, void* data, std::size_t) {
  static_cast<Arrivals*>(context)->arrived(*static_cast<const janus_arrival*>(data));
  return 0;
}

bool Arrivals::collect() {
  const std::lock_guard lock(mutex_);
  if (ring_ == nullptr) return false;
  ring_buffer__consume(ring_);
  return !fresh_.empty();
}

void Arrivals::arrived(const janus_arrival& told) {
  const Pending pending{.since_ns = told.since_ns, .held = told.held != 0};
  auto of = pod_container_of(std::string_view(told.path, strnlen(told.path, sizeof(told.path))));
  if (!of) {
    let_go(told.container, pending);  // it only looks like a pod's
    return;
  }
  if (!pending.held) ++stats_.unheld;
  // Whoever takes them is far behind, and the kernel has let the oldest go.
  if (pending_.size() >= kPending) pending_.erase(pending_.begin());
  pending_.insert_or_assign(told.container, pending);
  fresh_.push_back({.container = told.container,
                    .container_id = std::move(of->id),
                    .pod_uid = std::move(of->pod_uid),
                    .cgroup_path = std::move(of->path),
                    .pid = told.tgid,
                    .since_ns = told.since_ns,
                    .held = pending.held});
}

std::vector<Arrival> Arrivals::take() {
  const std::lock_guard lock(mutex_);
  if (skeleton_ != nullptr) skeleton_->bss->heard_ns = monotonic_ns();
  return std::exchange(fresh_, {});
}

// `gone`: it wasn't held, has ended, or its time was up. `ran`: somebody else has continued it before.
Arrivals::LetGo Arrivals::let_go(std::uint64_t container, const Pending& pending) {
  if (skeleton_ == nullptr) return LetGo::gone;
  const bool there = bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.arrivals), &container) == 0;
  if (!pending.held) return LetGo::gone;
  if (holder_.holds_opens()) return there ? LetGo::waited : LetGo::gone;
  const ContinuedArrivals continued = continue_arrivals(holder_.shared().held, container);
  if (continued.listed == 0) return LetGo::gone;
  return continued.ran ? LetGo::ran : LetGo::waited;
}

bool Arrivals::admit(std::uint64_t container, bool guarded) {
  const std::lock_guard lock(mutex_);
  const auto it = pending_.find(container);
  if (it == pending_.end()) return false;
  const Pending pending = it->second;
  pending_.erase(it);
  skeleton_->bss->heard_ns = monotonic_ns();
  const LetGo how = let_go(container, pending);
  if (how == LetGo::ran) ++stats_.unheld;
  if (how != LetGo::waited) {
    if (guarded && (how == LetGo::ran || !pending.held)) ++stats_.unknown;
    return false;
  }
  const std::uint64_t waited = monotonic_ns() - pending.since_ns;
  ++stats_.waited[blocked_bucket(waited)];
  stats_.waited_ns += waited;
  ++stats_.admitted;
  return true;
}

// By counters that are not the holder's: it has none where it is off.
std::uint64_t Arrivals::own_untold() const {
  if (skeleton_ == nullptr || holder_.shared().counters >= 0) return 0;
  const std::uint32_t which = JANUS_HOLD_COUNT_UNTOLD;
  std::uint64_t value = 0;
  bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.hold_counters), &which, &value);
  return value;
}

Arrivals::Stats Arrivals::stats() const {
  const std::lock_guard lock(mutex_);
  Stats stats = stats_;
  const std::uint64_t untold = holder_.counter(JANUS_HOLD_COUNT_UNTOLD) + untold_ + own_untold();
  stats.expired = holder_.counter(JANUS_HOLD_COUNT_UNKNOWN);
  stats.unheld += untold;
  stats.unknown += stats.expired + untold;
  return stats;
}

std::vector<MapUse> Arrivals::maps() const {
  const std::lock_guard lock(mutex_);
  if (skeleton_ == nullptr) return {};
  std::vector<MapUse> maps = maps_of(skeleton_->obj);
  std::erase_if(maps, [](const MapUse& map) { return map.name != "arrivals" && map.name != "arrived"; });
  return maps;
}

std::vector<std::string> Arrivals::attached() const {
  const std::lock_guard lock(mutex_);
  return skeleton_ == nullptr ? std::vector<std::string>() : attachments_.present();
}

}  // namespace janus
