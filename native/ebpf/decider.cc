#include "ebpf/decider.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "bpf/build/decide.skel.h"
#include "ebpf/change_hooks.h"
#include "ebpf/kept.h"
#include "ebpf/libbpf_log.h"
#include "ebpf/preemption.h"
#include "ebpf/probe.h"
#include "os/clock.h"
#include "os/error.h"

namespace janus {

Decider::Decider(const BpfPrograms& programs, Mode mode, const Self& self) {
  if (mode == Mode::off) changes_refusal_ = "the daemon runs with --kernel-decides=false";
  else if (!probe_kernel().fentry.works()) changes_refusal_ = "it takes no fmod_ret programs (janusctl doctor: fentry)";
  if (mode == Mode::off || (mode == Mode::on && !changes_refusal_.empty())) return;
  listen_to_libbpf();
  const ChangeHooks hooks = mode == Mode::on ? find_change_hooks() : ChangeHooks{};
  changes_refusal_ = hooks.refusal;
  refusal_ = load(programs, mode, self, hooks);
  // What denies changes must not take the rest along.
  if (!refusal_.empty() && changes_refusal_.empty()) {
    changes_refusal_ = std::exchange(refusal_, {});
    refusal_ = load(programs, mode, self, hooks);
  }
  if (skeleton_ == nullptr) return;
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.denials), &Decider::on_denial, this, nullptr);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  if (ring_ == nullptr || bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.attend), &options) != 0) {
    const int number = errno;
    close();
    throw Error::system(number, "ring_buffer__new", "map denials");
  }
  const auto open = [](auto& map, const bpf_map* opened) { map.open(bpf_map__fd(opened), bpf_map__max_entries(opened)); };
  open(rules_.inodes, skeleton_->maps.rules);
  open(rules_.directories, skeleton_->maps.directories);
  open(rules_.names, skeleton_->maps.names);
  open(rules_.guarded, skeleton_->maps.guarded);
  rules_.filters.open(skeleton_->bss->filters, skeleton_->bss->guarded_devices);
  open(rules_.changes, skeleton_->maps.change_rules);
  open(rules_.changes_at, skeleton_->maps.change_paths);
  open(rules_.changes_anywhere, skeleton_->maps.change_places);
  attachments_.add(*skeleton_->skeleton);
  may_miss_ = mode == Mode::on && interrupts_programs(probe_kernel().version, preemption());
  beat(0);
}

std::string Decider::load(const BpfPrograms& programs, Mode mode, const Self& self, const ChangeHooks& hooks) {
  skeleton_ = decide_bpf::open();
  if (skeleton_ == nullptr) throw refused_by_libbpf("open the programs", "bpf/decide.bpf.o");
  // An inode of an overlay may be known by two.
  bpf_map__set_max_entries(skeleton_->maps.rules, 2 * programs.sizes().identities);
  bpf_map__set_max_entries(skeleton_->maps.change_rules, 2 * programs.sizes().identities);
  bpf_map__set_max_entries(skeleton_->maps.directories, programs.sizes().identities);
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.denies = self.away_denies;
  self.version.copy(presence.version, sizeof(presence.version));
  for (bpf_program* hook : {skeleton_->progs.decide_open, skeleton_->progs.daemon_exit})
    bpf_program__set_autoload(hook, mode == Mode::on);
  for (const ChangeHook& hook : kChangeHooks) bpf_program__set_autoload(skeleton_->progs.*hook.program, false);
  if (changes_refusal_.empty())
    for (const ChangeHook* hook : hooks.present) bpf_program__set_autoload(skeleton_->progs.*hook->program, true);
  if (bpf_map__reuse_fd(skeleton_->maps.tasks, programs.tasks_fd()) != 0 ||
      bpf_map__reuse_fd(skeleton_->maps.task_bits, programs.task_bits_fd()) != 0 ||
      bpf_map__reuse_fd(skeleton_->maps.cgroups, programs.cgroups_fd()) != 0 ||
      bpf_map__reuse_fd(skeleton_->maps.untracked, programs.untracked_fd()) != 0 || decide_bpf::load(skeleton_) != 0 ||
      decide_bpf::attach(skeleton_) != 0) {
    const std::string refused = refused_by_libbpf("decide in the kernel", "bpf/decide.bpf.o").what();
    close();
    return refused;
  }
  return {};
}

int Decider::preemption() const {
  janus_preemption_args args = {.mode = -1};
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.preemption), &options);
  return args.mode;
}

Decider::~Decider() { close(); }

void Decider::close() {
  ring_buffer__free(std::exchange(ring_, nullptr));
  decide_bpf::destroy(std::exchange(skeleton_, nullptr));
}

std::vector<std::pair<std::string, int>> Decider::kept() const {
  if (skeleton_ == nullptr) return {};
  std::vector<std::pair<std::string, int>> kept = {{Kept::kPresence, bpf_map__fd(skeleton_->maps.data_presence)},
                                                   {Kept::kCounts, bpf_map__fd(skeleton_->maps.away_counts)}};
  const auto keep = [&](const char* name, const bpf_link* link) {
    if (link != nullptr) kept.emplace_back(name, bpf_link__fd(link));
  };
  keep("decide_open", skeleton_->links.decide_open);
  for (const ChangeHook& hook : kChangeHooks) keep(hook.name, skeleton_->links.*hook.link);
  return kept;
}

void Decider::settle() {
  if (skeleton_ != nullptr) skeleton_->data_presence->presence.settled = 1;
}

void Decider::beat(std::uint64_t generation) {
  if (skeleton_ == nullptr) return;
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.generation = generation;
  presence.beat_ns = boot_ns();
}

void Decider::lose_heir() {
  if (skeleton_ != nullptr) skeleton_->data_presence->presence.heir = 0;
}

void Decider::leave() {
  if (skeleton_ == nullptr) return;
  janus_presence& presence = skeleton_->data_presence->presence;
  presence.left_ns = boot_ns();
  presence.away = 1;
}

std::vector<janus_rule_key> Decider::keys_of(int fd) const {
  if (skeleton_ == nullptr) return {};
  janus_real_inodes_args args = {.fd = fd, .count = 0, .keys = {}};
  // The program writes its answer into the context.
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &args, .ctx_size_in = sizeof(args));
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.real_inodes), &options) != 0) return {};
  return {args.keys, args.keys + std::min<std::size_t>(args.count, std::size(args.keys))};
}

void Decider::expect_changes() {
  if (skeleton_ != nullptr) skeleton_->bss->changes_denied = 1;
}

int Decider::fd() const { return ring_ == nullptr ? -1 : ring_buffer__epoll_fd(ring_); }

int Decider::on_denial(void* context, void* data, std::size_t size) {
  auto& self = *static_cast<Decider*>(context);
  if (const auto denial = denial_of(data, size)) {
    (*self.visit_)(*denial);
    ++self.visited_;
  }
  return 0;
}

std::size_t Decider::consume(const std::function<void(const KernelDenial&)>& visit) {
  if (ring_ == nullptr) return 0;
  visit_ = &visit;
  visited_ = 0;
  ring_buffer__consume(ring_);
  return visited_;
}

std::uint64_t Decider::lost_total() const { return skeleton_ == nullptr ? 0 : skeleton_->bss->lost_total; }

std::vector<Decider::Lost> Decider::lost() const {
  std::vector<Lost> all;
  if (skeleton_ == nullptr) return all;
  const int map = bpf_map__fd(skeleton_->maps.lost);
  janus_lost_key last{}, key{};
  for (const janus_lost_key* at = nullptr; bpf_map_get_next_key(map, at, &key) == 0; at = &last) {
    last = key;
    std::uint64_t count = 0;
    if (bpf_map_lookup_elem(map, &key, &count) == 0) all.push_back({key.subject, key.kind, count});
  }
  return all;
}

std::map<std::string, std::uint64_t> Decider::full() const {
  if (skeleton_ == nullptr) return {};
  return {{"rules", rules_.inodes.full()},
          {"directories", rules_.directories.full()},
          {"names", rules_.names.full()},
          {"guarded", rules_.guarded.full()},
          {"change_rules", rules_.changes.full()},
          {"change_paths", rules_.changes_at.full()},
          {"change_places", rules_.changes_anywhere.full()}};
}

bool Decider::has_room() const {
  return std::ranges::all_of(full(), [](const auto& map) { return map.second == 0; });
}

std::vector<MapUse> Decider::maps() const {
  if (skeleton_ == nullptr) return {};
  const auto known = full();
  std::vector<MapUse> maps = maps_of(skeleton_->obj);
  constexpr std::array<std::string_view, 4> kShared = {"tasks", "task_bits", "cgroups", "untracked"};
  std::erase_if(maps, [&](const MapUse& map) { return std::ranges::find(kShared, map.name) != kShared.end(); });
  for (MapUse& map : maps)
    if (const auto it = known.find(map.name); it != known.end()) map.full = it->second;
  return maps;
}

}  // namespace janus
